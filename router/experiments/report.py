"""What an experiment has shown so far: each variant on its own, and against the control.

Intervals are for one look. The p-values hold at every look: an experiment may be ended as soon as one is small enough.
They rest on the first value of each unit, in the order in which those became known, and are multiplied by the number
of comparisons with the control, of which each other variant has one for each measure. They hold for an experiment that
is read from its beginning: without the rows that came first it is another test. Scores that callers change later change
means, and no p-value.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from router.budget.money import usd_of
from router.estimate import Estimate
from router.experiments.intervals import difference, quantile, wilson
from router.experiments.observed import Measure, Observed
from router.experiments.sequential import Arm, SequentialTest
from router.journal.entry import JournalEntry


@dataclass(frozen=True, slots=True)
class VariantReport:
    """Of one variant. `score` and `success` are None where there is nothing to say; `units` are those with decisions
    that ended. The cost is of all tries, also of those in vain, for each answer."""

    name: str
    decisions: int
    answers: int
    units: int
    scored_units: int
    success: Estimate | None
    score: Estimate | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    cost_per_answer_usd: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much more of `measure` (success or score) `variant` has than the control, and whether that is chance."""

    variant: str
    measure: str
    difference: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class Report:
    """Of one experiment; the first of `variants` is the control. Intervals are of the confidence `level`."""

    experiment: str
    level: float
    variants: tuple[VariantReport, ...]
    comparisons: tuple[Comparison, ...]


def report(experiment: str, names: Sequence[str], entries: Iterable[JournalEntry], level: float = 0.95) -> Report:
    """What `entries` say of the variants `names` (the first is the control) of `experiment`."""
    observed = {name: Observed() for name in names}
    for entry in entries:
        if entry.experiment == experiment and entry.variant in observed:
            observed[entry.variant].add(entry)
    control, *others = names
    compared = [
        comparison
        for name in others
        for measure in observed[name].by_name
        if (comparison := _comparison(name, measure, observed, control, level)) is not None
    ]
    return Report(experiment, level, tuple(_alone(name, observed[name], level) for name in names), tuple(compared))


def _alone(name: str, seen: Observed, level: float) -> VariantReport:
    ordered = sorted(seen.latencies_s)
    return VariantReport(
        name=name,
        decisions=seen.decisions,
        answers=seen.answers,
        units=len(seen.success.means),
        scored_units=len(seen.score.means),
        success=_estimate(seen.success, level),
        score=_estimate(seen.score, level),
        latency_p50_s=quantile(ordered, 0.5) if ordered else None,
        latency_p95_s=quantile(ordered, 0.95) if ordered else None,
        cost_per_answer_usd=usd_of(seen.cost_nano) / seen.answers if seen.answers else None,
    )


def _estimate(measure: Measure, level: float) -> Estimate | None:
    mean = measure.mean
    return None if mean is None else wilson(mean, len(measure.means), level)


def _comparison(
    name: str, measure: str, observed: dict[str, Observed], control: str, level: float
) -> Comparison | None:
    theirs, ours = observed[control].by_name[measure], observed[name].by_name[measure]
    before, after = _estimate(theirs, level), _estimate(ours, level)
    if before is None or after is None:
        return None
    comparisons = (len(observed) - 1) * len(observed[name].by_name)
    p_value = min(1.0, p_value_of(theirs, ours) * comparisons)
    return Comparison(name, measure, difference(after, before), p_value)


def p_value_of(first: Measure, second: Measure) -> float:
    """The sequential test on the first values of all units, in the order in which they became known."""
    test = SequentialTest()
    arms: tuple[tuple[Arm, Measure], ...] = ((0, first), (1, second))
    known = sorted((one.at, unit, arm, one.value) for arm, measure in arms for unit, one in measure.firsts.items())
    for _, _, arm, value in known:
        test.add(arm, value)
    return test.p_value
