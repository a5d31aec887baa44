"""Experiments as data: who takes part, and between what. Settings make them (cluster/experiments_settings.py)."""

from dataclasses import dataclass

from router.policy.decision import Decision
from router.policy.rule import Routing, Rule


@dataclass(frozen=True, slots=True)
class Variant:
    """What a request gets: the targets of `sends` instead of its own (the condition of that rule is not looked at),
    `system` before its system prompt; without either it is left as it is. `weight` is its share among the variants."""

    name: str
    weight: float = 1.0
    sends: Rule | None = None
    system: str = ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Between `variants`, of which the first is the control. The part `share` of all takes part whose requests the rule
    called `rule` decides; None: those that no rule takes and that leave the choice, which the policy decides."""

    name: str
    variants: tuple[Variant, ...]
    share: float = 1.0
    rule: str | None = None

    @property
    def changes_prompts(self) -> bool:
        """A variant has a system prompt of its own."""
        return any(variant.system for variant in self.variants)

    @property
    def changes_routes(self) -> bool:
        """A variant has targets of its own."""
        return any(variant.sends is not None for variant in self.variants)

    def is_for(self, decision: Decision) -> bool:
        """Requests that are decided so may take part."""
        return decision.by == "policy" if self.rule is None else decision.by == "rule" and decision.rule == self.rule

    def clouds(self, routing: Routing) -> tuple[str, ...]:
        """The clouds' models that variants send to, beside those that requests are sent to anyway."""
        found = {name: None for variant in self.variants for name in _targets(variant.sends, routing)}
        return tuple(one.name for one in routing.candidates if one.name in found and not one.is_local)


def _targets(sends: Rule | None, routing: Routing) -> tuple[str, ...]:
    if sends is None or sends.policy == "local-only":
        return ()
    return sends.to if sends.policy is None else tuple(one.name for one in routing.candidates)
