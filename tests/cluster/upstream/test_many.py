"""Many requests at once under mixed faults: each of them ends, and is in the ledger as it ended."""

import asyncio
from collections import Counter

import httpx

from cluster.upstream.ledger import Outcome
from tests.cluster.upstream.played import CHAT, HEADERS, MESSAGES, ROUTER, Played, body, playing

REQUESTS = 300
SCRIPT = """
seed: 3
models: [{id: test, price: {input: 1, output: 5}, tokens_per_s: 2000}]
faults:
  - {kind: status, status: 429, probability: 0.1}
  - {kind: reset, probability: 0.1}
  - {kind: cut, probability: 0.1}
  - {kind: error_event, probability: 0.1}
  - {kind: duplicates, probability: 0.1}
  - {kind: slow_start, delay_s: 0.02, probability: 0.1}
"""


async def _all(played: Played) -> Counter[str]:
    """How the clients saw it end: a status, or "broken"."""
    async with httpx.AsyncClient(base_url=played.url, headers=HEADERS, timeout=60) as client:

        async def one(number: int) -> str:
            path = (MESSAGES, CHAT, ROUTER)[number % 3]
            try:
                response = await client.post(path, json=body(path, stream=number % 2 == 0))
            except httpx.TransportError:
                return "broken"
            return str(response.status_code)

        return Counter(await asyncio.gather(*(one(number) for number in range(REQUESTS))))


def test_every_request_of_many_ends_and_is_accounted_for() -> None:
    with playing(SCRIPT) as played:
        seen = asyncio.run(_all(played))
        entries = played.ended(lambda entries: len(entries) == REQUESTS)
    statuses = Counter(str(entry.status) for entry in entries if entry.outcome is Outcome.ANSWERED)
    assert sum(seen.values()) == REQUESTS
    assert seen["broken"] == sum(entry.outcome is Outcome.CUT for entry in entries) > 20
    assert {status: seen[status] for status in ("200", "429")} == statuses
    free = {"status", "reset", "error_event"}
    assert all((entry.billed_usd == 0) is (entry.fault in free) for entry in entries)
