"""One agent instance's call, made from the specification and the index alone.

Nothing that differs between runs (job id, attempt, shard) reaches messages or sampling, which is why a job replays to
the same bytes. A seeded swarm gives every instance its own seed, by a hash that is the same in every process.
"""

import hashlib
from dataclasses import dataclass

from cluster.swarm.spec import SwarmSpec
from cluster.swarm.template import fill
from replicas.engine import Message, Sampling


@dataclass(frozen=True, slots=True)
class Assignment:
    """What agent instance `index` asks for."""

    index: int
    model: str | None
    messages: tuple[Message, ...]
    sampling: Sampling
    role: str = ""


def assignment(spec: SwarmSpec, index: int) -> Assignment:
    """The call of agent instance `index` = item * len(agents) + agent."""
    item, number = divmod(index, len(spec.agents))
    agent = spec.agents[number]
    values = spec.values(item)
    system = (Message("system", fill(agent.system, values)),) if agent.system else ()
    return Assignment(
        index=index,
        model=agent.model or spec.model,
        messages=(*system, Message("user", fill(agent.prompt, values))),
        sampling=Sampling(
            max_tokens=agent.max_tokens or spec.max_tokens,
            temperature=spec.temperature,
            stop=tuple(spec.stop),
            seed=None if spec.seed is None else instance_seed(spec.seed, index),
        ),
        role=agent.role,
    )


def instance_seed(seed: int, index: int) -> int:
    """31 bits of SHA-256 over both numbers: stable across processes and releases, unlike hash()."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
