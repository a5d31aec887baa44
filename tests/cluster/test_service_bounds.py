"""What the real service does with clients that leave, with too much work, and with bodies that are too large."""

import asyncio
import json
import time

import httpx
import pytest

from tests.cluster.conftest import MODEL, Service

pytestmark = pytest.mark.cluster

CLIENTS = 200
WAVE = 50  # below the pool's bound of 8 + 64


async def leave_mid_stream(port: int, wave: int) -> None:
    """`wave` clients that read the head of their stream and go away."""
    messages = [{"role": "user", "content": "Count to a thousand."}]
    body = json.dumps(
        {"model": MODEL, "messages": messages, "max_tokens": 2000, "stream": True, "ignore_eos": True}
    ).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: shoal\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + body)
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert first.startswith(b"HTTP/1.1 200"), first
        writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(wave)))


def wait_until_idle(service: Service, model: str, limit_s: float = 30.0) -> int:
    """Slots in use when they reached 0, or after `limit_s`."""
    give_up_s = time.monotonic() + limit_s
    while (used := service.slots_used(model)) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return used


def test_two_hundred_clients_that_leave_mid_stream_leave_no_slot_in_use(service: Service) -> None:
    for _ in range(CLIENTS // WAVE):
        asyncio.run(leave_mid_stream(service.port, WAVE))
        assert wait_until_idle(service, MODEL) == 0
    queued = [int(str(e["queued"])) for e in service.engines(MODEL).values()]
    assert queued == [0]


def test_past_the_bound_a_caller_gets_429_with_retry_after(service: Service) -> None:
    async def crowd() -> list[httpx.Response]:
        body = {"model": "tiny", "max_tokens": 40, "messages": [{"role": "user", "content": "x" * 40}]}
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(6)))

    answers = asyncio.run(crowd())
    refused = [answer for answer in answers if answer.status_code == 429]
    assert sorted({answer.status_code for answer in answers}) == [200, 429]
    assert len(refused) == 4  # one slot and one place in the queue
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert refused[0].json()["error"]["type"]


def test_a_body_over_the_limit_is_refused_with_413(service: Service) -> None:
    answer = httpx.post(f"{service.url}/v1/messages", content=b" " * 70_000, timeout=30)
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "request_too_large"


def test_a_prompt_over_the_context_is_refused_in_the_words_that_clients_parse(service: Service) -> None:
    long = {"role": "user", "content": "1 " * 10_000}
    answer = httpx.post(f"{service.url}/v1/messages", json={"max_tokens": 5, "messages": [long]}, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("prompt is too long: ")


def test_an_unknown_model_is_404_with_what_there_is(service: Service) -> None:
    body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 404
    assert MODEL in answer.json()["error"]["message"]
