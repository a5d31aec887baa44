"""The ready-made policies: how each ranks all candidates, and why.

None of them lets a private request out: clouds are taken away before (router/policy/decide.py). A candidate that cannot
see the request's images, or whose context is too small by the estimate, goes behind all others that can; it is not
dropped, because the estimate may be wrong and a text model still answers what is said round an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.policy.candidate import Candidate
from router.policy.rule import ReadyName
from router.policy.speed import Speeds


@dataclass(frozen=True, slots=True)
class Need:
    """What an answer takes: tokens, estimated and at most, and eyes."""

    tokens_in: int
    tokens_out: int
    has_image: bool = False

    def lacks(self, candidate: Candidate) -> str:
        """What `candidate` probably cannot do; empty: nothing."""
        limit = candidate.context_tokens
        if self.has_image and not candidate.sees_images:
            return "it cannot see images"
        if limit is not None and self.tokens_in > limit:
            return f"about {self.tokens_in} tokens do not fit into {limit}"
        return ""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate, what it is sorted by (less is better), and that in words."""

    candidate: Candidate
    key: float
    why: str


def ranked(policy: ReadyName, candidates: Sequence[Candidate], need: Need, speeds: Speeds) -> list[Ranked]:
    """`candidates`, best first; equals keep their order. `local-only` leaves out clouds."""
    rank = _RANKS[policy]
    found = [rank(one, need, speeds) for one in candidates if one.is_local or policy != "local-only"]
    found.sort(key=lambda one: (bool(need.lacks(one.candidate)), one.key))
    lacking = ((one, need.lacks(one.candidate)) for one in found)
    return [Ranked(one.candidate, one.key, f"{one.why}; {lack}" if lack else one.why) for one, lack in lacking]


def _local_first(one: Candidate, _: Need, __: Speeds) -> Ranked:
    return Ranked(one, not one.is_local, "local" if one.is_local else "a cloud, after the local models")


def _cloud_first(one: Candidate, _: Need, __: Speeds) -> Ranked:
    return Ranked(one, one.is_local, "local, after the clouds" if one.is_local else "a cloud")


def _by_cost(one: Candidate, need: Need, _: Speeds) -> Ranked:
    cost_usd = one.cost_usd(need.tokens_in, need.tokens_out)
    known = f"${cost_usd:.6f} at most" if cost_usd < float("inf") else "its price is not known"
    return Ranked(one, cost_usd, "local: $0" if one.is_local else known)


def _by_time(one: Candidate, need: Need, speeds: Speeds) -> Ranked:
    time_s = speeds.time_s(one, need.tokens_out)
    if time_s is None:
        return Ranked(one, -1.0, "its speed is not known yet")
    return Ranked(one, time_s, f"{time_s:.2f} s for {need.tokens_out} tokens")


_RANKS: dict[ReadyName, Callable[[Candidate, Need, Speeds], Ranked]] = {
    "local-only": _local_first,
    "prefer-local": _local_first,
    "prefer-cloud": _cloud_first,
    "cheapest": _by_cost,
    "fastest": _by_time,
}
