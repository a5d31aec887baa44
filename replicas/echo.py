"""EchoEngine: answers with the last message's text, byte by byte. For tests and demos that need no model.

It runs the same loop as SlotEngine (queue, rows, cancel, deadlines, stop strings), with bytes for tokens and texts
for KV rows; so what holds for one engine's streams holds for the other's.
"""

import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass

from replicas.detokenizer import ByteDetokenizer, Detokenizer
from replicas.engine import EngineStats, Generation, Message, Role, Sink
from replicas.errors import InvalidRequest
from replicas.slot.admission import Admission
from replicas.slot.engine import SlotStream
from replicas.slot.loop import Loop, LoopLimits
from replicas.slot.sampler import Choice
from replicas.slot.sequence import Sequence

END = 256
_ROLES: dict[Role, int] = {"system": 257, "user": 258, "assistant": 259, "tool": 260}
_VOCAB = 261


class EchoTokenizer:
    """A token is a byte of UTF-8; 256 ends a message, and each role has a token that begins one."""

    stop_ids = frozenset({END})

    def encode_chat(self, messages: Many[Message]) -> tuple[int, ...]:
        if not messages:
            raise InvalidRequest("there are no messages to answer", "messages")
        ids: list[int] = []
        for message in messages:
            ids += [_ROLES[message.role], *self.encode(message.content), END]
        is_continued = messages[-1].role == "assistant" and messages[-1].content.strip()
        return tuple(ids[:-1] if is_continued else [*ids, _ROLES["assistant"]])

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def count(self, messages: Many[Message]) -> int:
        return len(self.encode_chat(messages))

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
        self._texts: list[tuple[int, ...]] = [()] * slots
        self._pause = pause

    def prefill(self, row: int, sequence: Sequence, tokens: int) -> Choice | None:
        if sequence.length + tokens < len(sequence.prompt):
            return None
        self._texts[row] = last_text(sequence.prompt)
        return self._next(row, sequence)

    def decode(self, sequences: list[Sequence]) -> list[Choice]:
        self._pause()
        return [self._next(row, sequence) for row, sequence in enumerate(sequences)]

    def move(self, source: int, target: int, tokens: int) -> None:
        self._texts[target] = self._texts[source]

    def _next(self, row: int, sequence: Sequence) -> Choice:
        text, place = self._texts[row], sequence.generated
        must_go_on = sequence.sampling.ignore_eos or place < sequence.sampling.min_tokens
        if place >= len(text) and not must_go_on:
            return Choice(END, 0.0)
        return Choice(text[place % len(text)] if text else ord(" "), 0.0)


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
        self._admission = Admission(self.tokenizer, self.tokenizer.stop_ids, _VOCAB, config.max_len)
        self._closing = threading.Event()
        limits = LoopLimits(config.model, config.slots, config.max_len, config.queue_limit)
        self._loop = Loop(EchoPasses(config.slots, self._pause), limits, clock=clock)

    def submit(self, request: Generation, sink: Sink) -> SlotStream:
        sequence = self._admission.admit(request, sink)
        self._loop.submit(sequence)
        return SlotStream(self._loop, sequence)

    def stats(self) -> EngineStats:
        config, loop, tally = self._config, self._loop, self._loop.tally
        return EngineStats(
            model=config.model,
            engine="echo",
            provider="none",
            slots=config.slots,
            slots_used=loop.rows.used,
            queued=loop.queued,
            kv_bytes=0,
            kv_used_ratio=loop.rows.tokens / (config.slots * config.max_len),
            context_tokens=config.max_len,
            prompt_tokens_total=tally.prompt_tokens,
            generated_tokens_total=tally.generated_tokens,
            steps_total=tally.steps,
            batch_sizes=tally.batch_sizes,
            is_healthy=loop.is_healthy,
        )

    def close(self) -> None:
        self._closing.set()
        self._loop.close()

    def _pause(self) -> None:
        if self._config.delay_s > 0:
            self._closing.wait(self._config.delay_s)
