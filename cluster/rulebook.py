"""What the settings say of who answers, for how much: rules, clouds, budgets and experiments, checked as a whole.

`shoal up` makes its plan of it. `shoal config show` and `shoal route explain` make it too, so that whatever would stop
a start is told before one, in the same words.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cluster.experiments import experiments_of
from cluster.money_settings import baseline_of, budgets_of
from cluster.routing import routing_of
from cluster.routing_settings import CloudSettings
from cluster.settings import Settings
from replicas.cloud.endpoint import Endpoint
from replicas.errors import Unavailable
from router.budget import Budget, Payer
from router.budget.budget import claims_of
from router.experiments.experiment import Experiment
from router.policy.rule import Routing
from router.prices import Price


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All of it. `baseline` is what savings are counted against."""

    routing: Routing
    budgets: tuple[Budget, ...]
    baseline: Price | None
    experiments: tuple[Experiment, ...]

    def is_limited(self, payer: Payer) -> bool:
        """Whether a budget is for what `payer` asks today."""
        return bool(claims_of(self.budgets, payer, datetime.now(UTC).date()))


def rulebook_of(settings: Settings, contexts: Mapping[str, int] | None = None) -> Rulebook:
    """The rulebook; `contexts` are the contexts of local models, by name, as far as known. Raises SettingsError."""
    routing = routing_of(settings, contexts)
    return Rulebook(
        routing, budgets_of(settings.budgets), baseline_of(settings.costs), experiments_of(settings, routing)
    )


def endpoint_of(cloud: CloudSettings) -> Endpoint:
    """Where a cloud is."""
    return Endpoint(cloud.name, cloud.base_url, cloud.key_env)


def without_keys(settings: Settings, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Why models of clouds cannot be asked from here, by name: their keys are not in `environment`."""
    missing: dict[str, str] = {}
    for cloud in settings.clouds:
        try:
            endpoint_of(cloud).key(environment)
        except Unavailable as error:
            missing |= {f"{cloud.name}/{model.name}": str(error) for model in cloud.models}
    return missing
