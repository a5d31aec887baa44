"""A thread of one's own, for a library that wants all its calls, the first included, from the same thread."""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


class Owner:
    """Makes calls one after the other, in a daemon thread: a replica that dies does not wait for it."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, call: Callable[[], _T]) -> "Future[_T]":
        """Have `call` made when those before it are done."""
        future: Future[_T] = Future()

        def made() -> None:
            try:
                future.set_result(call())
            except Exception as error:
                _logger.info("a call failed; its caller gets the error", exc_info=True)
                future.set_exception(error)

        self._calls.put(made)
        return future

    def close(self) -> None:
        """End the thread after the calls that were asked for, and wait for it unless called on it. Idempotent."""
        self._calls.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
