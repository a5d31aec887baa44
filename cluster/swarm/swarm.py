"""A swarm as Python writes it: frozen, keyword by keyword the body of POST /v1/swarms, plus files as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.swarm.source import File
from cluster.swarm.spec import SwarmSpec, parse_swarm
from replicas.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One agent: it runs once on every item. `{name}` in its texts stands for the item's value of over["name"]."""

    role: str
    prompt: str
    system: str | None = None
    model: str | None = None
    max_tokens: int | None = None

    def body(self) -> dict[str, object]:
        """Its part of the body; what is None is left out."""
        fields = {"system": self.system, "model": self.model, "max_tokens": self.max_tokens}
        return {"role": self.role, "prompt": self.prompt, **{key: v for key, v in fields.items() if v is not None}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """Agents over items. `over` maps placeholders to equally long lists; without it there is one item.

    At temperature 0, or with a seed, local models make the same bytes each time. `deadline_s` counts from submit.
    No call of a `private` one leaves for a cloud.
    """

    agents: Sequence[Agent]
    over: Mapping[str, Sequence[str | File]] | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    model: str | None = None
    name: str | None = None
    deadline_s: float = 3600.0
    private: bool = False

    def spec(self) -> SwarmSpec:
        """Read the files, check everything. Raises InvalidRequest that names the field."""
        body: dict[str, object] = {
            "agents": [agent.body() for agent in self.agents],
            "max_tokens": self.max_tokens,
            "temperature": float(self.temperature),
            "seed": self.seed,
            "stop": list(self.stop),
            "model": self.model,
            "name": self.name,
            "deadline_s": float(self.deadline_s),
            "private": self.private,
        }
        if self.over is not None:
            body["over"] = {key: _texts(key, values) for key, values in self.over.items()}
        return parse_swarm(body)


def _texts(key: str, values: Sequence[str | File]) -> list[str]:
    if isinstance(values, str | File):  # a string is a sequence too, of letters
        raise InvalidRequest(f"over.{key}: must be a list, one value per item", f"over.{key}")
    return [value.read() if isinstance(value, File) else value for value in values]
