"""Where the model runs: CUDA, else DirectML or WebGPU, else the CPU.

That a provider is in the build says nothing of the machine, so each candidate is tried: open the session there, put
the KV slab into its memory and run one step. What fails is logged with its reason and the next one is tried; a
provider that the operator named is never replaced. Only the CPU is exercised by this project's tests: the device path
(slab in device memory, rows moved by a graph) is the same code with another device name, and its moves are tested on
the CPU.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import onnxruntime as ort

from replicas.errors import EngineFailed, SettingsError
from replicas.export import Export
from replicas.slot.graph import engine_graph, load_graph
from replicas.slot.place import CPU, PREFERENCE, Provider

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


def first_working(providers: Sequence[Provider], attempt: Callable[[Provider], _T]) -> tuple[Provider, _T]:
    """The first provider on which `attempt` succeeds, and what it made. Raises EngineFailed with every reason."""
    reasons = []
    for provider in providers:
        try:
            made = attempt(provider)
        except Exception as error:
            _logger.warning("provider does not work", extra={"provider": provider.name}, exc_info=True)
            reasons.append(f"{provider.name}: {error}")
        else:
            _logger.info("provider chosen", extra={"provider": provider.name})
            return provider, made
    raise EngineFailed("no provider can run the model; " + "; ".join(reasons))


def open_session(export: Export, provider: Provider, threads: int, *, is_spinning: bool) -> ort.InferenceSession:
    """The model on `provider`, with the CPU for what that cannot do."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if is_spinning else "0")
    # The graph comes from memory; its weights are found by this folder.
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, str(export.model_file.parent))
    graph = engine_graph(load_graph(export.model_file), export.names.logits)
    names = list(dict.fromkeys((provider.ort_name, CPU.ort_name)))
    session = ort.InferenceSession(graph, options, providers=names)
    if session.get_providers()[0] != provider.ort_name:
        raise EngineFailed(f"onnxruntime fell back to {session.get_providers()[0]}")
    return session
