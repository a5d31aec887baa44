"""Where the model runs: CUDA, else DirectML or WebGPU, else the CPU.

That a provider is in the build says nothing of the machine, so each candidate is tried: one node (devices.py), then the
session, the KV slab in its memory and one step. What fails is logged and kept with its reason and the next one is
tried; a provider that the operator named is never replaced. Only the CPU is exercised by this project's tests: the
device path (slab in device memory, rows moved by a graph) is the same code with another device name, and its moves
are tested on the CPU.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import onnxruntime as ort

from replicas.errors import EngineFailed, SettingsError
from replicas.export import Export
from replicas.lora import add_lora, find_projections
from replicas.slot.model.graph import engine_graph, load_graph
from replicas.slot.model.paging import release_pages
from replicas.slot.model.rotary import shorten_caches
from replicas.slot.place import CPU, PREFERENCE, Provider
from replicas.slot.start.devices import require_device

SPIN_US = 700
"""How long an idle thread waits actively, in microseconds. The loop takes 200 to 1,300 between two runs."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


def candidates(wanted: str | None, available: Sequence[str]) -> tuple[Provider, ...]:
    """Providers to try, best first. `available` is onnxruntime's list. Raises SettingsError for an unusable one."""
    usable = tuple(provider for provider in PREFERENCE if provider.ort_name in available)
    if wanted is None:
        return usable
    named = tuple(provider for provider in usable if provider.name == wanted)
    if not named:
        have = ", ".join(provider.name for provider in usable)
        raise SettingsError(f"provider {wanted!r} is not in this onnxruntime, which has: {have}")
    return named


def available() -> tuple[str, ...]:
    """The providers in this build of onnxruntime, by its own names."""
    return tuple(ort.get_available_providers())


@dataclass(frozen=True, slots=True)
class Working(Generic[_T]):
    """A provider, what was made on it, and why each better one was passed over: (name, reason)."""

    provider: Provider
    made: _T
    fallbacks: tuple[tuple[str, str], ...]


def first_working(
    providers: Sequence[Provider],
    attempt: Callable[[Provider], _T],
    require: Callable[[Provider], None] = require_device,
) -> Working[_T]:
    """The first provider that `require` lets pass and on which `attempt` succeeds.

    Raises EngineFailed with every reason.
    """
    fallbacks: list[tuple[str, str]] = []
    for provider in providers:
        try:
            require(provider)
            made = attempt(provider)
        except Exception as error:
            is_known = isinstance(error, EngineFailed)
            reason = error.reason if isinstance(error, EngineFailed) else " ".join(str(error).split())
            _logger.warning("provider %s does not work: %s", provider.name, reason, exc_info=not is_known)
            fallbacks.append((provider.name, reason))
        else:
            _logger.info("provider chosen", extra={"provider": provider.name})
            return Working(provider, made, tuple(fallbacks))
    raise EngineFailed("no provider can run the model; " + "; ".join(f"{name}: {why}" for name, why in fallbacks))


def open_session(
    export: Export,
    provider: Provider,
    threads: int,
    *,
    is_spinning: bool,
    with_lora: bool = False,
    max_len: int | None = None,
) -> ort.InferenceSession:
    """The model on `provider`, with the CPU for what that cannot do. `with_lora` adds the terms of an adapter.

    `max_len` is the most tokens that a slot will hold, None the model's context.

    The graph is edited each time: 2 ms on the bundled model, 25 ms with LoRA, against 250 ms for the session.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if is_spinning else "0")
    # Threads wait actively within a run and up to the next one, and give up then: the other session's threads want the
    # cores. Without an end, steps that alternate between base and adapter took 1.7 times as long; with none between
    # runs, steps of one session took a twentieth longer.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    # The graph comes from memory; its weights are found by this folder.
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, str(export.model_file.parent))
    graph = _edited(export, max_len or export.context_tokens, with_lora=with_lora)
    names = list(dict.fromkeys((provider.ort_name, CPU.ort_name)))
    # Its own fallback would open the model on the CPU and print the reason instead of raising it.
    session = ort.InferenceSession(graph, options, providers=names, enable_fallback=False)
    del graph  # tens of megabytes for a large model, to be given back below
    if session.get_providers()[0] != provider.ort_name:
        raise EngineFailed(f"onnxruntime fell back to {session.get_providers()[0]}")
    for file in export.model_file.parent.glob(f"{export.model_file.name}*"):
        release_pages(file)
    return session


def _edited(export: Export, max_len: int, *, with_lora: bool) -> bytes:
    model = load_graph(export.model_file)
    shorten_caches(model.graph, max_len)
    if with_lora:
        add_lora(model.graph, find_projections(model.graph, export.kv_heads * export.head_size), export.names.input_ids)
    return engine_graph(model, export.names.logits)
