"""A pool grows when its replica has more generations than slots."""

import asyncio
import time

import httpx
import pytest

from tests.cluster.conftest import Service

pytestmark = pytest.mark.cluster

LIMIT_S = 60.0


async def keep_busy(service: Service, until: asyncio.Event) -> list[int]:
    """Eight callers that ask again and again; the status of every answer."""
    body = {"model": "growing", "max_tokens": 40, "ignore_eos": True, "messages": [{"role": "user", "content": "x"}]}
    statuses: list[int] = []

    async def caller(client: httpx.AsyncClient) -> None:
        while not until.is_set():
            statuses.append((await client.post("/v1/chat/completions", json=body)).status_code)

    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        await asyncio.gather(*(caller(client) for _ in range(8)))
    return statuses


async def growing(service: Service) -> dict[str, dict[str, object]]:
    return await asyncio.to_thread(service.engines, "growing")


async def grow(service: Service) -> tuple[int, list[int]]:
    """How many replicas there were in the end, and what the callers got."""
    enough = asyncio.Event()
    load = asyncio.ensure_future(keep_busy(service, enough))
    give_up_s = time.monotonic() + LIMIT_S
    while len(engines := await growing(service)) < 2 and time.monotonic() < give_up_s:  # noqa: ASYNC110 - asks over HTTP
        await asyncio.sleep(0.5)
    enough.set()
    return len(engines), await load


def test_a_busy_pool_gets_a_second_replica_and_no_caller_notices(service: Service) -> None:
    replicas, statuses = asyncio.run(grow(service))
    assert replicas == 2
    assert set(statuses) == {200}
