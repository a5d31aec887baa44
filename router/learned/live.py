"""The model file of a running service: loaded anew when it changes, looked at every few seconds at most.

It is read by a thread of its own, and nobody who asks for the model waits for that. A file that is bad keeps the model
before it, and the log says so once; `problem` says so as long as it is bad.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from replicas.errors import SettingsError
from router.learned.model import Model, read_model

logger = logging.getLogger(__name__)

LOOK_S = 2.0
_Mark: TypeAlias = tuple[int, int, int]


def in_thread(work: Callable[[], None]) -> None:
    """Have `work` done soon."""
    threading.Thread(target=work, name="look-at-model", daemon=True).start()


class LiveModel:
    """The newest good model of `path`. It is looked at here; later looks are left to `aside`. For any thread."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
        aside: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        self._path = path
        self._clock = clock
        self._aside = aside
        self._lock = threading.Lock()
        self._looked_s = clock()
        self._mark: _Mark | None = None
        self._model: Model | None = None
        self.problem = ""
        """What is wrong with the file as it was looked at last; empty: nothing."""
        self._look()

    def current(self) -> Model | None:
        """The model; None as long as there has been no good file. Never waits."""
        now_s = self._clock()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._aside(self._look)
        return self._model

    def _look(self) -> None:
        with self._lock:
            self._follow()

    def _follow(self) -> None:
        mark = _mark_of(self._path)
        if mark == self._mark and (mark is not None or self.problem):
            return
        self._mark = mark
        try:
            self._model = read_model(self._path)
        except SettingsError as error:
            self.problem = str(error)
            kept = "the one before it stays" if self._model is not None else "the rules decide"
            logger.warning("no model for learned routing, %s: %s", kept, error)
        else:
            self.problem = ""
            logger.info("learned routing predicts %s by %s", self._model.file.local, self._path)


def _mark_of(path: Path) -> _Mark | None:
    """What changes when a file does; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
