"""How a decision that has ended is worded as a row. It takes milliseconds, and is done beside the answers, not in their
way.

A row says nothing that was asked or answered. Names that callers make up (agents, roles, models) are cut to size and
left out where the request is private; headers that rules look at are always left out, for they may hold anything.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from router.journal.entry import BY_UNIT, Feature, JournalEntry, Option, Result
from router.journal.record import Made
from router.journal.session import digest
from router.label import label
from router.learned.traits import TRAITS, traits_of
from router.policy.condition import HEADER, WHOLE
from router.policy.decision import Decision
from router.policy.features import Seen, features_of

SEEN = WHOLE.keys() - {"minute"}
"""What is read off every request that is kept: all but the time, which is in the row."""


def row_id(made: Made) -> str:
    """The id of the row of a decision."""
    return label(made.call.id)


def entry_of(made: Made, result: Result) -> JournalEntry:
    """The row of a decision that came to `result`."""
    call, decision, trial = made.call, made.decision, made.decision.trial
    return JournalEntry(
        id=row_id(made),
        at=made.at,
        key_id=call.origin.payer.key_id,
        session="" if call.session_id is None else digest(call.session_id),
        by=decision.by,
        rule="" if decision.is_unknown else label(decision.rule),
        is_private=decision.marking.is_private,
        options=tuple(_options(decision)),
        result=replace(result, answered_by=label(result.answered_by)),
        features=_features(made),
        experiment="" if trial is None else trial.experiment,
        variant="" if trial is None else trial.variant,
    )


def public(features: Mapping[str, Feature], *, is_private: bool) -> dict[str, Feature]:
    """What of `features` may be kept."""
    return {
        name: label(value) if isinstance(value, str) else value
        for name, value in features.items()
        if not name.startswith(HEADER) and not (is_private and isinstance(value, str))
    }


def _features(made: Made) -> dict[str, Feature]:
    """What the decision saw and what else there is to see. Of requests that are not private also the traits that
    learned routing learns from: numbers, and counts of hashed words."""
    decision, is_private = made.decision, made.decision.marking.is_private
    seen = Seen(made.call, decision.marking, datetime.fromtimestamp(made.at, UTC), made.budget)
    found = public({**features_of(seen, SEEN - decision.features.keys()), **decision.features}, is_private=is_private)
    if decision.is_drawn_by_unit:
        found[BY_UNIT] = True
    return found if is_private else {**found, TRAITS: traits_of(made.call).line}


def _options(decision: Decision) -> list[Option]:
    """The route with its odds, and behind it whom chance might have put first as well."""
    odds = decision.chances
    others = sorted(odds.keys() - set(decision.names))
    return [Option(name, odds.get(name, 0.0)) for name in (*decision.names, *others)]
