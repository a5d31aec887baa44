"""Several answers to one request: as many calls that ask the same, and their numbers in one usage.

With a seed the first call has the caller's, each other one its own, made of that and its number: the same request gives
the same answers, in the same order. A cloud is asked once for each answer as well, so that every one of them can be
judged, fall back and be paid for by itself.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from replicas.engine import Usage
from router.answer_id import numbered_id
from router.call import Call
from router.sse import Json
from router.translate.source import changed

MOST = 128
"""Answers of one request; OpenAI's bound."""


def several(call: Call, count: int) -> tuple[Call, ...]:
    """`count` calls for as many answers to what `call` asks."""
    return (call,) if count == 1 else tuple(_numbered(call, number) for number in range(count))


def seed_of(seed: int, number: int) -> int:
    """The seed of one of several calls, below 2**31."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return seed if number == 0 else int.from_bytes(digest[:4], "big") >> 1


def _numbered(call: Call, number: int) -> Call:
    seed = call.sampling.seed
    own = None if seed is None else seed_of(seed, number)
    source = None if call.source is None else changed(call.source, n=None, best_of=None, seed=own)
    return replace(call, id=numbered_id(call.id, number), sampling=replace(call.sampling, seed=own), source=source)


class Tally:
    """The ends of an answer's choices; `per_prompt` of them share a prompt, which counts once."""

    def __init__(self, choices: int, per_prompt: int) -> None:
        self._usages: list[Usage | None] = [None] * choices
        self._per_prompt = per_prompt

    @property
    def is_done(self) -> bool:
        """All have ended."""
        return None not in self._usages

    def end(self, choice: int, usage: Usage) -> None:
        """A choice has ended."""
        self._usages[choice] = usage

    def has_ended(self, choice: int) -> bool:
        """That choice has."""
        return self._usages[choice] is not None

    def usage(self) -> dict[str, Json]:
        """What all of them took."""
        ended: Sequence[Usage] = [usage for usage in self._usages if usage is not None]
        prompts = ended[:: self._per_prompt]
        prompt, written = sum(one.prompt for one in prompts), sum(one.generated for one in ended)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": sum(one.cached for one in prompts)},
        }
