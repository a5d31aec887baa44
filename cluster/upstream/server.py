"""The upstream on a port: opened, and closed with every connection and every answer that is under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.upstream.connection import Connection
from cluster.upstream.ledger import Ledger
from cluster.upstream.script import Script
from cluster.upstream.service import Service
from replicas.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Upstream:
    """A running upstream. `service.script` may be set to another script, in the upstream's own thread."""

    url: str
    service: Service
    ledger: Ledger


@asynccontextmanager
async def serving(
    script: Script, host: str = "127.0.0.1", port: int = 0, record: Path | None = None
) -> AsyncIterator[Upstream]:
    """An upstream for as long as the context lasts; port 0: a free one. Raises SettingsError, Unavailable."""
    ledger = Ledger(record)
    service, live = Service(script, ledger), set[Connection]()
    try:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(service, ledger, live), host, port, backlog=1024)
    except OSError as error:
        ledger.close()
        raise Unavailable(f"port {port} on {host}", f"{error.strerror}; choose another with --port") from error
    try:
        bound = server.sockets[0].getsockname()[1]
        yield Upstream(f"http://{f'[{host}]' if ':' in host else host}:{bound}", service, ledger)
    finally:
        server.close()
        connections = list(live)
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.ended()
        ledger.close()
