"""How an engine starts: on which provider, with how many threads, slots and bytes."""
