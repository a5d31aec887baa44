"""The engine against what else runs the same weights here: `python -m bench.engine`."""
