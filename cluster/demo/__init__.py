"""The demo: one swarm over real files on one local model, watched live, with a report of what it did and cost."""
