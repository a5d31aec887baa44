"""SlotEngine: continuous batching of a stock GenAI export over plain onnxruntime, on the CPU or a device.

`submit` encodes, checks and compiles on the caller's thread; the loop's thread does the rest (loop.py). The same
prompt with the same sampling gives the same bytes alone, beside others, at any load, in any slot, after a cache hit
and after a preemption: no kernel that is called here lets a row's result depend on its neighbours, every position of
a row is written by the same kind of call each time, and a draw depends on seed and position alone.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from replicas.chat import ChatTokenizer
from replicas.engine import EngineStats, Generation, Grammar, Sink
from replicas.errors import DeadlineExceeded, InvalidRequest, NotFound, SettingsError
from replicas.export import Export
from replicas.grammar import Constraint, GrammarCompiler
from replicas.host import Host
from replicas.lora import LoraWeights
from replicas.slot.about import About
from replicas.slot.admission import Admission, Bounds
from replicas.slot.config import SlotConfig
from replicas.slot.kv.blocks import BLOCK, BlockPool
from replicas.slot.kv.prefixes import PrefixCache
from replicas.slot.kv.saving import SlabMemory
from replicas.slot.kv.transfer import GONE, Transfer
from replicas.slot.model.forward import longest_chunk
from replicas.slot.model.passes import ModelPasses
from replicas.slot.model.sampler import Sampler
from replicas.slot.report import Live, stats
from replicas.slot.request.sequence import Sequence
from replicas.slot.start.opening import Opened, open_model
from replicas.slot.step.loop import Loop, Machine
from replicas.slot.step.memory import NoPrefixes
from replicas.slot.step.requests import LoopLimits

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

CALL_DEADLINE_S = 60.0
"""For what is asked of the loop's thread: it answers between two steps."""


@dataclass(frozen=True, slots=True)
class SlotStream:
    """A sequence in a loop, as its submitter sees it."""

    loop: Loop
    sequence: Sequence

    def cancel(self) -> None:
        self.loop.cancel(self.sequence)


class _Abilities:
    """What this engine can do beyond plain text."""

    def __init__(self, opened: Opened, compiler: GrammarCompiler) -> None:
        self._opened = opened
        self._compiler = compiler

    def compiled(self, grammar: Grammar) -> Constraint:
        return self._compiler.compile(grammar)

    def adapters(self) -> tuple[str, ...]:
        return self._opened.forward.adapters

    def can_embed(self) -> bool:
        return self._opened.forward.can_embed


class SlotEngine:
    """An engine on `export`. Raises ModelImportError, SettingsError, EngineFailed (no provider can run it)."""

    def __init__(self, export: Export, config: SlotConfig | None = None) -> None:
        config = config or SlotConfig()
        self.tokenizer = ChatTokenizer(export.directory)
        self._export = export
        self._digests: dict[str | None, str] = {}  # of the adapters that are loaded
        opened = self._opened = open_model(export, config, Host())
        sizes = opened.sizes
        end_ids = self.tokenizer.stop_ids.union(export.eos_ids)
        self._compiler = GrammarCompiler(export.directory, export.vocab, end_ids)
        self._abilities = _Abilities(opened, self._compiler)
        bounds = Bounds(export.vocab, sizes.max_len, export.rope_switch_tokens)
        self._admission = Admission(self.tokenizer, end_ids, bounds, self._abilities)
        self._memory = SlabMemory(opened.slab, sizes.copy_bytes)
        self._cache = self._prefix_cache(opened, config)
        passes = ModelPasses(opened.forward, Sampler(export.vocab, sorted(end_ids), self.tokenizer.bytes_of))
        machine = Machine(
            passes=passes,
            memory=self._memory,
            prefixes=self._cache or NoPrefixes(),
            extension=passes,
            is_drafting=config.speculation,
            release=opened.forward.close,
        )
        chunk = min(config.prefill_chunk, longest_chunk(export.head_size))
        limits = LoopLimits(export.name, sizes.slots, chunk, config.queue_limit, config.stall_ratio)
        self._about = _about(export, config, opened)
        self._loop = Loop(machine, limits)

    @property
    def is_healthy(self) -> bool:
        """False while runs of the model keep failing: the replica should be replaced."""
        return self._loop.is_healthy

    def prepare(self, request: Generation) -> None:
        """Do what takes long before `request` can run: compile its grammar, open the session of adapters.

        `submit` does it too, but a caller that must not be held up calls this first on a thread of its own. Raises
        InvalidRequest, and what opening a session raises.
        """
        if request.grammar is not None:
            self._compiler.compile(request.grammar)
        self._open_adapters(request)

    def submit(self, request: Generation, sink: Sink) -> SlotStream:
        self._open_adapters(request)
        sequence = self._admission.admit(request, sink)
        self._loop.submit(sequence)
        return SlotStream(self._loop, sequence)

    def stats(self) -> EngineStats:
        return stats(self._about, self._loop, Live(self._abilities.adapters, self._kept_bytes, self._recomputed))

    def load_adapter(self, name: str, path: Path) -> None:
        """Load the LoRA adapter in the directory `path` (PEFT format) as `name`.

        Raises ModelImportError (it does not fit), InvalidRequest (the name is taken).
        """
        weights = LoraWeights.read(path, self._export)
        digest = _digest(weights)

        def add() -> None:
            self._opened.forward.add_adapter(name, weights)
            self._digests[name] = digest

        self._call(add)
        _logger.info("adapter loaded", extra={"model": self._export.name, "adapter": name})

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter. Raises NotFound if there is none, InvalidRequest while requests for it are under way."""

        def remove() -> None:
            if self._loop.is_adapter_used(name):
                raise InvalidRequest(f"requests for the adapter {name!r} are under way; try again later", "adapter")
            self._opened.forward.remove_adapter(name)
            del self._digests[name]

        self._call(remove)
        _logger.info("adapter unloaded", extra={"model": self._export.name, "adapter": name})

    def export_session(self, session_id: str) -> bytes:
        """A session's KV, for `import_session` here or in another engine of the same model.

        Raises NotFound if nothing is kept of it.
        """
        transfer = self._transfer()
        session = self._call(lambda: transfer.session(session_id))
        blocks: list[bytes] = []
        while piece := self._call(partial(transfer.read, session, len(blocks))):
            blocks += piece
        if not blocks:
            raise NotFound("session", session_id, GONE)
        return transfer.packed(session_id, session, blocks)

    def import_session(self, data: bytes, session_id: str | None = None) -> int:
        """Take over a session's KV, under another name if one is given; its tokens.

        Raises InvalidRequest if it is damaged or of another model.
        """
        transfer = self._transfer()
        taken = transfer.unpacked(data)
        name, written = session_id or taken.session_id, 0
        while count := self._call(partial(transfer.write, taken, name, written)):
            written += count
        return written * BLOCK

    def close(self) -> None:
        self._loop.close()
        self._compiler.close()

    def _open_adapters(self, request: Generation) -> None:
        if request.adapter in self._abilities.adapters():
            self._opened.forward.open_adapters()

    def _call(self, call: Callable[[], _T]) -> _T:
        """What `call` gives on the loop's thread. Raises DeadlineExceeded; a call that had not begun is not made."""
        future = self._loop.call(call)
        try:
            return cast(_T, future.result(CALL_DEADLINE_S))
        except TimeoutError:
            future.cancel()
            raise DeadlineExceeded(CALL_DEADLINE_S) from None

    def _prefix_cache(self, opened: Opened, config: SlotConfig) -> PrefixCache | None:
        capacity = opened.sizes.prefix_bytes // BlockPool.block_bytes(opened.slab)
        if not capacity or not opened.slab.arrays:
            return None
        pool = BlockPool(opened.slab, capacity)
        return PrefixCache(pool, config.determinism, lambda adapter: self._digests.get(adapter, ""))

    def _transfer(self) -> Transfer:
        if self._cache is None:
            raise SettingsError("this engine keeps no KV: its cache_bytes is too small, or its KV lies on a device")
        return Transfer(self._cache, self._export, self._about, lambda adapter: self._digests.get(adapter, ""))

    def _kept_bytes(self) -> int:
        blocks = self._cache.blocks if self._cache is not None else 0
        return blocks * BlockPool.block_bytes(self._opened.slab) + self._memory.saved_bytes

    def _recomputed(self) -> int:
        return self._cache.recomputed_tokens if self._cache is not None else 0


def _digest(weights: LoraWeights) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(weights.arrays.items()):
        digest.update(name.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _about(export: Export, config: SlotConfig, opened: Opened) -> About:
    return About(
        model=export.name,
        engine="slot",
        provider=opened.provider.name,
        slots=opened.sizes.slots,
        context_tokens=opened.sizes.max_len,
        kv_bytes=opened.slab.size_bytes,
        threads=opened.threads,
        # That rows and cuts change no bit was shown for the CPU's kernels; nobody has seen it on a device.
        determinism=config.determinism if opened.provider.is_host else "relaxed",
        fallbacks=opened.fallbacks,
        cache_limit_bytes=opened.sizes.cache_bytes,
    )
