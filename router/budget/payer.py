"""Who pays for a request: a key, a job of a swarm, both, or neither."""

from dataclasses import dataclass

JOB = "x-shoal-job"


@dataclass(frozen=True, slots=True)
class Payer:
    """Empty: none."""

    key_id: str = ""
    key_name: str = ""
    job: str = ""


NOBODY = Payer()
