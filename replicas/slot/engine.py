"""SlotEngine: continuous batching of a stock GenAI export over plain onnxruntime, on the CPU or a device.

`submit` encodes and checks on the caller's thread; the loop's thread does the rest (loop.py). The same prompt with
the same sampling gives the same bytes alone, beside others, at any load and in any slot: no kernel that is called
here lets a row's result depend on its neighbours, and a draw depends on seed and position alone.
"""

from dataclasses import dataclass

from replicas.chat import ChatTokenizer
from replicas.engine import EngineStats, Generation, Sink
from replicas.export import Export
from replicas.slot.admission import Admission
from replicas.slot.config import SlotConfig
from replicas.slot.forward import Forward, longest_chunk
from replicas.slot.loop import Loop, LoopLimits
from replicas.slot.place import Provider
from replicas.slot.providers import available, candidates, first_working, open_session
from replicas.slot.sampler import Choice, Sampler
from replicas.slot.sequence import Sequence
from replicas.slot.slab import KvSlab

# Longer slots only cost address space on the CPU, but device memory at once; an operator sets more.
_DEFAULT_MAX_LEN = 4096


@dataclass(frozen=True, slots=True)
class SlotStream:
    """A sequence in a loop, as its submitter sees it."""

    loop: Loop
    sequence: Sequence

    def cancel(self) -> None:
        self.loop.cancel(self.sequence)


class ModelPasses:
    """Forward passes and the choice of tokens, as the loop wants them."""

    def __init__(self, forward: Forward, sampler: Sampler) -> None:
        self._forward = forward
        self._sampler = sampler

    def prefill(self, row: int, sequence: Sequence, tokens: int) -> Choice | None:
        start = sequence.length
        logits = self._forward.prefill(row, sequence.prompt[start : start + tokens], start)
        if start + tokens < len(sequence.prompt):
            return None
        return self._sampler.choose(logits, [sequence])[0]

    def decode(self, sequences: list[Sequence]) -> list[Choice]:
        tokens = [sequence.last_token for sequence in sequences]
        logits = self._forward.decode(0, tokens, [sequence.length for sequence in sequences])
        return self._sampler.choose(logits, sequences)

    def move(self, source: int, target: int, tokens: int) -> None:
        self._forward.move(source, target, tokens)


class SlotEngine:
    """An engine on `export`. Raises ModelImportError, SettingsError, EngineFailed (no provider can run it)."""

    def __init__(self, export: Export, config: SlotConfig | None = None) -> None:
        config = config or SlotConfig()
        self.tokenizer = ChatTokenizer(export.directory)
        self._export = export
        self._config = config
        self._max_len = min(config.max_len or _DEFAULT_MAX_LEN, export.rope_switch_tokens or export.max_mask_tokens)
        wanted = candidates(config.provider, available())
        working = first_working(wanted, self._open)
        self._provider, self._fallbacks = working.provider, working.fallbacks
        forward, self._kv_bytes = working.made
        end_ids = self.tokenizer.stop_ids.union(export.eos_ids)
        sampler = Sampler(export.vocab, sorted(end_ids))
        self._admission = Admission(self.tokenizer, end_ids, export.vocab, self._max_len)
        prefill_chunk = min(config.prefill_chunk, longest_chunk(export.head_size))
        limits = LoopLimits(export.name, config.slots, prefill_chunk, config.queue_limit)
        self._loop = Loop(ModelPasses(forward, sampler), limits, release=forward.close)

    @property
    def is_healthy(self) -> bool:
        """False while runs of the model keep failing: the replica should be replaced."""
        return self._loop.is_healthy

    def submit(self, request: Generation, sink: Sink) -> SlotStream:
        sequence = self._admission.admit(request, sink)
        self._loop.submit(sequence)
        return SlotStream(self._loop, sequence)

    def stats(self) -> EngineStats:
        loop, tally = self._loop, self._loop.tally
        return EngineStats(
            model=self._export.name,
            engine="slot",
            provider=self._provider.name,
            slots=self._config.slots,
            slots_used=loop.rows.used,
            queued=loop.queued,
            kv_bytes=self._kv_bytes,
            kv_used_ratio=loop.rows.tokens / (self._config.slots * self._max_len),
            context_tokens=self._max_len,
            prompt_tokens_total=tally.prompt_tokens,
            generated_tokens_total=tally.generated_tokens,
            steps_total=tally.steps,
            batch_sizes=tally.batch_sizes,
            is_healthy=loop.is_healthy,
            fallbacks=self._fallbacks,
        )

    def close(self) -> None:
        self._loop.close()

    def _open(self, provider: Provider) -> tuple[Forward, int]:
        config = self._config
        session = open_session(self._export, provider, config.threads, is_spinning=config.is_spinning)
        slab = KvSlab(self._export, config.slots, self._max_len, provider)
        forward = Forward(session, self._export, slab, config.slots, self._max_len)
        forward.prefill(0, (0, 0), 0)
        forward.decode(0, (0,), (1,))
        return forward, slab.size_bytes
