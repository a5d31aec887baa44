"""Some requests are left to chance, so that a log of them can say what other policies would have done.

With probability `explore` one of two comes first, each as likely: the first local model of the route, or its first
cloud. Only the order of a route changes, never who is in it: what privacy, budgets and rules took out stays out. The
draw hangs on the seed and the request's id alone, and the decision says how likely each candidate was to be first.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from router.policy.decision import Decision, Verdict

BY_CHANCE = "by chance (routing.learned.explore)"


def explored(decision: Decision, share: float, seed: int, is_cloud: Callable[[str], bool]) -> Decision:
    """`decision` with its odds, and in the order of chance for `share` of the requests."""
    local = next((name for name in decision.names if not is_cloud(name)), None)
    cloud = next((name for name in decision.names if is_cloud(name)), None)
    if not share or local is None or cloud is None:
        return decision
    usual = decision.names[0]
    odds = dict.fromkeys(decision.names, 0.0)
    odds[usual] += 1 - share
    odds[local] += share / 2
    odds[cloud] += share / 2
    drawn = draw(seed, decision.marking.id)
    if drawn >= share:
        return replace(decision, odds=odds)
    first = local if drawn < share / 2 else cloud
    others = tuple(one for one in decision.route if one.name != first)
    return replace(decision, route=(Verdict(first, BY_CHANCE), *others), odds=odds)


def draw(seed: int, id_: str) -> float:
    """A number in [0, 1) that hangs on its arguments only."""
    digest = hashlib.blake2b(f"{seed}\x1f{id_}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)
