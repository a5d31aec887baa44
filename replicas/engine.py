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
Determinism: TypeAlias = Literal["strict", "relaxed"]
"""Strict: the same request gives the same bytes, whatever the cache holds. Relaxed: KV that decoding wrote counts."""


class Finish(StrEnum):
    """Why a generation ended."""

    END = "end"  # the model ended its turn
    STOP = "stop"  # a stop string of the request came up; it is not part of the text
    LENGTH = "length"  # max_tokens reached
    CONTEXT = "context"  # the model's context, or the slot, is full
    REFUSED = "refused"  # a cloud's model, or a filter of the cloud, would not answer
    CANCELLED = "cancelled"
    ERROR = "error"  # `Final.error` says what


class Priority(StrEnum):
    """Interactive requests are admitted before batch ones."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call in an answer. `arguments` is a JSON object as text; its result refers to it by `id`."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. An assistant's turn may hold calls after its text; a tool's turn is the result of the
    call `tool_call_id` of the tool `tool_name` ("" where nobody says), or with `is_error` why there is none."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""
    is_error: bool = False


GREEDY_BELOW = 1e-4
"""A lower temperature is greedy: dividing logits by it would overflow float32."""

LEAST_PENALTY = 0.01
"""Of `repetition_penalty`: dividing logits by less would overflow float32."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 are off.

    `repetition_penalty` divides positive and multiplies negative logits of every token seen in prompt or output (CTRL,
    arXiv:1909.05858). `frequency_penalty` times how often a token was written, and `presence_penalty` once if it was,
    are taken off its logit. `logit_bias` has what is added to the logits of tokens. `min_p` leaves out tokens that are
    less likely than so much of the likeliest. An answer ends before a token of `stop_token_ids`, and before a string of
    `stop`; or behind them, with `keeps_stop`. `seed` makes sampled output reproducible: the draw depends on seed and
    position alone.
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
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    keeps_stop: bool = False


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must match: a JSON schema (as JSON text), a regular expression, or llguidance's kind of Lark.
    `place` is the path of the field that a caller sent it in, for refusals."""

    kind: Literal["json_schema", "regex", "lark"]
    text: str
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """One request to an engine. `prompt` is token ids, or messages for the engine's own chat template.

    `deadline_s` counts from submit; past it the generation ends with DeadlineExceeded. `id` is unique among the
    requests that are under way in the engine. `adapter` names a LoRA adapter that the engine has loaded.
    `is_continued`: the answer goes on within the last sentence of token ids; of messages the engine sees that itself.
    `top_logprobs` None wants no scores, n those of each chosen token and of the n likeliest, at most 20. With
    `wants_embedding` nothing is generated: the answer is the prompt's embedding, in the `Final`.
    """

    id: str
    prompt: tuple[int, ...] | tuple[Message, ...]
    sampling: Sampling
    deadline_s: float = 600.0
    priority: Priority = Priority.INTERACTIVE
    session_id: str | None = None
    grammar: Grammar | None = None
    adapter: str | None = None
    top_logprobs: int | None = None
    wants_embedding: bool = False
    is_continued: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """A token, the bytes that it stands for, and its natural log-probability under the unmodified model."""

    token: int
    bytes_: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenScore:
    """The chosen token, and the likeliest ones in its place, best first."""

    chosen: Scored
    top: tuple[Scored, ...] = ()


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
    embedding: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of the answer's `index`-th tool call: the first has its `name`, the `arguments` of all make the JSON."""

    index: int
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one answer: whole characters of text, the count of tokens behind it, and at the end the `Final`.

    `scores` holds one entry a token if the request asked for scores, and is empty otherwise. An engine makes text
    alone; `call` is set where that text has been read as tool calls (replicas/tools), and follows the `text`.
    """

    id: str
    text: str
    tokens: int
    final: Final | None = None
    scores: tuple[TokenScore, ...] = ()
    call: CallPiece | None = None


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
    threads: int = 0
    determinism: Determinism = "strict"
    fallbacks: tuple[tuple[str, str], ...] = ()  # (provider that did not work, why), in the order of trying
    adapters: tuple[str, ...] = ()
    prefill_s_total: float = 0.0
    decode_s_total: float = 0.0
    cached_tokens_total: int = 0  # prompt tokens whose KV was reused
    recomputed_tokens_total: int = 0  # KV was there, written by decoding: strict determinism made it anew
    cache_bytes: int = 0
    cache_limit_bytes: int = 0
    preemptions_total: int = 0
    restarts_total: int = 0  # requests that began again after a run of the model failed
    replayed_tokens_total: int = 0  # decoded again after a preemption or a restart
    forced_tokens_total: int = 0  # dictated by a grammar, never sampled
    draft_tokens_total: int = 0
    accepted_tokens_total: int = 0  # drafts that the model confirmed


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
