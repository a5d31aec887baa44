"""Which replica most likely holds the KV of a generation's beginning, and when to go elsewhere all the same.

Consistent hashing with bounded loads (arXiv:1608.01350): every caller ranks the replicas of a session, or of the first
tokens of a prompt, in the same way, without asking anyone; a replica that comes or goes moves only its own. A replica
that is clearly busier than the mean is passed over for the next one in the rank.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from replicas.engine import Generation

HEAD_TOKENS = 64
"""Shorter prompts, and what comes after so many tokens, have no say: to prefill that little costs less than to wait."""

LOAD_FACTOR = 1.25
SLACK = 4  # generations; a step with so many more rows takes hardly longer


def affinity_key(generation: Generation) -> str | None:
    """What generations with a common beginning share: the session, or else the prompt's first tokens."""
    if generation.session_id is not None:
        return session_key(generation.session_id)
    if len(generation.prompt) < HEAD_TOKENS:
        return None
    return f"prefix:{generation.adapter}:{generation.prompt[:HEAD_TOKENS]}"


def session_key(session_id: str) -> str:
    """The key of every generation in a session."""
    return f"session:{session_id}"


def ranked(key: str, replica_ids: Iterable[str]) -> list[str]:
    """The replicas, the one that `key` belongs to first (rendezvous hashing)."""
    return sorted(replica_ids, key=lambda replica_id: blake2b(f"{key}\0{replica_id}".encode()).digest())


def bounded(rank: Sequence[str], loads: Mapping[str, int]) -> list[str]:
    """`rank` with those that are clearly busier than the mean moved to the end, the least busy of them first."""
    mean = (sum(loads.get(replica_id, 0) for replica_id in rank) + 1) / max(1, len(rank))
    limit = math.ceil(LOAD_FACTOR * mean) + SLACK
    fine = [replica_id for replica_id in rank if loads.get(replica_id, 0) < limit]
    busy = [replica_id for replica_id in rank if loads.get(replica_id, 0) >= limit]
    return fine + sorted(busy, key=lambda replica_id: loads.get(replica_id, 0))
