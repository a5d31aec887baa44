"""Who could answer: the local models and those of the clouds, as the policy sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.engine import Usage
from router.catalog import CLAUDE_PREFIX
from router.prices import Price


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model. `name` is a local model's own, or `CLOUD/MODEL`. None is what is not known."""

    name: str
    is_local: bool = True
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = None
    price: Price | None = None
    sees_images: bool = False
    ttft_s: float | None = None
    tokens_per_s: float | None = None

    def cost_usd(self, tokens_in: int, tokens_out: int) -> float:
        """The most that an answer costs here. A local one costs nothing; a cloud without a price, no one knows."""
        if self.is_local:
            return 0.0
        return float("inf") if self.price is None else self.price.cost_usd(Usage(tokens_in, tokens_out))

    def time_s(self, tokens_out: int) -> float | None:
        """How long an answer is said to take; None where nothing is said."""
        if self.tokens_per_s is None:
            return None
        return (self.ttft_s or 0.0) + tokens_out / self.tokens_per_s


def by_name(candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """Candidates by every name that they may be called; where two could be meant by a short one, it is the first."""
    found = {name: one for one in candidates for name in (one.name, *one.aliases)}
    for one in candidates:
        found.setdefault(CLAUDE_PREFIX + one.name if one.is_local else one.name.partition("/")[2], one)
    return found
