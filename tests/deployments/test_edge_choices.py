"""Several choices of one answer, and bare completions, over a socket by OpenAI's SDK and on real engines."""

import json
import threading
from collections.abc import Iterator, Sequence

import httpx
import openai
import pytest

from deployments.choices import AT_ONCE
from deployments.plan import AppPlan, EnginePlan, PoolPlan
from replicas.chat import ChatTokenizer
from replicas.engine import Message
from replicas.errors import EngineFailed
from replicas.tools.layout import ToolLayout
from replicas.tools.tool import Tool
from tests.deployments.asking import CHAT, body, raw_client
from tests.deployments.hand_engine import HandEngine, HandStream
from tests.deployments.served import ECHO, PLAN, Served, serving
from tests.replicas.engines import slot_engine, tiny

BARE = "/v1/completions"
REAL = PoolPlan("real", tiny().directory, EnginePlan(slots=4), context_tokens=256)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    plan = AppPlan((ECHO, REAL), "echo", PLAN.http)
    with serving(plan, real=[slot_engine()]) as served:
        yield served


@pytest.fixture
def gpt(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="local", max_retries=0, timeout=30) as client:
        yield client


def test_choices_differ_by_their_seeds_and_are_the_same_each_time(gpt: openai.OpenAI) -> None:
    def texts(n: int) -> list[str | None]:
        answer = gpt.chat.completions.create(
            model="real",
            messages=[{"role": "user", "content": "the user"}],
            n=n,
            seed=3,
            temperature=1.5,
            max_tokens=12,
            extra_body={"ignore_eos": True},
        )
        assert [choice.index for choice in answer.choices] == list(range(n))
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12 * n
        return [choice.message.content for choice in answer.choices]

    first = texts(4)
    assert len(set(first)) == 4
    assert texts(4) == first
    assert texts(2) == first[:2]


def test_streamed_choices_are_the_whole_ones_told_apart_by_their_index(gpt: openai.OpenAI) -> None:
    asked: dict[str, object] = {
        "model": "real",
        "messages": [{"role": "user", "content": "the user"}],
        "n": 3,
        "seed": 5,
        "max_tokens": 10,
        "stream_options": {"include_usage": True},
    }
    whole = gpt.chat.completions.create(**{**asked, "stream_options": None})  # type: ignore[call-overload]  # fields by name
    texts, ends, usage = ["", "", ""], [""] * 3, None
    for chunk in gpt.chat.completions.create(**asked, stream=True):  # type: ignore[call-overload]  # fields by name
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)


def test_many_choices_of_a_short_prompt_are_prepared_off_the_loop_and_tokenised_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing else would be answered meanwhile."""
    threads: list[int] = []
    encode = ChatTokenizer.encode_chat

    def noted(
        tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Sequence[Tool], layout: ToolLayout
    ) -> tuple[int, ...]:
        threads.append(threading.get_ident())
        return encode(tokenizer, messages, tools, layout)

    monkeypatch.setattr(ChatTokenizer, "encode_chat", noted)
    answer = httpx.post(served.url + CHAT, json=body("the words " * 8, model="real", n=128, max_tokens=1), timeout=60)
    assert len(answer.json()["choices"]) == 128
    assert len(threads) == 1
    assert threads != [served.on_loop(threading.get_ident)]


def begun(engine: HandEngine, count: int) -> list[HandStream]:
    """The streams of `count` more requests."""
    for _ in range(count):
        engine.next()
    return engine.streams[-count:]


def test_no_more_choices_run_at_once_than_the_bound_and_all_come() -> None:
    engine = HandEngine()
    with serving(AppPlan((ECHO,), "echo"), echo=[engine]) as served, raw_client(served.address) as client:
        client.post(CHAT, body(n=AT_ONCE + 2))
        streams = begun(engine, AT_ONCE)
        assert len(engine.under_way) == AT_ONCE
        for stream in streams[:2]:
            stream.say("first")
            stream.end()
        for stream in [*streams[2:], *begun(engine, 2)]:
            stream.say("later")
            stream.end()
        raw = client.read_until(b'"usage"')
    told = json.loads(raw.partition(b"\r\n\r\n")[2])
    assert len(told["choices"]) == AT_ONCE + 2
    assert sum(choice["message"]["content"] == "first" for choice in told["choices"]) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_one_choice_that_fails_fails_the_answer_and_gives_the_others_up(stream: bool) -> None:
    engine = HandEngine()
    with serving(AppPlan((ECHO,), "echo"), echo=[engine]) as served, raw_client(served.address) as client:
        client.post(CHAT, body(n=2, stream=stream))
        first, second = begun(engine, 2)
        first.say("words")
        if stream:
            client.read_until(b"words")
        second.end(error=EngineFailed("it broke"))
        assert first.cancelled.wait(20)
        client.read_until(b"the model failed while it answered")


def test_who_leaves_gives_all_choices_up() -> None:
    engine = HandEngine()
    with serving(AppPlan((ECHO,), "echo"), echo=[engine]) as served:
        with raw_client(served.address) as client:
            client.post(CHAT, body(n=3, stream=True))
            streams = begun(engine, 3)
        assert all(stream.cancelled.wait(20) for stream in streams)


def test_a_bare_text_goes_on_and_can_be_said_again(gpt: openai.OpenAI) -> None:
    plain = gpt.completions.create(model="real", prompt="the user and", max_tokens=8, temperature=0)
    again = gpt.completions.create(model="real", prompt="the user and", max_tokens=8, temperature=0, echo=True)
    [text], [echoed] = ([choice.text for choice in answer.choices] for answer in (plain, again))
    assert echoed == "the user and" + text
    assert plain.id.startswith("cmpl-")


def test_a_bare_text_has_no_chat_template_and_its_tokens_may_be_sent_instead(gpt: openai.OpenAI) -> None:
    ids = ChatTokenizer(tiny().directory).encode_prompt("<|im_start|>user\nthe user<|im_end|>\n")
    asked = {"model": "real", "max_tokens": 8, "temperature": 0}
    by_text = gpt.completions.create(prompt="<|im_start|>user\nthe user<|im_end|>\n", **asked)  # type: ignore[call-overload]  # fields by name
    by_ids = gpt.completions.create(prompt=list(ids), **asked)  # type: ignore[call-overload]  # fields by name
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert by_text.usage.prompt_tokens == by_ids.usage.prompt_tokens == len(ids)


def test_many_prompts_are_answered_in_order_with_their_scores(gpt: openai.OpenAI) -> None:
    answer = gpt.completions.create(
        model="real", prompt=["the user", "the system"], n=2, max_tokens=5, logprobs=2, extra_body={"ignore_eos": True}
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for choice in answer.choices:
        assert choice.logprobs is not None
        lists = (choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.top_logprobs)
        assert [len(one or []) for one in lists] == [5] * 3


def test_a_streamed_completion_has_its_stop_string_where_that_is_asked_for(gpt: openai.OpenAI) -> None:
    asked = {"model": "echo", "prompt": "one STOP two", "max_tokens": 50, "stop": "STOP"}
    parts = list(gpt.completions.create(**asked, stream=True))  # type: ignore[call-overload]  # fields by name
    kept = gpt.completions.create(**asked, extra_body={"include_stop_str_in_output": True})  # type: ignore[call-overload]  # fields by name
    assert "".join(part.choices[0].text for part in parts) == "one "
    assert parts[-1].choices[0].finish_reason == kept.choices[0].finish_reason == "stop"
    assert kept.choices[0].text == "one STOP"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"suffix": "end"}, "suffix"), ({"best_of": 5}, "best_of"), ({"prompt": [9999]}, "prompt"), ({}, None)],
)
def test_what_a_local_model_cannot_do_is_a_400_that_says_so(
    served: Served, fields: dict[str, object], param: str | None
) -> None:
    asked = {"model": "real", "prompt": "the user", "max_tokens": 2, **fields}
    answer = httpx.post(served.url + BARE, json=asked, timeout=30)
    assert answer.status_code == (400 if fields else 200)
    assert (answer.json()["error"]["param"] if fields else None) == param


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ],
)
def test_a_picture_for_a_local_model_is_a_400_that_names_it(served: Served, part: dict[str, object]) -> None:
    asked = {"model": "echo", "messages": [{"role": "user", "content": [part]}]}
    error = httpx.post(served.url + CHAT, json=asked).json()["error"]
    assert (error["param"], error["type"]) == ("messages[0].content[0]", "invalid_request_error")


def test_a_prompt_longer_than_the_context_is_refused(served: Served) -> None:
    asked = {"model": "real", "prompt": [5] * 300}
    error = httpx.post(served.url + BARE, json=asked).json()["error"]
    assert error["message"] == "prompt is too long: 300 tokens > 255 maximum"
