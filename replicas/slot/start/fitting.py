"""What an engine runs with on this machine: its sizes by memory, its threads and batch ceiling by measurement.

What the operator set is kept and not measured. A measurement is kept in a folder under the model's, the machine's and
the runtime's identity, so it costs its seconds once; without a folder nothing is measured: physical cores, and as many
slots as fit up to a number that pays wherever it was measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnxruntime as ort

from replicas.errors import EngineFailed
from replicas.export import Export
from replicas.host import Host
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.forward import Forward
from replicas.slot.place import Provider
from replicas.slot.start import devices, kept
from replicas.slot.start.calibration import CONTEXT_TOKENS, Calibration, calibrate
from replicas.slot.start.sizing import MOST_SLOTS, Memory, Sizes, Wanted, sizes_of, weight_bytes

_VERSION = 1  # of what is measured; another one measures again
_UNMEASURED_SLOTS = 16  # the bundled model on two cores: 16 rows give 4 times the tokens/s of one, 32 give 5 times
_LIGHT_BYTES = 1 << 30  # weights of models that may be open more than once

OpenSession = Callable[[int], ort.InferenceSession]
"""A session of the model on so many threads."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to fit: the model, where it runs, what the operator set. `folder` None: measure nothing.

    `memory_share` is the part of the host's memory that is this engine's to choose by: pages are committed late, so an
    engine that starts beside others finds more free than there will be.
    """

    export: Export
    provider: Provider
    wanted: Wanted
    threads: int | None = None
    folder: Path | None = None
    memory_share: float = 1.0
    is_spinning: bool = True


@dataclass(frozen=True, slots=True)
class Fit:
    """Threads of the session, and the sizes of the engine. `calibration` None: nothing was measured."""

    threads: int
    sizes: Sizes
    calibration: Calibration | None = None


def fitted(question: Question, open_session: OpenSession, host: Host | None = None) -> Fit:
    """Raises EngineFailed if the model can never fit, or cannot be opened."""
    host = host or Host()
    wanted = question.wanted
    sizes = _sizes(question, host)
    is_everything_set = question.threads is not None and wanted.slots is not None
    if question.folder is None or is_everything_set:
        most = _UNMEASURED_SLOTS if wanted.slots is None else sizes.slots
        return Fit(question.threads or host.physical_cores(), replace(sizes, slots=min(sizes.slots, most)))
    calibration = _calibration(question, question.folder, sizes.slots, open_session, host)
    most = calibration.batch_ceiling if wanted.slots is None else sizes.slots
    return Fit(calibration.threads, replace(sizes, slots=min(sizes.slots, most)), calibration)


def _sizes(question: Question, host: Host) -> Sizes:
    free_bytes, device_bytes = host.free_bytes(), devices.free_bytes(question.provider)
    share_bytes = min(free_bytes, int(question.memory_share * host.total_bytes()))
    try:
        return sizes_of(question.export, Memory(share_bytes, device_bytes), question.wanted)
    except EngineFailed:
        # More than its share, but perhaps the others are on other machines: the least that works, if that is free.
        return sizes_of(question.export, Memory(free_bytes, device_bytes), replace(question.wanted, most_slots=1))


def _calibration(question: Question, folder: Path, slots: int, open_session: OpenSession, host: Host) -> Calibration:
    """The kept one, or a new one."""
    counts = _thread_counts(question, host)
    rows = min(1 << (slots - 1).bit_length(), MOST_SLOTS)  # a little more or less memory is no other question
    identity = _identity(question, host, counts, rows)

    def opened(threads: int) -> Forward:
        session = open_session(threads)
        slab = KvSlab(question.export, rows, CONTEXT_TOKENS, question.provider)
        return Forward(session, question.export, slab, rows, CONTEXT_TOKENS)

    with kept.exclusive(folder):
        calibration = kept.load(folder, identity)
        if calibration is None:
            calibration = calibrate(opened, counts, rows)
            kept.save(folder, kept.Kept(identity, calibration))
    return calibration


def _thread_counts(question: Question, host: Host) -> tuple[int, ...]:
    """The counts to try, the default first. On a device the host's threads hardly matter."""
    physical, usable = host.physical_cores(), host.usable_cores()
    if question.threads is not None:
        return (question.threads,)
    if not question.provider.is_host or weight_bytes(question.export) > _LIGHT_BYTES:
        return (physical,)
    half = (physical // 2,) if physical >= 8 else ()  # many cores can be more than the memory feeds
    return tuple(dict.fromkeys((physical, usable, *half)))


def _identity(question: Question, host: Host, counts: tuple[int, ...], rows: int) -> kept.Identity:
    file = question.export.model_file.stat()
    return {
        "version": _VERSION,
        "model": question.export.name,
        "graph_bytes": file.st_size,
        "graph_changed_ns": file.st_mtime_ns,
        "weight_bytes": weight_bytes(question.export),
        "processor": host.processor(),
        "usable_cores": host.usable_cores(),
        "threads_tried": " ".join(map(str, counts)),
        "rows": rows,
        "provider": question.provider.name,
        "is_spinning": question.is_spinning,
        "onnxruntime": ort.__version__,
    }
