"""The journal of one process: every decision is counted, and kept where there is somewhere to keep it.

A row says nothing that was asked or answered. Names that callers make up (agents, roles, models) are cut to size and
left out where the request is private; headers that rules look at are always left out, for they may hold anything.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b

from prometheus_client import CollectorRegistry, Counter

from replicas.errors import ShoalError
from router.call import Call
from router.journal.entry import Feature, JournalEntry, Option, Outcome, Result
from router.journal.record import Made, Record
from router.label import label
from router.learned.traits import TRAITS, traits_of
from router.policy.condition import HEADER, WHOLE
from router.policy.decision import Decision
from router.policy.features import Seen, features_of

SEEN = WHOLE.keys() - {"minute"}
"""What is read off every request that is kept: all but the time, which is in the row."""

BY_NAME = "asked for by name"
SESSION_BYTES = 16


class Journal:
    """Counts decisions in `registry`. `keep` must not wait; without it nothing is kept."""

    def __init__(
        self,
        registry: CollectorRegistry,
        keep: Callable[[JournalEntry], None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keep = keep
        self._now = now
        self._count = Counter(
            "shoal_route_decisions",
            "Decisions on who answers, by rule, by who answered, and by how it ended",
            ["rule", "model", "outcome"],
            registry=registry,
        )

    def begun(self, call: Call, decision: Decision, budget: str) -> Record:
        """The record of a decision whose answer begins now."""
        return Record(Made(call, decision, budget, self._now()), self._ended)

    def refused(self, call: Call, decision: Decision, budget: str, refusal: ShoalError) -> None:
        """Nobody could be asked. For any thread."""
        made = Made(call, decision, budget, self._now())
        self._ended(made, Result(Outcome.REFUSED, reason=type(refusal).__name__))

    def _ended(self, made: Made, result: Result) -> None:
        self._count.labels(rule_label(made.decision), result.answered_by, result.outcome.value).inc()
        if self._keep is not None:
            self._keep(entry_of(made, result))


def rule_label(decision: Decision) -> str:
    """What decided, in words that the settings know: callers make up names of models."""
    return BY_NAME if decision.by == "model" else f"{decision.by} {decision.rule}"


def entry_of(made: Made, result: Result) -> JournalEntry:
    """The row of a decision that came to `result`."""
    call, decision, trial = made.call, made.decision, made.decision.trial
    return JournalEntry(
        id=label(call.id),
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


def digest(session_id: str) -> str:
    """What tells a session from others and says nothing of its name."""
    return blake2b(session_id.encode("utf-8", "replace"), digest_size=SESSION_BYTES).hexdigest()


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
    return found if is_private else {**found, TRAITS: traits_of(made.call).line}


def _options(decision: Decision) -> list[Option]:
    """The route with its odds, and behind it whom chance might have put first as well."""
    odds = decision.chances
    others = sorted(odds.keys() - set(decision.names))
    return [Option(name, odds.get(name, 0.0)) for name in (*decision.names, *others)]
