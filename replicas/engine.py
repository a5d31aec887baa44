"""The seam between a model and everything above it.

An engine takes generations and answers each on the sink it came with: chunks as they are made, the last one with a
`Final`. It owns its threads, its queue and its KV cache; it knows nothing of Ray, HTTP or routing. One contract suite
(tests/replicas/test_engine_contract.py) holds for every implementation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from replicas.errors import ShoalError

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class Finish(StrEnum):
    """Why a generation ended."""

    END = "end"  # the model ended its turn
    STOP = "stop"  # a stop string of the request came up; it is not part of the text
    LENGTH = "length"  # max_tokens reached
    CONTEXT = "context"  # the model's context, or the slot, is full
    CANCELLED = "cancelled"
    ERROR = "error"  # `Final.error` says what


class Priority(StrEnum):
    """Interactive requests are admitted before batch ones."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as text."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy; top_k 0 and top_p 1 are off.

    `repetition_penalty` divides positive and multiplies negative logits of every token seen in prompt or output (CTRL,
    arXiv:1909.05858). `seed` makes sampled output reproducible: the draw depends on seed and position alone.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One request to an engine. `prompt` is token ids, or messages for the engine's own chat template.

    `deadline_s` counts from submit; past it the generation ends with DeadlineExceeded. `id` is unique among the
    requests that are under way in the engine.
    """

    id: str
    prompt: tuple[int, ...] | tuple[Message, ...]
    sampling: Sampling
    deadline_s: float = 600.0
    priority: Priority = Priority.INTERACTIVE
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `cached` is the part of `prompt` whose KV was reused."""

    prompt: int
    generated: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from submit to the first prefill step, from there to the first token, and from there to the end."""

    queued_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Final:
    """How a generation ended. Log-probabilities (natural) are of the chosen tokens under the unmodified model."""

    finish: Finish
    usage: Usage
    timings: Timings = field(default_factory=Timings)
    stop_sequence: str | None = None
    mean_logprob: float | None = None
    min_logprob: float | None = None
    error: ShoalError | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one answer: whole characters of text, the count of tokens behind it, and at the end the `Final`."""

    id: str
    text: str
    tokens: int
    final: Final | None = None


Sink: TypeAlias = Callable[[Chunk], None]
"""Takes a chunk on the engine's own thread: must return at once and never raise."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine is doing now, and counters since it started (those that end in `_total`)."""

    model: str
    engine: str
    provider: str
    slots: int
    slots_used: int
    queued: int
    kv_bytes: int
    kv_used_ratio: float
    context_tokens: int
    prompt_tokens_total: int
    generated_tokens_total: int
    steps_total: int
    batch_sizes: tuple[tuple[int, int], ...]  # (rows in a decode step, how many such steps), ascending
    is_healthy: bool = True  # False while runs of the model keep failing: the replica should be replaced


class Stream(Protocol):
    """A generation under way."""

    def cancel(self) -> None:
        """Stop it: a last chunk with CANCELLED follows and its slot is free within two engine steps. Idempotent."""
        ...


class Engine(Protocol):
    """Answers prompts with one model. Every method may be called from any thread."""

    def submit(self, request: Generation, sink: Sink) -> Stream:
        """Queue `request`; chunks go to `sink`. Raises InvalidRequest, ContextOverflow, Overloaded, EngineFailed."""
        ...

    def stats(self) -> EngineStats:
        """A snapshot, cheap enough to take every second."""
        ...

    def close(self) -> None:
        """Cancel what is under way, end the threads, free the memory. Idempotent."""
        ...
