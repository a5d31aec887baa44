"""Clouds that answer beside local models. What goes to one is a `Releasable` (release.py), and nothing else."""
