"""What the journal says of the local model's answers, and of the choice between it and a cloud.

The caller's score is what counts. Answers that a gate kept back are never scored, and were not good; of those that went
out only some are scored. So each that was kept back counts as much as the share of the others that is known: else the
gate's word would weigh the more, the fewer callers say something. Private requests have no traits in the journal, and
are no examples.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from router.budget.money import usd_of
from router.chain.failure import Reason
from router.journal.entry import BY_UNIT, Feature, JournalEntry
from router.learned.offpolicy import CLOUD, LOCAL, Logged
from router.learned.training import Example
from router.learned.traits import SCHEMA, TRAITS, Traits
from router.unit import unit_of


@dataclass(frozen=True, slots=True)
class Heard:
    """Of a journal: `entries` that say how good an answer was, by a score or by a gate, and how many `answers` each
    model gave in all, to requests that have traits."""

    entries: tuple[JournalEntry, ...]
    answers: Mapping[str, int]

    @classmethod
    def of(cls, entries: Iterable[JournalEntry]) -> "Heard":
        """Of what `entries` say."""
        kept, answers = [], Counter[str]()
        for entry in entries:
            if entry.result.answered_by and _has_traits(entry.features):
                answers[entry.result.answered_by] += 1
            if entry.feedback is not None or any(one.check for one in entry.result.tries):
                kept.append(entry)
        return cls(tuple(kept), answers)


def examples_of(heard: Heard, local: str) -> Iterator[Example]:
    """How good the answers of `local` were."""
    known = [(entry, traits) for entry in heard.entries if (traits := _traits(entry.features)) is not None]
    said = sum(entry.feedback is not None and entry.result.answered_by == local for entry, _ in known)
    for entry, traits in known:
        if entry.result.answered_by == local:
            if entry.feedback is not None:
                yield Example(traits, entry.feedback.score, unit=entry.session)
        elif said and any(one.name == local and one.reason == Reason.REJECTED.value for one in entry.result.tries):
            yield Example(traits, 0.0, said / heard.answers[local], entry.session)


def logged_of(entries: Iterable[JournalEntry], is_cloud: Callable[[str], bool]) -> Iterator[Logged]:
    """Those of `entries` that were scored, and where a local model and a cloud were both possible."""
    for entry in entries:
        traits = _traits(entry.features)
        names = [one.name for one in entry.options]
        if traits is None or entry.feedback is None or not any(map(is_cloud, names)) or all(map(is_cloud, names)):
            continue
        to_cloud = sum(one.propensity for one in entry.options if is_cloud(one.name))
        to_local = sum(one.propensity for one in entry.options if not is_cloud(one.name))
        chose = CLOUD if is_cloud(entry.chosen) else LOCAL
        cost_usd = usd_of(entry.result.cost_nano)
        yield Logged(traits, chose, (to_local, to_cloud), entry.feedback.score, cost_usd, _unit(entry))


def most_scored(entries: Iterable[JournalEntry], is_cloud: Callable[[str], bool]) -> str | None:
    """The local model whose answers were scored most often."""
    scored = Counter(
        entry.result.answered_by
        for entry in entries
        if entry.feedback is not None and entry.result.answered_by and not is_cloud(entry.result.answered_by)
    )
    return scored.most_common(1)[0][0] if scored else None


def _has_traits(features: Mapping[str, Feature]) -> bool:
    line = features.get(TRAITS)
    return isinstance(line, str) and line.startswith(f"{SCHEMA}:")


def _traits(features: Mapping[str, Feature]) -> Traits | None:
    line = features.get(TRAITS)
    return Traits.of_line(line) if isinstance(line, str) else None


def _unit(entry: JournalEntry) -> str:
    """What is independent of all else: a conversation; where an experiment drew, all of its unit."""
    is_drawn_by_unit = bool(entry.experiment) or BY_UNIT in entry.features
    return unit_of(entry.session, entry.key_id if is_drawn_by_unit else "", entry.id)
