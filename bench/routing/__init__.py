"""Learned routing against rules, chance and an oracle, on tasks whose answers are known."""
