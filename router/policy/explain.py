"""A decision told: as the response header `x-shoal-route`, as JSON, as lines for people.

The header is a structured field (RFC 9651, a dictionary), so it can be read by machine:
`rule="code";by=rule, to=("a" "b"), lost=("c";why="..."), seen=?1;tokens_in=12`. It holds what its own caller said, cut
and made printable, and never a word of a prompt.
"""

from collections.abc import Iterator

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
    yield ", ".join(f"{name} {value!r}" for name, value in decision.features.items())


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
