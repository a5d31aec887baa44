"""How many slots, how long, and how much prefix cache: from the memory that is free before the model is loaded.

Weights (twice where the model has adapters) and a reserve are set aside first. Of the rest a quarter is for KV that
outlives its row (the prefix cache, and copies of rows that gave way), and what is left holds as many
full slots as fit, so that an engine that sized itself never runs out of memory, however long the conversations get.
What the operator set is kept: a length that no slot can have is refused with the figures. More slots than fit are
refused on a device, whose memory is taken at once; on the CPU pages are committed as rows fill, so they are allowed
and logged.
"""

import logging
from dataclasses import dataclass

from replicas.adapters import adapters_of
from replicas.errors import EngineFailed
from replicas.export import Export
from replicas.weights import weight_files

_logger = logging.getLogger(__name__)

MOST_SLOTS = 32
"""The most slots that an engine takes by itself; the calibration may find that fewer are enough."""
SPARE_ROWS = 1
"""Rows beside the slots, for exchanging two of them."""
DEFAULT_MAX_LEN = 4096
"""A slot's tokens where nothing else is said and memory allows: enough for an agent's prompt and its history."""

_LEAST_TOKENS = 512  # shorter slots are of no use; an engine refuses to start instead of choosing them
# Measured on the bundled model: 204 MB in memory for 154 MB on disk (weights repacked for the kernels, the graph).
_WEIGHTS_FACTOR, _GRAPH_BYTES = 1.1, 64 << 20
_RESERVE_RATIO, _LEAST_RESERVE_BYTES = 0.1, 256 << 20  # activations, logits, tokenizer, everybody else
_CACHE_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class Memory:
    """Free bytes of the host, and of the device where the KV cache lies.

    `device_bytes` None: the KV cache lies in host memory, or nobody tells how much the device has; the host's counts.
    """

    host_bytes: int
    device_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator set; None is the engine's choice. `most_slots` bounds that choice."""

    slots: int | None = None
    max_len: int | None = None
    cache_bytes: int | None = None
    most_slots: int = MOST_SLOTS


@dataclass(frozen=True, slots=True)
class Sizes:
    """Slots of `max_len` tokens each, and the most bytes that the prefix cache and the copies of rows that gave way
    may hold together."""

    slots: int
    max_len: int
    cache_bytes: int

    @property
    def copy_bytes(self) -> int:
        """Of `cache_bytes`, for copies."""
        return self.cache_bytes // 4

    @property
    def prefix_bytes(self) -> int:
        """Of `cache_bytes`, for the prefix cache."""
        return self.cache_bytes - self.copy_bytes


def sizes_of(export: Export, memory: Memory, wanted: Wanted) -> Sizes:
    """The sizes of an engine on `export`. Raises EngineFailed with the figures if it can never fit."""
    is_host = memory.device_bytes is None
    room = _after_weights(export, memory.host_bytes if memory.device_bytes is None else memory.device_bytes)
    cache = wanted.cache_bytes
    if cache is None:
        cache = int(_CACHE_RATIO * (room if is_host else max(0, memory.host_bytes - _reserve(memory.host_bytes))))
    kv_bytes = max(0, room - cache) if is_host else room
    tokens = kv_bytes // export.kv_token_bytes
    max_len = _length(export, wanted, tokens)
    fitting = tokens // max_len - SPARE_ROWS
    if wanted.slots is None:
        slots = max(1, min(fitting, wanted.most_slots))
    else:
        slots = wanted.slots
        _check_slots(export, slots, fitting, max_len, is_host=is_host)
    sizes = Sizes(slots, max_len, cache)
    _logger.info(
        "sizes chosen: %d slots of %d tokens, %.2f GiB of KV cache if all are full, prefix cache up to %.2f GiB",
        *(slots, max_len, _gib((slots + SPARE_ROWS) * max_len * export.kv_token_bytes), _gib(cache)),
        extra={"model": export.name, "free_bytes": memory.host_bytes, "device_free_bytes": memory.device_bytes},
    )
    return sizes


def _length(export: Export, wanted: Wanted, tokens: int) -> int:
    """Tokens a slot. The operator's length, or the default, shortened to what memory for `tokens` allows."""
    rows = (wanted.slots or 1) + SPARE_ROWS
    most = export.max_mask_tokens
    length = min(wanted.max_len or DEFAULT_MAX_LEN, most)
    if wanted.max_len is None:
        length = max(min(length, tokens // rows), min(_LEAST_TOKENS, most))
    if tokens < length * (1 + SPARE_ROWS):
        slot, free = (_gib(count * export.kv_token_bytes) for count in (length, tokens))
        raise EngineFailed(
            f"{export.name} does not fit: a slot of {length} tokens takes {slot:.2f} GiB of KV cache, one and a spare "
            f"row are needed, and {free:.2f} GiB is free beside its weights and the prefix cache; {_fix(tokens)}"
        )
    return length


def _fix(tokens: int) -> str:
    possible = tokens // (1 + SPARE_ROWS)
    shorter = f"set context_tokens to {possible} or less, or " if possible >= _LEAST_TOKENS else ""
    return f"{shorter}give it more memory, or a smaller model"


def _check_slots(export: Export, slots: int, fitting: int, max_len: int, *, is_host: bool) -> None:
    if slots <= fitting:
        return
    words = f"{slots} slots of {max_len} tokens do not fit into the free memory, {max(fitting, 0)} do"
    if not is_host:
        raise EngineFailed(f"{export.name}: {words}; set slots or context_tokens lower")
    _logger.warning("%s; long conversations in all of them at once can exhaust it", words, extra={"model": export.name})


def _after_weights(export: Export, free_bytes: int) -> int:
    # The first request for an adapter opens the model a second time (docs/decisions/0007).
    sessions = 2 if adapters_of(export.directory) else 1
    opened = int(_WEIGHTS_FACTOR * weight_bytes(export)) + _GRAPH_BYTES
    return max(0, free_bytes - sessions * opened - _reserve(free_bytes))


def _reserve(free_bytes: int) -> int:
    return max(_LEAST_RESERVE_BYTES, int(_RESERVE_RATIO * free_bytes))


def weight_bytes(export: Export) -> int:
    """Bytes of the graph and of the weights beside it."""
    return export.model_file.stat().st_size + sum(weight_files(export.model_file).values())


def _gib(size_bytes: int) -> float:
    return size_bytes / (1 << 30)
