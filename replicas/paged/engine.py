"""PagedEngine: a model with paged attention behind the same seam as the slot engine.

ONNX Runtime GenAI batches, pages the KV cache, samples and follows grammars; this adds what the seam promises beside
that: a bounded queue with priorities, deadlines, cancel, stop strings that span tokens, typed errors. It knows no
log-probabilities, embeddings or adapters of a request, and its results depend on the load: relaxed determinism.
"""

from dataclasses import dataclass
from functools import partial

from replicas.chat import ChatTokenizer
from replicas.engine import EngineStats, Generation, Grammar, Sink
from replicas.errors import EngineFailed, InvalidRequest, SettingsError
from replicas.grammar import Constraint, GrammarCompiler
from replicas.paged.export import PagedExport
from replicas.paged.genai import GenaiTurns
from replicas.paged.loop import PagedLoop
from replicas.paged.owner import Owner
from replicas.slot.admission import Admission, Bounds
from replicas.slot.place import Provider
from replicas.slot.request.sequence import Sequence
from replicas.slot.start.providers import Working, available, candidates, first_working
from replicas.slot.step.requests import LoopLimits


@dataclass(frozen=True, slots=True)
class PagedConfig:
    """What an operator may set. `slots` and `max_len` None are the export's own, `threads` None is GenAI's choice.

    `provider` forbids the fallback to another one.
    """

    slots: int | None = None
    max_len: int | None = None
    queue_limit: int = 256
    provider: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, least in {"slots": 1, "max_len": 2, "queue_limit": 1, "threads": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"{name} must be at least {least}, not {value}")


@dataclass(frozen=True, slots=True)
class PagedStream:
    """A sequence in a loop, as its submitter sees it."""

    loop: PagedLoop
    sequence: Sequence

    def cancel(self) -> None:
        self.loop.cancel(self.sequence)


class _Abilities:
    """Grammars, which GenAI follows; they are compiled here to refuse a bad one with its place."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self._compiler = compiler

    def compiled(self, grammar: Grammar) -> Constraint:
        return self._compiler.compile(grammar)

    def adapters(self) -> tuple[str, ...]:
        return ()

    def can_embed(self) -> bool:
        return False


class PagedEngine:
    """An engine on `export`. Raises ModelImportError, SettingsError, EngineFailed (no provider can run it)."""

    def __init__(self, export: PagedExport, config: PagedConfig | None = None) -> None:
        config = config or PagedConfig()
        self.tokenizer = ChatTokenizer(export.directory)
        self._export = export
        self._owner = Owner(f"shoal-{export.name}")
        try:
            working = self._owner.call(partial(_working, export, config)).result()
        except Exception:
            self._owner.close()
            raise
        self._provider, self._fallbacks, turns = working.provider, working.fallbacks, working.made
        self._is_seedable = turns.is_seedable
        self._slots = turns.slots
        self._max_len = min(config.max_len or turns.max_len, turns.max_len)
        end_ids = self.tokenizer.stop_ids.union(export.eos_ids)
        self._compiler = GrammarCompiler(export.directory, export.vocab, end_ids)
        bounds = Bounds(export.vocab, self._max_len)
        self._admission = Admission(self.tokenizer, end_ids, bounds, _Abilities(self._compiler))
        limits = LoopLimits(export.name, turns.slots, self._max_len, config.queue_limit)
        release = partial(_closed, turns, self._compiler)
        self._loop = PagedLoop(turns, limits, is_seedable=turns.is_seedable, release=release)
        self._owner.call(self._loop.run)

    @property
    def is_healthy(self) -> bool:
        """False once the engine broke: its replica should be replaced."""
        return self._loop.is_healthy

    def prepare(self, request: Generation) -> None:
        """Compile the grammar of `request`, if it has one, so that `submit` returns at once. Raises InvalidRequest."""
        if request.grammar is not None:
            self._compiler.compile(request.grammar)

    def submit(self, request: Generation, sink: Sink) -> PagedStream:
        self._check(request)
        sequence = self._admission.admit(request, sink)
        sequence.constraint = None  # GenAI masks and follows it; here it was only checked
        self._loop.submit(sequence)
        return PagedStream(self._loop, sequence)

    def stats(self) -> EngineStats:
        loop, tally = self._loop, self._loop.tally
        return EngineStats(
            model=self._export.name,
            engine="paged",
            provider=self._provider.name,
            slots=self._slots,
            slots_used=loop.running,
            queued=loop.queued,
            kv_bytes=0,  # GenAI does not tell
            kv_used_ratio=loop.tokens / (self._slots * self._max_len),
            context_tokens=self._max_len,
            prompt_tokens_total=tally.prompt_tokens,
            generated_tokens_total=tally.generated_tokens,
            steps_total=tally.steps,
            batch_sizes=tally.batch_sizes,
            is_healthy=loop.is_healthy,
            determinism="relaxed",
            fallbacks=self._fallbacks,
            prefill_s_total=tally.prefill_s,
            decode_s_total=tally.decode_s,
            cached_tokens_total=tally.cached_tokens,
        )

    def close(self) -> None:
        self._loop.close()
        self._owner.close()

    def _check(self, request: Generation) -> None:
        """What GenAI cannot do is refused, not left out in silence."""
        if request.top_logprobs is not None:
            raise InvalidRequest("a model with paged attention gives no log-probabilities; leave them out", "logprobs")
        if request.wants_embedding:
            raise InvalidRequest("a model with paged attention gives no embeddings; ask another model", "model")
        sampling = request.sampling
        for field in ("min_p", "frequency_penalty", "presence_penalty", "logit_bias"):
            if getattr(sampling, field):
                raise InvalidRequest(f"{field}: a model with paged attention has no such thing; leave it out", field)
        if sampling.seed is not None and not self._is_seedable:
            raise InvalidRequest("this export runs in static batches, which take no seed; leave it out", "seed")


def _closed(turns: GenaiTurns, compiler: GrammarCompiler) -> None:
    turns.close()
    compiler.close()


def _working(export: PagedExport, config: PagedConfig) -> Working[GenaiTurns]:
    return first_working(candidates(config.provider, available()), partial(_opened, export, config))


def _opened(export: PagedExport, config: PagedConfig, provider: Provider) -> GenaiTurns:
    if export.is_paged and provider.is_host:
        raise EngineFailed("paged attention needs CUDA or WebGPU; export without use_paged_attention for the CPU")
    return GenaiTurns(export, provider, config.slots, config.threads)
