"""An answer without callbacks."""

from dataclasses import dataclass

import pytest

from replicas.collect import collect, iterate
from replicas.echo import EchoEngine
from replicas.engine import Chunk, Final, Finish, Generation, Sink, Usage
from tests.replicas.engines import asked


@dataclass
class Remembering:
    """A stream, and an engine that answers twice at once and then nothing."""

    cancels: int = 0

    def submit(self, request: Generation, sink: Sink) -> "Remembering":
        sink(Chunk(request.id, "some", 1))
        sink(Chunk(request.id, " text", 1, Final(Finish.LENGTH, Usage(1, 2))))
        return self

    def cancel(self) -> None:
        self.cancels += 1


def test_leaving_an_iteration_cancels_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, engine = Remembering(), EchoEngine()
    monkeypatch.setattr(engine, "submit", stream.submit)
    chunks = iterate(engine, asked())
    assert next(chunks).text == "some"
    assert stream.cancels == 0
    chunks.close()  # type: ignore[attr-defined]  # a generator, promised as an iterator
    assert stream.cancels == 1
    engine.close()


def test_collect_joins_the_chunks() -> None:
    engine = EchoEngine()
    answer = collect(engine, asked(text="héllo 🌍", max_tokens=100))
    engine.close()
    assert (answer.text, answer.final.finish) == ("héllo 🌍", Finish.END)
