"""From settings to experiments: names become targets, and no variant may be one that a private request could leave by.

At run time private requests take part in no experiment that sends to clouds, and the guard stands behind that. What is
refused here is an experiment that could then have nobody in it, and one whose own words would keep its requests here.
"""

import difflib
from collections.abc import Iterator

from cluster.experiments_settings import ExperimentSettings, VariantSettings
from cluster.routing import Names
from cluster.settings import Settings
from replicas.errors import SettingsError
from router.experiments.experiment import Experiment, Variant
from router.journal.archive import Retention
from router.policy.check import PRIVATE
from router.policy.condition import beyond
from router.policy.rule import Routing, Rule
from router.privacy.guard import Guard


def experiments_of(settings: Settings, routing: Routing) -> tuple[Experiment, ...]:
    """The experiments of `settings`, whose routing is `routing`. Raises SettingsError that names all that is wrong."""
    names = Names(routing.candidates, settings.routing.chains)
    made = tuple(_experiment(written, names) for written in settings.experiments)
    problems = [*_twice([one.name for one in made], "experiments")]
    problems += [problem for one in made for problem in _problems(one, routing)]
    if problems:
        raise SettingsError("\n".join(problems))
    return made


def retention_of(settings: Settings) -> Retention | None:
    """How much of the journal is kept; None: it is off."""
    written, experiments = settings.journal, tuple(one.name for one in settings.experiments)
    if not written.enabled:
        return None
    return Retention(written.keep_days, written.keep_rows, experiments, written.keep_experiment_days)


def _experiment(written: ExperimentSettings, names: Names) -> Experiment:
    variants = tuple(_variant(one, names) for one in written.variants)
    return Experiment(written.name, variants, written.share, written.rule)


def _variant(written: VariantSettings, names: Names) -> Variant:
    if written.to is None:
        return Variant(written.name, written.weight, system=written.system or "")
    to, policy = names.target(written.to)
    return Variant(written.name, written.weight, Rule(written.name, to=to, policy=policy), written.system or "")


def _problems(one: Experiment, routing: Routing) -> Iterator[str]:
    where = f"experiments: {one.name!r}"
    yield from _twice([variant.name for variant in one.variants], where)
    known = [candidate.name for candidate in routing.candidates]
    for variant in one.variants:
        unknown = [name for name in (variant.sends.to if variant.sends else ()) if name not in known]
        if unknown:
            yield f"{where}: {variant.name!r} sends to {unknown[0]!r}, which is not there{_nearest(unknown[0], known)}"
    yield from _subjects(one, routing, where)
    yield from _secrets(one, routing, where)


def _subjects(one: Experiment, routing: Routing, where: str) -> Iterator[str]:
    """Somebody has to be able to take part."""
    if one.rule is None:
        return
    rule = next((rule for rule in routing.rules if rule.name == one.rule), None)
    if rule is None:
        rules = [rule.name for rule in routing.rules]
        yield f"{where}: there is no rule {one.rule!r}{_nearest(one.rule, rules)}"
        return
    clouds = one.clouds(routing)
    if clouds and (rule.marks_private or not beyond(rule.when.boxes, [PRIVATE])):
        yield (
            f"{where} sends to the cloud {clouds[0]}, and all requests of the rule {rule.name!r} are private: none of "
            "them may go there; choose another rule, or variants that are `local-only`"
        )


def _secrets(one: Experiment, routing: Routing, where: str) -> Iterator[str]:
    """A system prompt goes wherever its request goes."""
    if all(candidate.is_local for candidate in routing.candidates):
        return
    guard = Guard(routing.detectors, routing.harmless)
    for variant in [variant for variant in one.variants if variant.system]:
        if found := guard.findings([variant.system]):
            yield (
                f"{where}: the system prompt of {variant.name!r} holds what is private ({', '.join(found)}): no "
                "request with it could go to a cloud; take it out"
            )


def _twice(names: list[str], where: str) -> Iterator[str]:
    yield from (f"{where}: two are called {name!r}" for name in sorted({n for n in names if names.count(n) > 1}))


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(known) or 'none'}"
