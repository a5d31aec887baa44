"""KV that outlives its request: shared beginnings of prompts, and sessions as files."""

from replicas.slot.cache.prefixes import PrefixCache

__all__ = ["PrefixCache"]
