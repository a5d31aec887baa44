"""Swarms: a job is data (agents, what they run over, limits); a conductor journals it and fans it out in shards."""
