"""A worker process as a side. A peer that cannot start says why; one that hangs is ended at its deadline."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.engine.side import Place
from bench.engine.work import Answers, Work, read_answers, to_line

DEADLINE_S = 600.0
_ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """With which any interpreter finds this package by `-m`, where this project is not installed."""
    return {**os.environ, "PYTHONPATH": str(_ROOT)}


class PeerMissing(Exception):
    """A side cannot run here; the words say why."""


class Peer:
    """Side `name` in a process of its own, under `python`. Raises PeerMissing."""

    def __init__(self, name: str, place: Place, python: Path = Path(sys.executable)) -> None:
        self.name = name
        sizes = (place.threads, place.streams, place.max_len)
        command = [str(python), "-m", "bench.engine.worker", name, str(place.model), *map(str, sizes)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment(),
            )
        except OSError as error:
            raise PeerMissing(f"{python} cannot be run ({error.strerror})") from error
        try:
            self._line()
        except RuntimeError as error:
            self.close()
            raise PeerMissing(str(error)) from error

    def run(self, work: Work) -> Answers:
        """Raises RuntimeError if the worker fails, ends or takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.write(to_line(work) + "\n")
        self._process.stdin.flush()
        return read_answers(self._line())

    def close(self) -> None:
        """End the process. Idempotent."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        timer = threading.Timer(DEADLINE_S, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise RuntimeError(f"{self.name}: the worker ended with status {self._process.wait()}")
        error = json.loads(line).get("error")
        if error:
            raise RuntimeError(f"{self.name}: {error}")
        return line


@contextmanager
def peers(wanted: dict[str, tuple[Place, Path]], warm: Work) -> Iterator[tuple[list[Peer], dict[str, str]]]:
    """Those of `wanted` (name: place and interpreter) that can do `warm`, and why each of the others cannot."""
    running, missing = [], {}
    with ExitStack() as stack:
        for name, (place, python) in wanted.items():
            try:
                peer = Peer(name, place, python)
                stack.callback(peer.close)
                peer.run(warm)
            except (PeerMissing, RuntimeError) as error:
                missing[name] = str(error)
            else:
                running.append(peer)
        yield running, missing
