"""A decision told: as the response header `x-shoal-route`, as JSON, as lines for people.

The header is a structured field (RFC 9651, a dictionary), so it can be read by machine:
`rule="code";by=rule, to=("a" "b"), lost=("c";why="..."), seen=?1;tokens_in=12`. It holds what its own caller said, cut
and made printable, and never a word of a prompt.
"""

from collections.abc import Iterator

from router.learned.opinion import Opinion
from router.policy.constraints import Value
from router.policy.decision import Decision, Verdict

MOST_TOLD = 8
"""Candidates in a header; the others are counted."""

TEXT_CHARS = 64


def header(decision: Decision) -> str:
    """The value of `x-shoal-route`."""
    parts = [
        f"rule={_text(decision.rule)};by={decision.by}",
        f"to=({' '.join(_text(name) for name in decision.names[:MOST_TOLD])}){_more(decision.route)}",
    ]
    if decision.lost:
        told = (f"{_text(one.name)};why={_text(one.why)}" for one in decision.lost[:MOST_TOLD])
        parts.append(f"lost=({' '.join(told)}){_more(decision.lost)}")
    if decision.features:
        parts.append("seen" + "".join(f";{_key(name)}={_value(value)}" for name, value in decision.features.items()))
    if decision.opinion is not None:
        parts.append(_learned(decision.opinion))
    if decision.marking.is_private:
        parts.append("private" + "".join(f";{reason}" for reason in decision.marking.reasons))
    return ", ".join(parts)


def tree(decision: Decision) -> dict[str, object]:
    """The decision as JSON."""
    return {
        "by": decision.by,
        "rule": decision.rule,
        "route": [{"name": one.name, "why": one.why} for one in decision.route],
        "lost": [{"name": one.name, "why": one.why} for one in decision.lost],
        "private": list(decision.marking.reasons),
        "features": dict(decision.features),
        "learned": None if decision.opinion is None else _opinion(decision.opinion),
        "odds": dict(decision.odds),
    }


def lines(decision: Decision) -> Iterator[str]:
    """The decision in words."""
    yield f"decided by {decision.by} {decision.rule!r}"
    if decision.marking.is_private:
        yield f"private: {', '.join(decision.marking.reasons)}"
    for n, one in enumerate(decision.route, 1):
        yield f"{n}. {one.name}: {one.why}"
    if not decision.route:
        yield f"nobody answers: {decision.refusal()}"
    yield from (f"-  {one.name}: {one.why}" for one in decision.lost)
    if decision.opinion is not None:
        yield f"learned {'abstains' if decision.opinion.abstains else decision.opinion.pick}: {decision.opinion.why}"
    if decision.odds:
        yield "odds: " + ", ".join(f"{name} {share:.3f}" for name, share in decision.odds.items())
    yield ", ".join(f"{name} {value!r}" for name, value in decision.features.items())


def _learned(opinion: Opinion) -> str:
    """What was predicted, as a member of the header; `abstains` with why."""
    parts = [f"learned={opinion.pick or 'abstains'}"]
    if opinion.prediction is not None:
        told = opinion.prediction
        parts += [f"p={told.probability:.3f}", f"low={told.low:.3f}", f"high={told.high:.3f}"]
    if opinion.threshold is not None:
        parts.append(f"threshold={opinion.threshold:.3f}")
    if opinion.abstains:
        parts.append(f"why={_text(opinion.why)}")
    return ";".join(parts)


def _opinion(opinion: Opinion) -> dict[str, object]:
    told = opinion.prediction
    return {
        "pick": opinion.pick,
        "why": opinion.why,
        "local": opinion.local,
        "threshold": opinion.threshold,
        "probability": None if told is None else told.probability,
        "low": None if told is None else told.low,
        "high": None if told is None else told.high,
    }


def _more(verdicts: tuple[Verdict, ...]) -> str:
    return f";more={len(verdicts) - MOST_TOLD}" if len(verdicts) > MOST_TOLD else ""


def _key(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "." for c in name.lower())


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return f"?{value:d}"
    return str(value) if isinstance(value, int) else _text(value)


def _text(text: str) -> str:
    printable = "".join(c if " " <= c <= "~" else "?" for c in text[:TEXT_CHARS])
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
