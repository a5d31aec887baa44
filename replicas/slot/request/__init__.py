"""One request: what it asked for, how far it is, what is told of it."""
