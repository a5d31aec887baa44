"""Runs of the model: the graph as the engine wants it, forward passes, adapters, and the choice of tokens."""
