"""Embeddings over a socket, by OpenAI's SDK: any form of input, in order, bounded, and one failure for the whole."""

import math
import threading
from collections.abc import Iterator

import httpx
import openai
import pytest

from deployments.embedding import AT_ONCE
from deployments.plan import AppPlan
from replicas.engine import Chunk, EngineStats, Final, Finish, Generation, Sink, Usage
from replicas.errors import EngineFailed
from tests.deployments.asking import CHAT, body, raw_client
from tests.deployments.hand_engine import HandEngine, HandStream
from tests.deployments.served import ECHO, TINY, Served, serving

TEXTS = [f"text {number}" for number in range(3 * AT_ONCE)]


class VectorEngine(HandEngine):
    """Answers at once with a unit vector that tells the prompt's first and last token; 255 in a prompt breaks it."""

    def submit(self, request: Generation, sink: Sink) -> HandStream:
        tokens = [token for token in request.prompt if isinstance(token, int)]
        usage, vector = Usage(len(tokens), 0), (tokens[0] / 1000, tokens[-1] / 1000)
        unit = (*vector, math.sqrt(1 - vector[0] ** 2 - vector[1] ** 2))
        final = Final(Finish.END, usage, embedding=unit)
        if not request.wants_embedding:
            final = Final(Finish.END, usage)
        if 255 in tokens:
            final = Final(Finish.ERROR, usage, error=EngineFailed("/models/secret.onnx broke"))
        threading.Thread(target=sink, args=[Chunk(request.id, "", 0, final)]).start()
        return HandStream(self, request, sink)

    def stats(self) -> EngineStats:
        return EngineStats("vectors", "hand", "none", 4, 0, 0, 0, 0.0, 100, 0, 0, 0, ())


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(AppPlan((ECHO, TINY), "echo"), echo=[VectorEngine()]) as served:
        yield served


@pytest.fixture
def gpt(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="local", max_retries=0, timeout=20) as client:
        yield client


def test_a_list_of_texts_comes_back_in_order_with_its_usage(gpt: openai.OpenAI) -> None:
    answer = gpt.embeddings.create(model="echo", input=TEXTS)
    firsts = [round(item.embedding[1] * 1000) for item in answer.data]
    assert firsts == [ord(text[-1]) for text in TEXTS]
    assert answer.usage.prompt_tokens == sum(map(len, TEXTS))
    assert (answer.model, [item.index for item in answer.data]) == ("echo", list(range(len(TEXTS))))


def test_floats_and_base64_are_the_same_vector(gpt: openai.OpenAI) -> None:
    [whole] = gpt.embeddings.create(model="echo", input="ab", encoding_format="float").data
    [packed] = gpt.embeddings.create(model="echo", input="ab").data
    assert packed.embedding == pytest.approx(whole.embedding, abs=1e-7)
    assert math.hypot(*whole.embedding) == pytest.approx(1)


def test_a_request_that_asks_for_too_much_at_once_is_refused_before_anything_runs(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="a list of 1 to 2048"):
        gpt.embeddings.create(model="echo", input=["a"] * 2049)


def test_the_echo_engine_gives_equal_texts_equal_vectors(gpt: openai.OpenAI) -> None:
    first, same, other = (item.embedding for item in gpt.embeddings.create(model="tiny", input=["ab", "ab", "c"]).data)
    assert first == same != other
    assert math.hypot(*first) == pytest.approx(1)


def test_token_ids_are_embedded_as_they_are(gpt: openai.OpenAI) -> None:
    answer = gpt.embeddings.create(model="echo", input=[[97, 98], [99]], encoding_format="float")
    assert [[round(n * 1000) for n in item.embedding[:2]] for item in answer.data] == [[97, 98], [99, 99]]


def test_fewer_dimensions_are_cut_and_more_are_refused(gpt: openai.OpenAI) -> None:
    [item] = gpt.embeddings.create(model="echo", input="ab", dimensions=2).data
    assert math.hypot(*item.embedding) == pytest.approx(1)
    with pytest.raises(openai.BadRequestError, match="dimensions: at most 3"):
        gpt.embeddings.create(model="echo", input="ab", dimensions=4)


def test_one_input_that_fails_fails_the_request_without_its_cause(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        gpt.embeddings.create(model="echo", input=[[97], [255], [98]])
    assert "secret" not in str(failed.value)


def test_an_input_longer_than_the_context_is_refused(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="8200 tokens > 8191 maximum"):
        gpt.embeddings.create(model="echo", input=["a", "b" * 8200])


@pytest.mark.parametrize(
    ("asked", "place"),
    [(["a", [1_000_000_000]], "input[1]"), ([[1], [-1]], "input[1]"), ([-1], "input"), ([[2**80]], "input")],
)
def test_token_ids_out_of_the_vocabulary_are_refused_with_their_place_and_the_range(
    served: Served, asked: object, place: str
) -> None:
    answer = httpx.post(f"{served.url}/v1/embeddings", json={"model": "tiny", "input": asked}, timeout=20)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["message"]) == (place, f"{place}: token ids must be from 0 to 260")


def test_an_input_that_is_too_long_is_named(served: Served) -> None:
    answer = httpx.post(f"{served.url}/v1/embeddings", json={"model": "tiny", "input": ["a", "b" * 100]}, timeout=20)
    assert answer.json()["error"]["param"] == "input[1]"


def test_an_unknown_model_is_not_found(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="ghost"):
        gpt.embeddings.create(model="ghost", input="a")


def test_an_engine_gets_no_more_inputs_at_once_than_the_bound() -> None:
    engine = HandEngine()
    with (
        serving(AppPlan((ECHO,), "echo"), echo=[engine]) as served,
        raw_client(served.address) as first,
        raw_client(served.address) as later,
    ):
        first.post("/v1/embeddings", {"input": TEXTS})
        for _ in range(AT_ONCE):
            assert engine.next().request.wants_embedding
        later.post(CHAT, body())
        assert not engine.next().request.wants_embedding
        assert len(engine.under_way) == AT_ONCE + 1


def test_a_client_that_leaves_cancels_its_inputs() -> None:
    engine = HandEngine()
    with serving(AppPlan((ECHO,), "echo"), echo=[engine]) as served:
        with raw_client(served.address) as client:
            client.post("/v1/embeddings", {"input": "a"})
            under_way = engine.next()
        assert under_way.cancelled.wait(20)
