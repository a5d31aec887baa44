"""KV memory: the rows of the slab, what is kept of prompts for the next ones, sessions as files."""
