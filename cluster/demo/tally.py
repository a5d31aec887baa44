"""The figures of a finished run: tokens, time, batches, and what the same tokens would have cost on two clouds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cluster.demo.board import Agent
from cluster.swarm.job_view import total_usage
from replicas.engine import Usage
from router.prices import Price, price_list

# Two vendors, and models of the kind that one would have used for this work.
CLOUD_MODELS = ("claude-haiku-4-5", "gpt-5.4-mini")


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answered."""

    model: str
    engine: str
    provider: str
    slots: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run did. `batches`: how many decode steps had so many rows."""

    agents: int
    failed: int
    usage: Usage
    time_s: float
    batches: Mapping[int, int]
    answering: Answering

    @property
    def tokens_s(self) -> float:
        """Tokens generated per second, from submit to the last one."""
        return self.usage.generated / self.time_s if self.time_s > 0 else 0.0

    @property
    def batch_mean(self) -> float:
        """Rows of a decode step, in the mean."""
        steps = sum(self.batches.values())
        return sum(rows * count for rows, count in self.batches.items()) / steps if steps else 0.0

    @property
    def batch_max(self) -> int:
        """Rows of the largest decode step."""
        return max(self.batches, default=0)

    def costs_usd(self) -> list[tuple[Price, float]]:
        """What `usage` would have cost on each of CLOUD_MODELS, nothing cached."""
        everything = Usage(prompt=self.usage.prompt, generated=self.usage.generated)
        prices = [price_list().price(model) for model in CLOUD_MODELS]
        return [(price, price.cost_usd(everything)) for price in prices]

    def tree(self) -> dict[str, object]:
        """As JSON prints it."""
        return {
            "agents": self.agents,
            "failed": self.failed,
            "usage": asdict(self.usage),
            "time_s": round(self.time_s, 3),
            "tokens_per_s": round(self.tokens_s, 1),
            "batch_sizes": {str(rows): count for rows, count in self.batches.items()},
            "batch_mean": round(self.batch_mean, 2),
            "batch_max": self.batch_max,
            "answered_by": asdict(self.answering),
            "cloud_costs_usd": {price.id: round(usd, 6) for price, usd in self.costs_usd()},
            "prices_as_of": price_list().as_of.isoformat(),
        }


def tally(agents: list[Agent], time_s: float, batches: Mapping[int, int], answering: Answering) -> Tally:
    """The figures of `agents`."""
    return Tally(
        agents=len(agents),
        failed=sum(agent.state != "done" for agent in agents),
        usage=total_usage(agent.usage for agent in agents),
        time_s=time_s,
        batches=batches,
        answering=answering,
    )
