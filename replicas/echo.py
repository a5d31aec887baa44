"""EchoEngine: answers with the last message's text, byte by byte. For tests and demos that need no model.

It runs the same loop as SlotEngine (queue, rows, cancel, deadlines, stop strings), with bytes for tokens and texts
for KV rows; so what holds for one engine's streams holds for the other's.
"""

import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np

from replicas.chat import is_continuation
from replicas.detokenizer import ByteDetokenizer, Detokenizer
from replicas.engine import EngineStats, Generation, Grammar, Message, Scored, Sink, TokenScore
from replicas.errors import InvalidRequest
from replicas.grammar import Constraint
from replicas.slot.about import About
from replicas.slot.admission import Admission, Bounds
from replicas.slot.engine import SlotStream
from replicas.slot.report import Live, stats
from replicas.slot.request.choice import Choice
from replicas.slot.request.saved import Saved
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.loop import Loop, Machine
from replicas.slot.step.requests import LoopLimits
from replicas.tools.layout import ToolLayout, layout_of
from replicas.tools.tool import Tool

END = 256
_ROLES: dict[object, int] = {"system": 257, "user": 258, "assistant": 259, "tool": 260}
_VOCAB = 261


class EchoTokenizer:
    """A token is a byte of UTF-8; 256 ends a message, and each role has a token that begins one."""

    stop_ids = frozenset({END})
    tool_layout = layout_of("", {})
    tags: Mapping[str, int] = {}

    def encode_chat(
        self, messages: Many[Message], tools: Many[Tool] = (), layout: ToolLayout | None = None
    ) -> tuple[int, ...]:
        if not messages:
            raise InvalidRequest("there are no messages to answer", "messages")
        ids: list[int] = []
        for turn in (layout or self.tool_layout).prompt(messages, tools).turns:
            ids += [_ROLES[turn["role"]], *self.encode(str(turn["content"])), END]
        return tuple(ids[:-1] if is_continuation(messages) else [*ids, _ROLES["assistant"]])

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return self.encode(text)

    def detokenizer(self, *, is_continuation: bool = False) -> Detokenizer:
        return ByteDetokenizer(lambda token: bytes([token]) if token < END else b"")


def last_text(prompt: Many[int]) -> tuple[int, ...]:
    """The bytes of the last message in `prompt` that is not empty."""
    end = len(prompt)
    while end and prompt[end - 1] >= END:
        end -= 1
    start = end
    while start and prompt[start - 1] < END:
        start -= 1
    return tuple(prompt[start:end])


class EchoPasses:
    """Texts for KV rows. A text that must go on (`min_tokens`, `ignore_eos`) starts again."""

    def __init__(self, slots: int, pause: Callable[[], None]) -> None:
        self._texts: list[tuple[int, ...]] = [()] * (slots + 1)
        self._pause = pause

    def prefill(self, row: int, sequence: Sequence, tokens: int) -> Choice | None:
        if sequence.length + tokens < sequence.base:
            return None
        if sequence.request.wants_embedding:
            sequence.hidden_sum = np.bincount(sequence.prompt, minlength=_VOCAB).astype(np.float64)
            return None
        self._texts[row] = last_text(sequence.prompt)
        return self._next(row, sequence) if len(sequence.tokens) == sequence.base else None

    def decode(self, row: int, sequences: list[Sequence]) -> list[Choice | None]:
        self._pause()
        places = enumerate(sequences, row)
        return [self._next(place, sequence) if sequence.wants_choice else None for place, sequence in places]

    def move(self, source: int, target: int, tokens: int) -> None:
        self._texts[target] = self._texts[source]

    def save(self, row: int, tokens: int) -> Saved | None:
        return Saved(tokens, self._texts[row])

    def restore(self, row: int, saved: Saved) -> None:
        assert isinstance(saved.content, tuple)
        self._texts[row] = saved.content

    def _next(self, row: int, sequence: Sequence) -> Choice:
        text, place = self._texts[row], sequence.generated
        must_go_on = sequence.sampling.ignore_eos or place < sequence.sampling.min_tokens
        token = text[place % len(text)] if text else ord(" ")
        if place >= len(text) and not must_go_on:
            token = END
        if sequence.request.top_logprobs is None:
            return Choice(token, 0.0)
        scored = Scored(token, bytes([token]) if token < END else b"", 0.0)
        return Choice(token, 0.0, TokenScore(scored, (scored,) if sequence.request.top_logprobs else ()))


class _Abilities:
    """Text and the count of its bytes as an embedding; no grammars, no adapters."""

    def compiled(self, grammar: Grammar) -> Constraint:
        raise InvalidRequest("the echo engine repeats its prompt and can follow no grammar", "response_format")

    def adapters(self) -> tuple[str, ...]:
        return ()

    def can_embed(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class EchoConfig:
    """Sizes, and the seconds that one step takes (0: as fast as it goes)."""

    model: str = "echo"
    slots: int = 16
    max_len: int = 65536
    queue_limit: int = 256
    delay_s: float = 0.0


class EchoEngine:
    """A deterministic engine without a model."""

    is_healthy = True

    def __init__(self, config: EchoConfig | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        config = self._config = config or EchoConfig()
        self.tokenizer = EchoTokenizer()
        bounds = Bounds(_VOCAB, config.max_len)
        self._admission = Admission(self.tokenizer, self.tokenizer.stop_ids, bounds, _Abilities())
        self._closing = threading.Event()
        limits = LoopLimits(config.model, config.slots, config.max_len, config.queue_limit)
        self._about = About(config.model, "echo", "none", config.slots, config.max_len)
        passes = EchoPasses(config.slots, self._pause)
        self._loop = Loop(Machine(passes, passes), limits, clock=clock)

    def submit(self, request: Generation, sink: Sink) -> SlotStream:
        sequence = self._admission.admit(request, sink)
        self._loop.submit(sequence)
        return SlotStream(self._loop, sequence)

    def stats(self) -> EngineStats:
        return stats(self._about, self._loop, Live())

    def close(self) -> None:
        self._closing.set()
        self._loop.close()

    def _pause(self) -> None:
        if self._config.delay_s > 0:
            self._closing.wait(self._config.delay_s)
