"""Every way in which a cloud fails is an error of its kind, in bounded time; no prompt or key is told to a log."""

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from cluster.upstream.ledger import Outcome
from replicas.cloud.errors import CloudBroken, CloudBusy, CloudDenied, CloudError, CloudRefused, CloudSilent
from replicas.cloud.refusal import retry_after_s
from replicas.cloud.release import CloudKind
from replicas.errors import ContextOverflow, DeadlineExceeded
from tests.cluster.upstream.played import QUESTION, playing
from tests.replicas.clouds import KEY, KINDS, PATHS, ROUTER, asked, cleared, cloud, endpoint, question, told

BOTH = pytest.mark.parametrize("kind", KINDS)
FORMS = pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "whole"])


@BOTH
@FORMS
@pytest.mark.parametrize(
    ("fault", "kind_of_error", "status"),
    [
        ("429", CloudBusy, 429),
        ("503", CloudBusy, 503),
        ("529", CloudBusy, 529),
        ("500", CloudBroken, 502),
        ("504", CloudBroken, 502),
        ("408", CloudBroken, 502),
        ("401", CloudDenied, 502),
        ("402", CloudDenied, 502),
        ("403", CloudDenied, 502),
        ("404", CloudDenied, 502),
        ("400", CloudRefused, 400),
        ("413", CloudRefused, 413),
        ("422", CloudRefused, 422),
        ("html", CloudBroken, 502),
        ("reset", CloudBroken, 502),
        ("cut", CloudBroken, 502),
        ("unfinished", CloudBroken, 502),
        ("malformed", CloudBroken, 502),
        ("{kind: error_event, status: 429}", CloudBusy, 429),
        ("{kind: error_event, status: 500}", CloudBroken, 502),
        ("{kind: html, status: 200}", CloudBroken, 502),
    ],
)
def test_every_fault_is_an_error_of_its_kind(
    kind: CloudKind, is_stream: bool, fault: str, kind_of_error: type[CloudError], status: int
) -> None:
    got = told(kind, f"faults: [{fault}]", is_stream=is_stream)
    assert type(got.error) is kind_of_error
    assert got.error.status == status
    assert QUESTION.startswith(got.text)
    assert got.text != QUESTION
    assert all(chunk.final is None for chunk in got.chunks)
    assert not got.spent.is_settled


@FORMS
def test_openrouters_error_in_the_middle_of_an_answer_is_told_by_its_code(is_stream: bool) -> None:
    got = told("openai", "faults: [error_event]", is_stream=is_stream, path=ROUTER)
    assert isinstance(got.error, CloudBusy)
    assert (got.error.status, got.error.reason) == (529, "Overloaded")


@BOTH
@pytest.mark.parametrize("fault", ["cut", "unfinished", "malformed", "error_event"])
def test_what_came_before_a_stream_broke_is_not_lost(kind: CloudKind, fault: str) -> None:
    got = told(kind, f"faults: [{{kind: {fault}, after_tokens: 5}}]")
    assert got.text == "Name the seven seas"
    assert got.spent.usage.generated == 5
    assert got.spent.usage.prompt == (9 if kind == "anthropic" else 0)


@BOTH
def test_a_busy_cloud_says_when_to_come_again(kind: CloudKind) -> None:
    waits = []
    for header in ("retry_after_s: 7", "retry_after_ms: 1500, retry_after_s: 7", "message: later"):
        got = told(kind, f"faults: [{{kind: status, status: 429, {header}}}]")
        assert isinstance(got.error, CloudBusy)
        waits.append((got.error.retry_after_s, got.error.reason == "later"))
    assert waits == [(7.0, False), (1.5, False), (None, True)]


def test_a_wait_may_be_a_date_and_nonsense_is_none() -> None:
    assert retry_after_s({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT"}) == 0.0
    far_off = retry_after_s({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"})
    assert far_off is not None
    assert far_off > 1e9
    assert [retry_after_s({"retry-after": text}) for text in ("soon", "-1", "nan", "1e400", "")] == [None] * 5


@BOTH
@FORMS
def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_parse(kind: CloudKind, is_stream: bool) -> None:
    got = told(kind, "models: [{id: test, context_tokens: 4}]", is_stream=is_stream)
    assert isinstance(got.error, ContextOverflow)
    assert str(got.error) == "prompt is too long: 9 tokens > 4 maximum"


@BOTH
def test_the_clouds_own_error_body_is_kept_for_the_caller(kind: CloudKind) -> None:
    with playing("faults: [{kind: status, status: 400, message: wrong field}]") as played:
        got = asyncio.run(asked(kind, cleared(kind, question(kind)), endpoint(played.url + PATHS[kind])))
    assert isinstance(got.error, CloudRefused)
    assert (str(got.error), '"message":"wrong field"' in got.error.body) == ("wrong field", True)


@BOTH
def test_who_is_turned_away_is_told_nothing_of_our_account(kind: CloudKind) -> None:
    got = told(kind, "faults: [{kind: status, status: 401, message: bad key of org-77}]")
    assert isinstance(got.error, CloudDenied)
    assert ("org-77" in str(got.error), "org-77" in got.error.reason) == (False, True)


@BOTH
@pytest.mark.parametrize(
    ("fault", "is_stream"), [("silence", True), ("silence", False), ("{kind: slow_tokens, delay_s: 60}", True)]
)
def test_the_deadline_ends_a_wait_at_any_point(kind: CloudKind, fault: str, is_stream: bool) -> None:
    async def late(url: str) -> object:
        sent = cleared(kind, question(kind, is_stream=is_stream), deadline_s=2.0)
        return (await asked(kind, sent, endpoint(url))).error

    with playing(f"faults: [{fault}]") as played:
        error = asyncio.run(late(played.url + PATHS[kind]))
        assert isinstance(error, DeadlineExceeded)
        assert [entry.outcome for entry in played.ended()] == [Outcome.CLIENT_GONE]


@BOTH
@pytest.mark.parametrize("fault", ["silence", "{kind: slow_tokens, delay_s: 60}"])
def test_a_stream_that_falls_silent_is_given_up_before_its_deadline(kind: CloudKind, fault: str) -> None:
    with playing(f"faults: [{fault}]") as played:
        at = endpoint(played.url + PATHS[kind], quiet_s=0.2)
        got = asyncio.run(asked(kind, cleared(kind, question(kind), deadline_s=100), at))
    assert isinstance(got.error, CloudSilent)
    assert got.error.reason == "nothing came for too long"


@BOTH
def test_an_answer_that_takes_its_time_as_a_whole_is_not_called_silent(kind: CloudKind) -> None:
    with playing("faults: [{kind: slow_start, delay_s: 0.5}]") as played:
        at = endpoint(played.url + PATHS[kind], quiet_s=0.2)
        got = asyncio.run(asked(kind, cleared(kind, question(kind, is_stream=False)), at))
    assert (got.text, got.error) == (QUESTION, None)


@BOTH
@pytest.mark.parametrize("way", ["close", "cancel"])
def test_whoever_stops_reading_closes_the_connection(kind: CloudKind, way: str) -> None:
    async def read_a_little(url: str) -> None:
        far = cloud(kind, endpoint(url))
        begun = asyncio.Event()

        async def read() -> None:
            async with aclosing(far.ask(cleared(kind, question(kind)))) as answer:
                async for chunk in answer:
                    if chunk.text:
                        begun.set()
                        if way == "close":
                            return

        reading = asyncio.create_task(read())
        await begun.wait()
        if way == "cancel":
            reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert reading.cancelled() == (way == "cancel")
        await asyncio.to_thread(played.ended)
        await far.close()

    with playing("faults: [{kind: slow_tokens, delay_s: 0.05}]\nanswers: [{text: '" + "word " * 2000 + "'}]") as played:
        asyncio.run(read_a_little(played.url + PATHS[kind]))
        assert [entry.outcome for entry in played.entries()] == [Outcome.CLIENT_GONE]


@BOTH
def test_nobody_there_is_a_broken_cloud(kind: CloudKind) -> None:
    got = asyncio.run(asked(kind, cleared(kind, question(kind)), endpoint("http://127.0.0.1:9")))
    assert isinstance(got.error, CloudBroken)
    assert "127.0.0.1" not in str(got.error)


@BOTH
@FORMS
@pytest.mark.parametrize("fault", ["401", "cut", "reset", "{kind: html, status: 200}", "empty_calls"])
def test_neither_prompt_nor_key_is_in_a_log_or_an_error(
    kind: CloudKind, is_stream: bool, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("anthropic").setLevel(logging.DEBUG)
    got = told(kind, f"faults: [{fault}]\nanswers: [{{text: canary answer}}]", is_stream=is_stream)
    assert caplog.records
    for words in (caplog.text, str(got.error), repr(got.error)):
        assert not [secret for secret in (QUESTION, KEY, "canary") if secret in words]


@asynccontextmanager
async def answering(head: str, body: str = "") -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives every request the same answer; its address, and the heads of the requests."""
    heads: list[bytes] = []
    serving: list[asyncio.Task[object] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        heads.append(b"connected")
        while line := await reader.readline():
            told = line + await reader.readuntil(b"\r\n\r\n")
            heads.append(told)
            length = next(int(one[15:]) for one in told.lower().split(b"\r\n") if one.startswith(b"content-length:"))
            await reader.readexactly(length)
            writer.write(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
        await asyncio.gather(*(task for task in serving if task))


@BOTH
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(kind: CloudKind, status: int) -> None:
    async def ask() -> tuple[object, int]:
        async with answering("HTTP/1.1 200 OK") as (elsewhere, heads):
            async with answering(f"HTTP/1.1 {status} Moved\r\nlocation: {elsewhere}/v1/messages") as (url, _):
                got = await asked(kind, cleared(kind, question(kind)), endpoint(url))
            return got.error, len(heads)

    error, seen = asyncio.run(ask())
    assert isinstance(error, CloudDenied)
    assert seen == 0


WHOLE: dict[CloudKind, str] = {
    "anthropic": '{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}',
    "openai": '{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}',
}


@BOTH
def test_one_connection_serves_request_after_request(kind: CloudKind) -> None:
    async def ask_thrice() -> list[bytes]:
        async with answering("HTTP/1.1 200 OK\r\ncontent-type: application/json", WHOLE[kind]) as (url, heads):
            far = cloud(kind, endpoint(url))
            for _ in range(3):
                said = [chunk.text async for chunk in far.ask(cleared(kind, question(kind, is_stream=False)))]
                assert "".join(said) == "hi"
            await far.close()
            return heads

    heads = asyncio.run(ask_thrice())
    assert (heads.count(b"connected"), len(heads)) == (1, 4)


MIXED = """
seed: 7
answers: [{when: {has_tools: false}, text: "one two three four five six seven eight"}]
faults:
"""
KINDS_OF_FAULT = "429 500 529 reset cut unfinished malformed error_event html duplicates wrong_content_type no_usage"


@BOTH
def test_of_many_requests_at_once_each_ends_in_an_answer_or_an_error_of_its_own(kind: CloudKind) -> None:
    lines = [f"- {{kind: {one}, probability: 0.08}}" for one in KINDS_OF_FAULT.split() if not one.isdigit()]
    lines += [
        f"- {{kind: status, status: {one}, probability: 0.08}}" for one in KINDS_OF_FAULT.split() if one.isdigit()
    ]

    async def ask_all(url: str) -> list[str]:
        far = cloud(kind, endpoint(url))

        async def one(number: int) -> str:
            try:
                sent = cleared(kind, question(kind, is_stream=number % 3 > 0))
                chunks = [chunk async for chunk in far.ask(sent)]
            except CloudError as error:
                return type(error).__name__
            assert chunks[-1].final is not None
            return "".join(chunk.text for chunk in chunks)

        found = await asyncio.gather(*(one(number) for number in range(200)))
        await far.close()
        return found

    with playing(MIXED + "\n".join(lines)) as played:
        found = asyncio.run(ask_all(played.url + PATHS[kind]))
        assert len(played.ended()) == 200
    assert set(found) == {"one two three four five six seven eight", "CloudBusy", "CloudBroken"}
    assert found.count("CloudBusy") + found.count("CloudBroken") > 50


@pytest.mark.parametrize(
    "error",
    [
        CloudDenied("far", "no"),
        CloudRefused("far", "no", 422, "{}"),
        CloudBusy("far", "no", 429, 1.5),
        CloudBroken("far", "no"),
        CloudSilent("far"),
    ],
)
def test_errors_survive_the_way_between_processes(error: CloudError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), vars(back), str(back), back.status) == (type(error), vars(error), str(error), error.status)
