"""What the journal says of the local model's answers, and of the choice between it and a cloud.

The caller's score is what counts; without one, an answer that the gate rejected was not good. An answer that merely
passed says too little. Private requests have no traits in the journal, and are no examples.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from router.chain.failure import Reason
from router.journal.entry import Feature, JournalEntry
from router.learned.offpolicy import CLOUD, LOCAL, Logged
from router.learned.training import Example
from router.learned.traits import TRAITS, Traits

REJECTED_WEIGHT = 0.5
"""A choice: the gate's word is worth half of a caller's."""

NANO = 1e9


def examples_of(entries: Iterable[JournalEntry], local: str) -> Iterator[Example]:
    """Those of `entries` that say how good the answer of `local` was."""
    for entry in entries:
        traits = _traits(entry.features)
        if traits is None:
            continue
        if entry.feedback is not None and entry.result.answered_by == local:
            yield Example(traits, entry.feedback.score)
        elif any(one.name == local and one.reason == Reason.REJECTED.value for one in entry.result.tries):
            yield Example(traits, 0.0, REJECTED_WEIGHT)


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
        cost_usd = entry.result.cost_nano / NANO
        yield Logged(traits, chose, (to_local, to_cloud), entry.feedback.score, cost_usd)


def most_scored(entries: Iterable[JournalEntry], is_cloud: Callable[[str], bool]) -> str | None:
    """The local model whose answers were scored most often."""
    scored = Counter(
        entry.result.answered_by
        for entry in entries
        if entry.feedback is not None and entry.result.answered_by and not is_cloud(entry.result.answered_by)
    )
    return scored.most_common(1)[0][0] if scored else None


def cloud_quality(entries: Iterable[JournalEntry], is_cloud: Callable[[str], bool]) -> float:
    """The mean score of the clouds' answers; 1 where none was scored."""
    scores = [
        entry.feedback.score
        for entry in entries
        if entry.feedback is not None and entry.result.answered_by and is_cloud(entry.result.answered_by)
    ]
    return sum(scores) / len(scores) if scores else 1.0


def _traits(features: Mapping[str, Feature]) -> Traits | None:
    line = features.get(TRAITS)
    return Traits.of_line(line) if isinstance(line, str) else None
