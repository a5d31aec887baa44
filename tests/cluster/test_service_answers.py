"""Answers of the real service over a socket, by the vendors' own SDKs and by plain HTTP."""

import asyncio
import math

import anthropic
import httpx
import openai
import pytest

from deployments.session_transfer import PIECE_BYTES
from tests.cluster.conftest import MODEL, Service

pytestmark = pytest.mark.cluster

PROMPT = "Tell me the capital of France."


def claude(service: Service) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=service.url, api_key="local", max_retries=0)


def test_the_anthropic_sdk_gets_a_whole_answer(service: Service) -> None:
    message = claude(service).messages.create(
        model=MODEL, max_tokens=16, messages=[{"role": "user", "content": PROMPT}], extra_body={"temperature": 0}
    )
    assert message.content[0].type == "text"
    assert "Paris" in message.content[0].text
    assert (message.stop_reason, message.model) == ("end_turn", MODEL)


def test_the_anthropic_sdk_streams_the_same_text_and_the_count_is_exact(service: Service) -> None:
    client = claude(service)
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": PROMPT}])
    with client.messages.stream(
        model=MODEL, max_tokens=16, messages=[{"role": "user", "content": PROMPT}], extra_body={"temperature": 0}
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 1
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) == counted.input_tokens
    assert final.usage.output_tokens > 1


def test_the_openai_sdk_gets_answers_whole_and_streamed(service: Service) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="local", max_retries=0)
    whole = client.chat.completions.create(
        model=MODEL, max_tokens=16, temperature=0, messages=[{"role": "user", "content": PROMPT}]
    )
    chunks = client.chat.completions.create(
        model=MODEL, max_tokens=16, temperature=0, messages=[{"role": "user", "content": PROMPT}], stream=True
    )
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert whole.choices[0].message.content == streamed
    assert "Paris" in streamed


def test_models_are_listed_to_both_sdks(service: Service) -> None:
    of_openai = {m.id for m in openai.OpenAI(base_url=f"{service.url}/v1", api_key="x").models.list()}
    of_anthropic = {m.id for m in claude(service).models.list()}
    assert MODEL in of_openai & of_anthropic
    assert f"claude-local-{MODEL}" in of_anthropic


async def ask(client: httpx.AsyncClient, prompt: str, **sampling: object) -> str:
    body = {"model": MODEL, "max_tokens": 40, "messages": [{"role": "user", "content": prompt}], **sampling}
    answer = await client.post("/v1/chat/completions", json=body)
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


async def alone_and_beside_others(service: Service, **sampling: object) -> tuple[str, str]:
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
        alone = await ask(client, PROMPT, ignore_eos=True, **sampling)
        others = [ask(client, f"Write about the number {i}.", temperature=0, ignore_eos=True) for i in range(7)]
        beside, *_ = await asyncio.gather(ask(client, PROMPT, ignore_eos=True, **sampling), *others)
    return alone, beside


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 0.9, "seed": 7, "top_p": 0.95}])
def test_the_same_request_gives_the_same_bytes_alone_and_beside_seven_others(
    service: Service, sampling: dict[str, object]
) -> None:
    alone, beside = asyncio.run(alone_and_beside_others(service, **sampling))
    assert alone.encode() == beside.encode()
    steps = next(iter(service.engines(MODEL).values()))["batch_sizes"]
    assert isinstance(steps, dict)
    assert max(int(size) for size in steps) >= 4


def test_both_replicas_of_a_pool_answer_and_report(service: Service) -> None:
    async def burst() -> list[int]:
        body = {"model": "echo", "max_tokens": 64, "messages": [{"role": "user", "content": "echo this back"}]}
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(16)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(burst()) == [200] * 16
    made = [int(str(engine["generated_tokens_total"])) for engine in service.engines("echo").values()]
    assert len(made) == 2
    assert min(made) > 0


def test_embeddings_are_unit_vectors_that_tell_texts_apart(service: Service) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="local", max_retries=0)
    answer = client.embeddings.create(model=MODEL, input=["The sea is deep.", "The sea is deep.", "Count to ten."])
    first, same, other = (item.embedding for item in answer.data)
    assert first == same != other
    assert math.hypot(*first) == pytest.approx(1, abs=1e-3)


def test_a_session_is_saved_and_goes_on_under_another_name(service: Service) -> None:
    turn = {"role": "user", "content": "Remember this: " + "one two three four five " * 40}
    body: dict[str, object] = {"model": MODEL, "max_tokens": 4, "messages": [turn], "session_id": "first"}
    with httpx.Client(base_url=service.url, timeout=120) as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        saved = client.get("/v1/sessions/first/kv")
        assert len(saved.content) == int(saved.headers["content-length"]) > PIECE_BYTES
        loaded = client.put("/v1/sessions/second/kv", content=saved.content)
        assert loaded.json()["tokens"] > 100
        again = client.post("/v1/chat/completions", json={**body, "session_id": "second"}).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= loaded.json()["tokens"]


def written(service: Service) -> dict[str, int]:
    """The tokens that each replica of the echo pool has written."""
    return {replica: int(str(e["generated_tokens_total"])) for replica, e in service.engines("echo").items()}


def test_the_turns_of_a_session_go_to_the_same_replica(service: Service) -> None:
    before = written(service)
    body = {"model": "echo", "messages": [{"role": "user", "content": "turn"}], "session_id": "a conversation"}
    for _ in range(6):
        assert httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    after = written(service)
    assert sorted(after[replica] - before[replica] for replica in before) == [0, 6 * (len("turn") + 1)]


def test_metrics_of_every_replica_reach_prometheus_under_both_names(service: Service) -> None:
    page = httpx.get(f"{service.url}/metrics", timeout=10).text
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    for name in ("shoal_engine_slots_used", "shoal_ttft_seconds_count", "vllm:num_requests_running"):
        assert any(line.startswith(name) for line in lines), name
    echoes = {line for line in lines if line.startswith('shoal_engine_slots{model="echo"')}
    assert len(echoes) == 2
    batches = [line for line in lines if line.startswith("shoal_engine_batch_rows_sum") and MODEL in line]
    steps = [line for line in lines if line.startswith("shoal_engine_batch_rows_count") and MODEL in line]
    assert float(batches[0].split()[-1]) > float(steps[0].split()[-1])
