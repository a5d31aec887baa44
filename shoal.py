"""Shoal from Python: connect to a running service and submit swarms."""
