"""What the engines of a running instance say of themselves on /status, and the difference between two such readings.

Engines count since they started; the demo wants what happened between its first and its last token.
"""

from collections import Counter
from collections.abc import Mapping

import httpx
from pydantic import BaseModel, ValidationError

from cluster.connection import admitted
from cluster.environment import credentials
from cluster.options import starting
from replicas.errors import Unavailable

TIMEOUT_S = 10.0


class EngineState(BaseModel):
    """One replica's engine. `batch_sizes`: how many decode steps had so many rows."""

    engine: str
    provider: str
    slots: int
    batch_sizes: dict[int, int]


class Pool(BaseModel):
    """The replicas of one model."""

    model: str
    replicas: dict[str, EngineState]


class ServiceState(BaseModel):
    """As much of /status as is needed here."""

    default_model: str
    pools: list[Pool]

    def engines(self) -> Mapping[str, EngineState]:
        """The replicas of the default model."""
        pool = next((pool for pool in self.pools if pool.model == self.default_model), None)
        return pool.replicas if pool is not None else {}


def service_state(url: str) -> ServiceState:
    """Ask the instance at `url`. Raises Unavailable."""
    try:
        answer = httpx.get(f"{url}/status", timeout=TIMEOUT_S, trust_env=False, headers=credentials())
        admitted(answer).raise_for_status()
        return ServiceState.model_validate_json(answer.content)
    except (httpx.HTTPError, ValidationError) as error:
        raise Unavailable(f"a Shoal service at {url}", starting(httpx.URL(url).port)) from error


def batches_between(before: ServiceState, after: ServiceState) -> dict[int, int]:
    """Decode steps by number of rows, over all replicas of the default model; a replica that is new began at 0."""
    steps: Counter[int] = Counter()
    for name, state in after.engines().items():
        earlier = before.engines().get(name)
        steps.update(state.batch_sizes)
        steps.subtract(earlier.batch_sizes if earlier is not None else {})
    return {rows: count for rows, count in sorted(steps.items()) if count > 0}
