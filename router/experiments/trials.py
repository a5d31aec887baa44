"""A request as its variant has it: decided as ever, then given a variant of the first experiment that it takes part in.

What decides stays what it was: a variant changes where requests go, not whose they are or what they may. A private
request takes part in no experiment that sends to clouds, and no variant makes it less private: the candidates of the
new route are barred by the same marks as those of the old one. Requests of jobs take part in none: the same job gives
the same answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from router.call import Call
from router.experiments.assignment import variant_of
from router.experiments.experiment import Experiment, Variant
from router.experiments.prompt import takes_system, with_system
from router.policy.decide import Policy
from router.policy.decision import Decision, Trial
from router.unit import unit_of


class Experiments:
    """Decides by `policy`, and by `experiments` in their order."""

    def __init__(self, experiments: Sequence[Experiment], policy: Policy) -> None:
        self._experiments = tuple(experiments)
        self._policy = policy
        self._to_clouds = {one.name for one in experiments if one.clouds(policy.routing)}

    def decide(self, call: Call, budget: str = "ok") -> tuple[Call, Decision]:
        """Who answers `call`, and the call as its variant has it. The odds of the decision are those over all draws."""
        found = self._policy.decide(call, budget)
        open_to = [one for one in self._experiments if self._is_subject(one, call, found)]
        if not open_to:
            return call, found
        routes = {(one.name, v.name): self._sent(found, call, v, budget) for one in open_to for v in one.variants}
        if any(one.changes_routes for one in open_to):
            found = replace(found, odds=_odds(open_to, routes, found), is_drawn_by_unit=True)
        unit = unit_of(call.session_id, call.origin.payer.key_id, call.id)
        for one in open_to:
            variant = variant_of(one, unit)
            if variant is not None:
                decision = replace(
                    routes[one.name, variant.name],
                    odds=found.odds,
                    is_drawn_by_unit=found.is_drawn_by_unit,
                    trial=Trial(one.name, variant.name),
                )
                return (with_system(call, variant.system) if variant.system else call), decision
        return call, found

    def _is_subject(self, one: Experiment, call: Call, found: Decision) -> bool:
        is_withheld = found.marking.is_private and one.name in self._to_clouds
        is_apt = takes_system(call) or not one.changes_prompts
        return one.is_for(found) and not is_withheld and is_apt and not call.origin.payer.job

    def _sent(self, found: Decision, call: Call, variant: Variant, budget: str) -> Decision:
        return found if variant.sends is None else self._policy.instead(found, call, variant.sends, budget)


def _odds(
    open_to: Sequence[Experiment], routes: Mapping[tuple[str, str], Decision], found: Decision
) -> Mapping[str, float]:
    """How likely each candidate was to be the first, before anything was drawn: who is left out of one experiment may
    be in the next."""
    odds = found.chances
    for one in reversed(open_to):
        mixed = {name: (1 - one.share) * chance for name, chance in odds.items()}
        total = sum(variant.weight for variant in one.variants)
        for variant in one.variants:
            for name, chance in routes[one.name, variant.name].chances.items():
                mixed[name] = mixed.get(name, 0.0) + one.share * variant.weight / total * chance
        odds = mixed
    return odds
