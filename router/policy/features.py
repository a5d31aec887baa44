"""What the rules may look at, read off a call: only what some rule names, since looking costs time.

Tokens are estimated from bytes: rules are for kinds of requests, and the exact count belongs to a model's tokenizer,
which is not chosen yet. What does not fit is found out exactly when a model is.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from router.call import Call
from router.policy.condition import HEADER
from router.policy.constraints import Value
from router.policy.language import is_code, language_of
from router.privacy.guard import Marking

BYTES_PER_TOKEN = 4
"""Of English prose and of JSON alike: an Agent SDK request of 42.8 kB has about 10,700 tokens."""

TOKENS_PER_MESSAGE = 4
AUTO = "auto"
"""The model of a request that leaves the choice to the rules."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the rules see it. `now` is local to where the rules are."""

    call: Call
    marking: Marking
    now: datetime
    budget: str = "ok"


def features_of(seen: Seen, wanted: Collection[str]) -> dict[str, Value]:
    """The features in `wanted`, in the order of their names."""
    call, readers = seen.call, _readers(seen)
    found: dict[str, Value] = {}
    for name in sorted(wanted):
        header = name.removeprefix(HEADER)
        found[name] = readers[name]() if header == name else call.origin.headers.get(header, "")
    return found


def model_asked(call: Call) -> str:
    """The name in the request, `auto` for none."""
    return call.model or AUTO


def tokens_in(call: Call) -> int:
    """About how long the prompt is, its tools included."""
    if isinstance(call.raw, tuple):
        return len(call.raw)
    size_bytes = sum(len(tool.name) + len(tool.description) + len(tool.schema) for tool in call.tools)
    for message in call.messages:
        arguments = sum(len(one.name) + len(one.arguments) for one in message.tool_calls)
        size_bytes += len(message.content.encode()) + arguments
    return size_bytes // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * len(call.messages)


def _readers(seen: Seen) -> Mapping[str, Callable[[], Value]]:
    call = seen.call
    return {
        "agent": lambda: call.origin.agent,
        "budget": lambda: seen.budget,
        "code": lambda: is_code(last_words(call)),
        "image": lambda: call.has_image,
        "language": lambda: language_of(last_words(call)),
        "minute": lambda: seen.now.hour * 60 + seen.now.minute,
        "model": partial(model_asked, call),
        "private": lambda: seen.marking.is_private,
        "role": lambda: call.origin.role,
        "tokens_in": partial(tokens_in, call),
        "tokens_out": lambda: call.sampling.max_tokens,
        "tools": lambda: len(call.tools),
    }


def last_words(call: Call) -> str:
    """What the user said last."""
    return next((message.content for message in reversed(call.messages) if message.role == "user"), "")
