"""The vendors' own SDKs read what the dialects write, and what the SDKs write is read: over an in-process transport."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anthropic as anthropic_sdk
import httpx2
import openai as openai_sdk
import pytest

from replicas.engine import Final, Finish
from replicas.errors import InvalidRequest, NotFound, Overloaded, ShoalError
from router.anthropic import count_body, parse_count
from router.call import Answer, Dialect
from tests.router.exchanges import CATALOG, TEXT, anthropic, chunks, final, openai

URL = "http://shoal.invalid"


class Server:
    """Answers as the ingress would: the dialect in the middle, the same text for everybody."""

    def __init__(self, dialect: Dialect, last: Final, refusal: ShoalError | None = None) -> None:
        self.dialect = dialect
        self.last = last
        self.refusal = refusal

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v1")
        try:
            if self.refusal is not None:
                raise self.refusal
            if path.startswith("/models"):
                name = path.removeprefix("/models").lstrip("/")
                return httpx2.Response(200, content=CATALOG.one_body(name) if name else CATALOG.list_body())
            if path.endswith("/count_tokens"):
                return httpx2.Response(200, content=count_body(len(parse_count(request.content, {}).messages)))
            return self.answer(request)
        except ShoalError as error:
            body = self.dialect.error(error, "req_1")
            return httpx2.Response(error.status, content=body, headers={"request-id": "req_1"})

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        exchange = self.dialect.parse(request.content, request.headers)
        reply = exchange.reply
        if not exchange.call.is_stream:
            return httpx2.Response(200, content=reply.whole(Answer(TEXT, self.last)))
        raw = reply.begin(12) + reply.ping + b"".join(reply.feed([chunk]) for chunk in chunks(self.last))
        return httpx2.Response(200, content=raw, headers={"content-type": "text/event-stream"})


@contextmanager
def claude(last: Final, refusal: ShoalError | None = None) -> Iterator[anthropic_sdk.Anthropic]:
    with httpx2.Client(transport=httpx2.MockTransport(Server(anthropic(), last, refusal))) as http:
        yield anthropic_sdk.Anthropic(base_url=URL, api_key="none", http_client=http, max_retries=0)


@contextmanager
def gpt(last: Final, refusal: ShoalError | None = None) -> Iterator[openai_sdk.OpenAI]:
    with httpx2.Client(transport=httpx2.MockTransport(Server(openai(), last, refusal))) as http:
        yield openai_sdk.OpenAI(base_url=f"{URL}/v1", api_key="none", http_client=http, max_retries=0)


def test_the_anthropic_sdk_reads_a_whole_message() -> None:
    with claude(final(Finish.STOP, "END")) as client:
        message = client.messages.create(
            model="smol", max_tokens=9, messages=[{"role": "user", "content": "a"}], stop_sequences=["END"]
        )
    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert (message.stop_reason, message.stop_sequence, message.model) == ("stop_sequence", "END", "smol")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 7)


def test_the_anthropic_sdk_accumulates_a_stream() -> None:
    with (
        claude(final()) as client,
        client.messages.stream(
            model="smol",
            max_tokens=9,
            system=[{"type": "text", "text": "Be kind."}],
            messages=[{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        ) as stream,
    ):
        assert "".join(stream.text_stream) == TEXT
        message = stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 3)


def test_the_anthropic_sdk_raises_when_a_stream_breaks() -> None:
    with (
        claude(final(Finish.ERROR)) as client,
        client.messages.stream(model="s", max_tokens=9, messages=[{"role": "user", "content": "a"}]) as stream,
        pytest.raises(anthropic_sdk.APIStatusError, match="may be sent again"),
    ):
        stream.get_final_message()


def test_the_anthropic_sdk_counts_tokens() -> None:
    with claude(final()) as client:
        counted = client.messages.count_tokens(model="smol", messages=[{"role": "user", "content": "a"}])
    assert counted.input_tokens == 1


def test_both_sdks_list_the_same_models() -> None:
    with claude(final()) as client:
        infos = list(client.models.list())
        assert client.models.retrieve("tiny").display_name == "Smol 135M"
    with gpt(final()) as other:
        models = list(other.models.list())
        assert other.models.retrieve("tiny").owned_by == "shoal"
    assert [info.id for info in infos] == [model.id for model in models]
    assert int(infos[0].created_at.timestamp()) == models[0].created
    assert {(info.lifecycle, info.max_input_tokens) for info in infos} == {("active", 8192), ("active", 4096)}


def test_the_openai_sdk_reads_a_whole_completion() -> None:
    with gpt(final(Finish.LENGTH)) as client:
        done = client.chat.completions.create(model="smol", messages=[{"role": "user", "content": "a"}], max_tokens=9)
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (TEXT, "length")
    assert done.usage is not None
    assert done.usage.prompt_tokens_details is not None
    assert done.usage.prompt_tokens_details.cached_tokens == 7


def test_the_openai_sdk_reads_a_stream_with_its_usage() -> None:
    with gpt(final()) as client:
        parts = list(
            client.chat.completions.create(
                model="smol",
                messages=[{"role": "user", "content": "a"}],
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"top_k": 5, "repetition_penalty": 1.1},
            )
        )
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == TEXT
    assert parts[-2].choices[0].finish_reason == "stop"
    assert parts[-1].usage is not None
    assert parts[-1].usage.total_tokens == 15


def test_the_openai_sdk_accumulates_a_stream() -> None:
    with (
        gpt(final()) as client,
        client.chat.completions.stream(model="smol", messages=[{"role": "user", "content": "a"}]) as stream,
    ):
        assert stream.get_final_completion().choices[0].message.content == TEXT


def test_the_openai_sdk_raises_when_a_stream_breaks() -> None:
    with gpt(final(Finish.ERROR)) as client, pytest.raises(openai_sdk.APIError, match="may be sent again"):
        list(client.chat.completions.create(model="s", messages=[{"role": "user", "content": "a"}], stream=True))


def ask_claude(refusal: ShoalError) -> None:
    with claude(final(), refusal) as client:
        client.messages.create(model="s", max_tokens=9, messages=[{"role": "user", "content": "a"}])


def ask_gpt(refusal: ShoalError) -> None:
    with gpt(final(), refusal) as client:
        client.chat.completions.create(model="s", messages=[{"role": "user", "content": "a"}])


@pytest.mark.parametrize("ask", [ask_claude, ask_gpt])
@pytest.mark.parametrize(
    ("refusal", "name", "words"),
    [
        (InvalidRequest("x: wrong", "x"), "BadRequestError", "x: wrong"),
        (NotFound("model", "s"), "NotFoundError", "model 's' does not exist"),
        (Overloaded("smol", 1.0), "RateLimitError", "try again in 1 s"),
        (ShoalError(), "InternalServerError", "internal error"),
    ],
)
def test_both_sdks_raise_their_own_error_for_ours(
    ask: Callable[[ShoalError], None], refusal: ShoalError, name: str, words: str
) -> None:
    with pytest.raises((anthropic_sdk.APIStatusError, openai_sdk.APIStatusError)) as caught:
        ask(refusal)
    assert type(caught.value).__name__ == name
    assert words in str(caught.value)
