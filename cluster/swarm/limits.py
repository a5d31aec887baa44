"""The bounds of the conductor. Sizes per job are in spec.py."""

from dataclasses import dataclass, field

from cluster.swarm.patience import Patience


@dataclass(frozen=True, slots=True)
class Limits:
    """What the conductor holds at once. A worker process of a shard costs about 80 MB, hence few and large shards."""

    jobs_running: int = 4
    jobs_queued: int = 64
    jobs_kept: int = 500  # of those that are over, in the journal
    jobs_recent: int = 16  # of those that are over, in memory: their followers still read live events
    shards_per_job: int = 2
    calls_per_shard: int = 16  # in flight
    instances_per_shard: int = 256
    launches: int = 5  # of a shard that makes no progress
    relaunch_s: float = 0.2  # wait before the second launch; doubles
    ring_events: int = 4096
    readers: int = 512  # waiting for events or for a job's end
    wait_max_s: float = 30.0
    patience: Patience = field(default_factory=Patience)
