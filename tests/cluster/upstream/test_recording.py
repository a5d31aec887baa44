"""What the upstream keeps: every byte, of whole requests and of broken ones, and what each of them cost."""

import base64
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.upstream.ledger import Entry, Ledger, Outcome
from tests.cluster.upstream.played import CHAT, HEADERS, MESSAGES, Played, body, playing

PRICED = "models: [{id: test, price: {input: 1, output: 10}, tokens_per_s: %s}]"
SLOW = PRICED % "20"
WHOLE_USD = (9 * 1 + 9 * 10) / 1e6


@pytest.fixture
def played() -> Iterator[Played]:
    with playing(PRICED % "null") as played:
        yield played


def raw_request(tail: bytes = b"") -> bytes:
    content = json.dumps(body()).encode() + tail
    lines = [f"POST {MESSAGES} HTTP/1.1", "Host: x", "X-Api-Key: canary-key", "anthropic-version: 1"]
    lines += ["content-type: application/json", f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


def connected(played: Played) -> socket.socket:
    host, port = played.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_a_request_is_kept_byte_by_byte(played: Played) -> None:
    request = raw_request(b"   ")
    with connected(played) as client:
        client.sendall(request)
        assert client.recv(17) == b"HTTP/1.1 200 OK\r\n"[:17]
        [entry] = played.ended()
    assert entry.raw == request
    assert (entry.headers["x-api-key"], entry.model, entry.status) == ("canary-key", "test", 200)


def test_requests_in_one_go_are_kept_apart(played: Played) -> None:
    with connected(played) as client:
        client.sendall(raw_request() + raw_request(b" "))
        entries = played.ended(lambda entries: len(entries) == 2)
    assert [bytes(entry.raw) for entry in entries] == [raw_request(), raw_request(b" ")]


@pytest.mark.parametrize("cut", [5, 60, -3])
def test_what_was_sent_of_a_request_that_broke_off_is_kept(played: Played, cut: int) -> None:
    with connected(played) as client:
        client.sendall(raw_request()[:cut])
        played.begun()
    [entry] = played.ended()
    assert (bytes(entry.raw), entry.outcome, entry.billed_usd) == (raw_request()[:cut], Outcome.BROKEN_OFF, 0)


def test_what_is_no_http_is_kept_and_refused(played: Played) -> None:
    with connected(played) as client:
        client.sendall(b"canary in the dark\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 400"
    [entry] = played.ended()
    assert (bytes(entry.raw), entry.outcome) == (b"canary in the dark\r\n\r\n", Outcome.BROKEN_OFF)


def test_a_body_in_chunks_is_read(played: Played) -> None:
    content = json.dumps(body()).encode()
    headers = {**HEADERS, "content-type": "application/json"}
    response = httpx.post(f"{played.url}{MESSAGES}", content=iter([content[:20], content[20:]]), headers=headers)
    assert response.json()["stop_reason"] == "end_turn"
    assert played.entries()[0].body == content


def test_a_client_that_waits_to_be_told_to_go_on_is_told(played: Played) -> None:
    head, _, content = raw_request().partition(b"\r\n\r\n")
    with connected(played) as client:
        client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(content)
        assert client.recv(15) == b"HTTP/1.1 200 OK"


def test_closing_ends_what_is_under_way() -> None:
    with playing("faults: [silence]") as played:
        client = connected(played)
        client.sendall(raw_request())
        entries = played.begun()
    with client:
        assert client.recv(1) == b""
    assert [entry.outcome for entry in entries] == [Outcome.CLIENT_GONE]


def test_the_requests_can_be_read_and_forgotten(played: Played) -> None:
    httpx.post(f"{played.url}{MESSAGES}", json=body(), headers=HEADERS)
    tree = httpx.get(f"{played.url}/_upstream/requests").json()
    [request] = tree["requests"]
    assert b"test-key" in base64.b64decode(request["raw"])
    assert (tree["count"], tree["dropped"], request["body"], request["outcome"]) == (1, 0, body(), "answered")
    assert "raw" not in httpx.get(f"{played.url}/_upstream/requests?raw=false").json()["requests"][0]
    httpx.delete(f"{played.url}/_upstream/requests")
    assert httpx.get(f"{played.url}/_upstream/requests").json()["requests"] == []


def test_a_file_has_a_line_for_each_request_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with playing(record=path) as played:
        for at in (MESSAGES, CHAT):
            httpx.post(f"{played.url}{at}", json=body(at), headers=HEADERS)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["target"] for line in lines] == [MESSAGES, CHAT]
    assert b"Name the seven" in base64.b64decode(lines[1]["raw"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize(
    ("fault", "usd"),
    [
        ("slow_start", WHOLE_USD),
        ("wrong_usage", WHOLE_USD),
        ("529", 0),
        ("reset", 0),
        ("error_event", 0),
        ("{kind: unfinished, after_tokens: 4}", (9 + 4 * 10) / 1e6),
        ("{kind: cut, after_tokens: 4}", (9 + 5 * 10) / 1e6),
    ],
)
def test_each_request_is_billed_for_what_was_written(played: Played, path: str, fault: str, usd: float) -> None:
    headers = {**HEADERS, "x-upstream-fault": fault.replace("slow_start", "{kind: slow_start, delay_s: 0}")}
    try:
        httpx.post(f"{played.url}{path}", json=body(path, stream=True), headers=headers)
    except httpx.TransportError:
        assert fault.startswith(("reset", "{kind: cut"))
    [entry] = played.ended()
    assert entry.billed_usd == pytest.approx(usd)


def test_a_client_that_leaves_ends_its_answer_and_pays_for_what_it_got() -> None:
    with playing(SLOW) as played:
        with httpx.stream("POST", f"{played.url}{MESSAGES}", json=body(stream=True), headers=HEADERS) as response:
            next(line for line in response.iter_lines() if "text_delta" in line)
        [entry] = played.ended()
    assert entry.outcome is Outcome.CLIENT_GONE
    assert 1 <= entry.tokens_sent < 9
    assert entry.billed_usd == pytest.approx((9 + entry.tokens_sent * 10) / 1e6)


def test_a_silent_upstream_notices_that_its_client_gave_up(played: Played) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{played.url}{MESSAGES}", json=body(), headers={**HEADERS, "x-upstream-fault": "silence"}, timeout=0.2
        )
    [entry] = played.ended()
    assert (entry.outcome, entry.fault, entry.status) == (Outcome.CLIENT_GONE, "silence", None)


def test_the_oldest_are_forgotten_past_the_limit_and_counted() -> None:
    ledger = Ledger(limit_bytes=25)

    def ended() -> Entry:
        entry = ledger.begin()
        entry.raw += b"x" * 10
        ledger.end(entry, Outcome.ANSWERED)
        return entry

    entries = [ended() for _ in range(4)]
    assert ledger.entries() == entries[2:]
    assert ledger.dropped == 2
