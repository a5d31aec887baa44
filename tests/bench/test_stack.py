"""The arithmetic of `bench.stack`, and both of its sides against something small."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from bench import coldstart
from bench.http_streams import Run, request, run
from bench.sides import EngineSide, http_side
from bench.stack import Row, Size, aims, measure, table, tree
from bench.work import prompt
from replicas.echo import EchoConfig, EchoEngine

ANSWER = b'data: {"choices": []}\n\ndata: {"usage": {"completion_tokens": 5}}\n\ndata: [DONE]\n\n'
ROWS = [Row(1, 50.0, 100.0), Row(8, 90.0, 300.0)]


class Fixed:
    """A side that always takes the same time."""

    def __init__(self, log: list[str], name: str, times_s: list[float]) -> None:
        self._log = log
        self._name = name
        self._times_s = iter(times_s)

    def run(self, streams: int, tokens: int) -> Run:
        self._log.append(self._name)
        return Run(streams * tokens, next(self._times_s))


def test_sides_alternate_and_medians_are_taken() -> None:
    log: list[str] = []
    row = measure(Fixed(log, "h", [1.0, 2.0, 8.0]), Fixed(log, "e", [1.0, 1.0, 4.0]), 2, Size(rounds=3, tokens=10))
    assert log == ["h", "e", "e", "h", "h", "e"]
    assert (row.http, row.engine, row.kept) == (10.0, 20.0, 0.5)


def test_aims_say_what_was_reached_and_what_was_missed() -> None:
    assert [round(figure, 2) for _, figure, _ in aims(ROWS)] == [0.3, 1.8, 3.0]
    lines = table(ROWS).splitlines()
    assert [line.endswith("MISSED") for line in lines[-3:]] == [True, True, False]


def test_the_json_names_its_command_and_holds_every_row() -> None:
    made = tree(ROWS, Size(1, 8), "model")
    assert made["command"] == "python -m bench.stack"
    assert made["rows"] == [
        {"streams": 1, "http": 50.0, "in_process": 100.0, "kept": 0.5},
        {"streams": 8, "http": 90.0, "in_process": 300.0, "kept": 0.3},
    ]


def test_no_two_streams_have_the_same_prompt() -> None:
    assert len({prompt(stream) for stream in range(16)}) == 16


def test_the_engine_side_counts_every_token_of_every_stream() -> None:
    engine = EchoEngine(EchoConfig(slots=2))
    try:
        assert EngineSide(engine).run(streams=5, tokens=7).tokens == 35
    finally:
        engine.close()


@pytest.fixture
def port() -> Iterator[int]:
    """A server in a thread that sends ANSWER in small pieces to whoever asks with `POST`, and nothing to others."""
    ready = threading.Event()
    ports: list[int] = []
    loop = asyncio.new_event_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/v1/chat/completions" in head:
            for place in range(0, len(ANSWER), 9):
                writer.write(ANSWER[place : place + 9])
                await writer.drain()
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        stopping.set_result(server)
        ready.set()

    stopping: asyncio.Future[asyncio.Server] = loop.create_future()
    thread = threading.Thread(target=lambda: (loop.run_until_complete(serve()), loop.run_forever()))
    thread.start()
    ready.wait(10)
    yield ports[0]
    loop.call_soon_threadsafe(stopping.result().close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_clients_read_answers_that_come_in_pieces(port: int) -> None:
    assert asyncio.run(run("127.0.0.1", port, streams=3, tokens=5)).tokens == 15


def test_the_clients_process_answers_line_by_line(port: int) -> None:
    with http_side(f"http://127.0.0.1:{port}") as side:
        assert [side.run(streams, 5).tokens for streams in (1, 4)] == [5, 20]


def test_an_answer_without_an_end_is_an_error(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.http_streams.request", lambda *_: b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(RuntimeError, match="no whole answer"):
        asyncio.run(run("127.0.0.1", port, streams=1, tokens=5))


def test_requests_ask_for_a_fixed_greedy_length() -> None:
    assert all(
        part in request("host", 0, 9) for part in (b'"max_tokens": 9', b'"ignore_eos": true', b'"temperature": 0')
    )


def test_memory_adds_up_in_the_cold_start_table() -> None:
    found = coldstart.ColdStart(
        9.5, 9.75, [coldstart.Process("ingress", 100, 200), coldstart.Process("pool", 300, 500)]
    )
    assert "first token after 9.8 s" in coldstart.table(found)
    assert coldstart.table(found).splitlines()[-1].split() == ["400", "all", "2"]
