"""Fixed exchanges in both dialects, as the golden files in tests/router/golden/ hold them.

`python -m tests.router.exchanges` writes the files anew; read the difference before committing it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from replicas.engine import CallPiece, Chunk, Final, Finish, Scored, TokenScore, Usage
from replicas.errors import ContextOverflow, EngineFailed, NotFound
from router.anthropic import AnthropicDialect, count_body
from router.call import Answer, Dialect
from router.catalog import Catalog, ModelCard
from router.openai import OpenAIDialect

GOLDEN = Path(__file__).parent / "golden"

NAMED = "claude-local-smol"
ASKED: Mapping[str, object] = {
    "model": NAMED,
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Say hello"}],
}
TEXTS = ("Hello", ", w\u00f6rld", ' \U0001f41f\u2028"quoted"\n')
TEXT = "".join(TEXTS)
OFFERED = ("weather", "now")
CALLING: tuple[tuple[str, CallPiece | None], ...] = (
    ("I look.", None),
    ("", CallPiece(0, "weather")),
    ("", CallPiece(0, arguments='{"city": "K\u00f6')),
    ("", CallPiece(0, arguments='ln"}')),
    ("", CallPiece(1, "now")),
    ("", CallPiece(1, arguments="{}")),
)
"""An answer that says something and then calls two tools, one of them in pieces."""
CATALOG = Catalog(
    [
        ModelCard("smol", "Smol 135M", datetime(2024, 11, 2, tzinfo=UTC), 8192, aliases=("tiny",)),
        ModelCard("claude-shaped", "Named like a Claude", datetime(2026, 1, 1, tzinfo=UTC), 4096),
    ],
    default="tiny",
)


def anthropic() -> AnthropicDialect:
    return AnthropicDialect(default_model="smol", new_id=lambda: "msg_0001")


def openai() -> OpenAIDialect:
    return OpenAIDialect(default_model="smol", new_id=lambda: "chatcmpl-0001", clock=lambda: 1_790_000_000.9)


def body(**changes: object) -> bytes:
    """The request of ASKED with members replaced; None takes one away."""
    return json.dumps({k: v for k, v in {**ASKED, **changes}.items() if v is not None}).encode()


def final(finish: Finish = Finish.END, stop_sequence: str | None = None, cached: int = 7) -> Final:
    error = EngineFailed("/secret/path/model.onnx broke") if finish is Finish.ERROR else None
    return Final(finish, Usage(prompt=12, generated=3, cached=cached), stop_sequence=stop_sequence, error=error)


def chunks(last: Final, texts: Sequence[str] = TEXTS) -> list[Chunk]:
    """One chunk per text, the last with `last`."""
    ends = [None] * (len(texts) - 1) + [last]
    return [Chunk("x", text, 1, end) for text, end in zip(texts, ends, strict=True)]


def calling(last: Final) -> list[Chunk]:
    """The chunks of CALLING, and one with `last`."""
    return [*(Chunk("x", text, 1, call=piece) for text, piece in CALLING), Chunk("x", "", 0, last)]


def scored(last: Final) -> list[Chunk]:
    """An answer of two tokens with their scores; half a character comes with the first."""
    first = TokenScore(Scored(1, b"\xc3", -0.5), (Scored(1, b"\xc3", -0.5), Scored(2, b"o", -1.5)))
    second = TokenScore(Scored(3, b"\xa4", -0.25))
    return [Chunk("x", "", 1, scores=(first,)), Chunk("x", "\u00e4", 1, last, (second,))]


def told(dialect: Dialect, chunks_: Sequence[Chunk], **changes: object) -> bytes:
    """The whole answer that `chunks_` make."""
    last = chunks_[-1].final
    assert last is not None
    return dialect.parse(body(**changes), {}).reply.whole(Answer.of(chunks_, last))


def stream(dialect: Dialect, last: Final, steps: Sequence[Sequence[Chunk]] = (), **changes: object) -> bytes:
    """A whole stream: a chunk per step unless `steps` says otherwise, and a ping after the first event."""
    reply = dialect.parse(body(stream=True, **changes), {}).reply
    opening = reply.begin(12) + reply.ping
    return opening + b"".join(reply.feed(step) for step in steps or [[chunk] for chunk in chunks(last)])


def whole(dialect: Dialect, last: Final) -> bytes:
    return dialect.parse(body(), {}).reply.whole(Answer(TEXT, last))


LEGACY: dict[str, object] = {"functions": [{"name": name} for name in OFFERED]}
PRODUCERS: dict[str, Callable[[], bytes]] = {
    "anthropic_stream.sse": lambda: stream(anthropic(), final()),
    "anthropic_stream_stopped.sse": lambda: stream(anthropic(), final(Finish.STOP, "\n\n")),
    "anthropic_stream_broken.sse": lambda: stream(anthropic(), final(Finish.ERROR)),
    "anthropic_stream_silent.sse": lambda: stream(anthropic(), final(), [[Chunk("x", "", 0, final())]]),
    "anthropic_whole.json": lambda: whole(anthropic(), final(Finish.LENGTH)),
    "anthropic_count.json": lambda: count_body(12),
    "anthropic_error.json": lambda: anthropic().error(ContextOverflow(210000, 131072), "req_1"),
    "openai_stream.sse": lambda: stream(openai(), final()),
    "openai_stream_usage.sse": lambda: stream(openai(), final(), stream_options={"include_usage": True}),
    "openai_stream_broken.sse": lambda: stream(openai(), final(Finish.ERROR)),
    "openai_whole.json": lambda: whole(openai(), final(Finish.LENGTH)),
    "anthropic_stream_calls.sse": lambda: stream(anthropic(), final(), [[one] for one in calling(final())]),
    "anthropic_calls.json": lambda: told(anthropic(), calling(final())),
    "openai_stream_calls.sse": lambda: stream(openai(), final(), [[one] for one in calling(final())]),
    "openai_stream_function.sse": lambda: stream(openai(), final(), [calling(final())], **LEGACY),
    "openai_stream_scores.sse": lambda: stream(openai(), final(), [[one] for one in scored(final())]),
    "openai_calls.json": lambda: told(openai(), calling(final())),
    "openai_function.json": lambda: told(openai(), calling(final()), **LEGACY),
    "openai_scores.json": lambda: told(openai(), scored(final())),
    "openai_error.json": lambda: openai().error(ContextOverflow(210000, 131072), "req_1"),
    "openai_error_not_found.json": lambda: openai().error(NotFound("model", "smoll", "there is smol"), "req_1"),
    "models.json": CATALOG.list_body,
    "model.json": lambda: CATALOG.one_body("tiny"),
}


def write() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, produce in PRODUCERS.items():
        (GOLDEN / name).write_bytes(produce())


if __name__ == "__main__":
    write()
