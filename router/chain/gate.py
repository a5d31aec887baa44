"""The bar for quality: a bounded beginning of an answer is held back and judged before its first byte leaves.

The beginning is `hold_tokens` long, or the whole answer if that is shorter. A check may want to see more (a call is
worth judging when it is whole), up to `hold_characters`; what is longer is judged by its beginning and let go. The
judge, another model, is asked last and for a bounded time; a judge that fails lets the answer pass.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from replicas.cloud.answer import CloudChunk
from replicas.engine import Chunk, Final, Finish, TokenScore, ToolCall, Usage
from replicas.errors import ShoalError
from router.call import Answer

logger = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 4  # where a backend does not count tokens as it goes; only the length of the prefix hangs on it
JUDGE_WAIT_S = 5.0


UNENDED = Final(Finish.CANCELLED, Usage(0, 0))  # stands for an end that is still to come


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of an answer, or with `final` all of it. The last of `calls` may be cut off before the end."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    scores: tuple[TokenScore, ...] = ()
    final: Final | None = None

    @property
    def is_whole(self) -> bool:
        """Nothing follows."""
        return self.final is not None


class Check(Protocol):
    """One thing that can be wrong with an answer."""

    @property
    def name(self) -> str:
        """Of a closed set: it labels a metric."""
        ...

    def waits(self, held: "Held") -> bool:
        """It wants to see more than `hold_tokens` of this answer."""
        ...

    def fault(self, prefix: Prefix) -> str:
        """What is wrong, without a word of the answer; empty: nothing."""
        ...


Judge: TypeAlias = Callable[[Prefix], Awaitable[bool]]
"""Whether an answer is good enough, by another model's word. Raises ShoalErrors when it cannot say."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Which check an answer failed, and why."""

    check: str
    why: str


class Held:
    """What of an answer is held back, counted as it comes."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.tokens = 0
        self.characters = 0
        self.has_call = False
        self.has_content = False
        self.final: Final | None = None

    def add(self, chunks: list[Chunk]) -> None:
        """`chunks` come after what is held; what follows a `Final` is dropped."""
        for chunk in chunks:
            if self.final is not None:
                return
            self.chunks.append(chunk)
            native = chunk.native.json if isinstance(chunk, CloudChunk) and chunk.native is not None else None
            called = chunk.call.arguments if chunk.call is not None else ""
            self.tokens += chunk.tokens
            self.characters += len(chunk.text) + len(called) + len(native or "")
            self.has_call = self.has_call or chunk.call is not None
            self.has_content = self.has_content or bool(chunk.text) or chunk.call is not None or native is not None
            self.final = chunk.final

    @property
    def length_tokens(self) -> int:
        """About how many tokens are held."""
        return self.tokens or self.characters // CHARACTERS_PER_TOKEN

    def prefix(self) -> Prefix:
        """What is held, to be judged."""
        final = self.final
        scores = tuple(score for chunk in self.chunks for score in chunk.scores)
        if not self.has_call:
            return Prefix("".join(chunk.text for chunk in self.chunks), (), scores, final)
        answer = Answer.of(self.chunks, final or UNENDED)
        return Prefix(answer.text, answer.calls, scores, final)


@dataclass(frozen=True, slots=True)
class Gate:
    """What an answer must pass. Made for one request: its checks know the tools and the form that were asked for."""

    checks: tuple[Check, ...]
    judge: Judge | None = None
    hold_tokens: int = 32
    hold_characters: int = 16 * 1024
    judge_wait_s: float = JUDGE_WAIT_S

    def has_enough(self, held: Held) -> bool:
        """The answer can be judged by what is held."""
        if held.final is not None or held.characters >= self.hold_characters:
            return True
        return held.length_tokens >= self.hold_tokens and not any(check.waits(held) for check in self.checks)

    async def fault(self, prefix: Prefix) -> Fault | None:
        """What is wrong with an answer that begins so; None: it may go."""
        for check in self.checks:
            if why := check.fault(prefix):
                return Fault(check.name, why)
        if self.judge is not None and not await self._is_approved(self.judge, prefix):
            return Fault("judge", "the judge finds it not good enough")
        return None

    async def _is_approved(self, judge: Judge, prefix: Prefix) -> bool:
        try:
            async with asyncio.timeout(self.judge_wait_s):
                return await judge(prefix)
        except (ShoalError, TimeoutError) as silent:
            logger.warning("the judge gave no verdict: %s", type(silent).__name__)
            return True
