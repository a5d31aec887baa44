"""Which replicas a deployment has, as this process knows; and how a call names one of them.

Ray builds its router (see `replica_router`) inside the calling process; the router announces every change here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """Names one replica, and the client that calls it."""

    replica_id: str
    client_id: str


Listener = Callable[[frozenset[str]], None]


class ReplicaWatch:
    """The replicas of one deployment as this process knows them, and who wants to hear of a change."""

    def __init__(self) -> None:
        self.replica_ids: frozenset[str] = frozenset()
        self._listeners: list[tuple[asyncio.AbstractEventLoop, Listener]] = []

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` on the running loop now and at every change."""
        self._listeners.append((asyncio.get_running_loop(), listener))
        listener(self.replica_ids)

    def unsubscribe(self, listener: Listener) -> None:
        """Call `listener` no more."""
        self._listeners = [(loop, known) for loop, known in self._listeners if known != listener]

    def announce(self, replica_ids: frozenset[str]) -> None:
        """Replicas changed; may be called from any thread."""
        if replica_ids == self.replica_ids:
            return
        self.replica_ids = replica_ids
        for loop, listener in self._listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(listener, replica_ids)


_watches: dict[str, ReplicaWatch] = {}


def watch(deployment: str) -> ReplicaWatch:
    """The watch of `deployment` in this process."""
    return _watches.setdefault(deployment, ReplicaWatch())
