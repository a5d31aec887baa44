"""What the engine tests share: requests, a sink that waits, engines to run them on."""

import atexit
import shutil
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from replicas.engine import Chunk, Final, Generation, Message, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from tests.models import tiny_export

WAIT_S = 60.0
"""Only a broken engine lets a test wait this long."""


def kept_folder() -> Path:
    """A folder for what is made once for the whole run, which takes it away at its end."""
    folder = mkdtemp(prefix="shoal-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def tiny() -> Export:
    """The tiny model's export, made once for the whole run."""
    return Export.load(tiny_export(kept_folder() / "tiny"))


def slot_engine(slots: int = 4, *, queue_limit: int = 64, prefill_chunk: int = 64, max_len: int = 256) -> SlotEngine:
    config = SlotConfig(slots=slots, max_len=max_len, threads=1, prefill_chunk=prefill_chunk, queue_limit=queue_limit)
    return SlotEngine(tiny(), config)


def asked(id_: str = "one", text: str = "the user and the system", **sampling: object) -> Generation:
    """A request for the chat template. Sampling as in `Sampling`, `max_tokens` 16 unless said."""
    return Generation(id_, (Message("user", text),), sampled(**sampling))


def sampled(**fields: object) -> Sampling:
    return replace(Sampling(max_tokens=16), **fields)  # type: ignore[arg-type]  # fields by name


class Inbox:
    """A sink that keeps its chunks. With `gate` set to an Event it holds up the engine's thread until that is set."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.chunks: list[Chunk] = []
        self.has_begun = threading.Event()
        self.is_done = threading.Event()
        self._gate = gate

    def __call__(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        if chunk.final is not None:
            self.is_done.set()
        self.has_begun.set()
        if self._gate is not None:
            assert self._gate.wait(WAIT_S)

    def begun(self) -> None:
        assert self.has_begun.wait(WAIT_S)

    def final(self) -> Final:
        assert self.is_done.wait(WAIT_S)
        final = self.chunks[-1].final
        assert final is not None
        return final

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)
