"""The older completions dialect: prompts of any form, what is said again, scores side by side, many choices."""

import json
from collections.abc import Sequence

import pytest
from openai.types import Completion

from replicas.engine import Chunk, Final, Finish, Scored, TokenScore, Usage
from replicas.errors import EngineFailed, InvalidRequest
from router.call import Answer, Call, Exchange
from router.openai import CompletionsDialect

DIALECT = CompletionsDialect("smol", new_id=lambda: "cmpl-1", clock=lambda: 1_790_000_000.9)


def parsed(**fields: object) -> Exchange:
    return DIALECT.parse(json.dumps({"prompt": "Once", **fields}).encode(), {})


def calls(**fields: object) -> tuple[Call, ...]:
    exchange = parsed(**fields)
    return (exchange.call, *exchange.more)


def said(text: str, prompt: int = 4, final: Final | None = None) -> list[Chunk]:
    return [Chunk("x", text, 2), Chunk("x", "", 0, final or Final(Finish.END, Usage(prompt, 2)))]


def events(raw: bytes) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: {")]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Once", ["Once"]),
        ([1, 2], [(1, 2)]),
        (["a", "b"], ["a", "b"]),
        ([[1], [2, 3]], [(1,), (2, 3)]),
    ],
)
def test_a_prompt_is_text_or_token_ids_or_a_list_of_either(prompt: object, expected: list[object]) -> None:
    asked = calls(prompt=prompt)
    assert [call.raw for call in asked] == expected
    assert [call.messages[0].content for call in asked] == [one if isinstance(one, str) else "" for one in expected]


@pytest.mark.parametrize("prompt", [None, "", [], [""], [[]], ["a", 1], [[1], "a", None], [1.5], [True], ["a"] * 129])
def test_a_prompt_of_another_form_is_refused(prompt: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(prompt=prompt)
    assert str(refused.value.param).startswith("prompt")


def test_the_choices_of_each_prompt_follow_each_other_and_ids_tell_them_apart() -> None:
    asked = calls(prompt=["a", "b"], n=2, seed=5)
    assert [(call.id, call.raw) for call in asked] == [
        ("cmpl-1", "a"),
        ("cmpl-1-1", "a"),
        ("cmpl-1-2", "b"),
        ("cmpl-1-3", "b"),
    ]
    assert [call.sampling.seed == 5 for call in asked] == [True, False, True, False]
    assert [json.loads(call.source.body)["prompt"] for call in asked if call.source] == ["a", "a", "b", "b"]


def test_without_a_limit_an_answer_is_as_short_as_the_real_ones() -> None:
    assert calls()[0].sampling.max_tokens == 16
    assert calls(min_tokens=20)[0].sampling.max_tokens == 20


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 3}, "best_of"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"echo": True, "prompt": [1, 2]}, "echo"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 129}, "n"),
    ],
)
def test_what_goes_with_nothing_here_is_refused(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)
    assert refused.value.param == param


def test_as_many_of_the_best_as_are_made_may_be_asked_for() -> None:
    assert len(calls(n=2, best_of=2)) == 2


@pytest.mark.parametrize(("name", "value"), [("suffix", "The end"), ("prompt_logprobs", 1), ("add_special_tokens", 0)])
def test_what_no_model_here_can_do_is_noted(name: str, value: object) -> None:
    refusal = calls(**{name: value})[0].unsupported
    assert refusal is not None
    assert refusal.param == name


def told(*answers: Sequence[Chunk], **fields: object) -> Completion:
    ends = [[chunk.final for chunk in chunks][-1] for chunks in answers]
    whole = [Answer.of(chunks, end) for chunks, end in zip(answers, ends, strict=True) if end is not None]
    return Completion.model_validate_json(parsed(**fields).reply.whole(*whole))


def test_a_whole_answer_has_a_choice_for_each_and_each_prompt_counts_once() -> None:
    answer = told(said("x"), said("y"), said("z", 9), said("w", 9), prompt=["a", "b"], n=2, echo=True)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "ax"), (1, "ay"), (2, "bz"), (3, "bw")]
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4 + 9, 8)
    assert (answer.object, answer.model, answer.id, answer.created) == ("text_completion", "smol", "cmpl-1", 1790000000)


def scored(*texts: str) -> list[Chunk]:
    scores = [TokenScore(Scored(i, text.encode(), -0.5), (Scored(9, b"o", -0.25),)) for i, text in enumerate(texts)]
    chunks = [Chunk("x", text, 1, scores=(score,)) for text, score in zip(texts, scores, strict=True)]
    return [*chunks, Chunk("x", "", 0, Final(Finish.LENGTH, Usage(1, len(texts))))]


def test_scores_stand_side_by_side_with_the_place_of_each_token() -> None:
    [choice] = told(scored("ab", "c", "def"), logprobs=1).choices
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["ab", "c", "def"]
    assert choice.logprobs.text_offset == [0, 2, 3]
    assert choice.logprobs.token_logprobs == [-0.5] * 3
    assert choice.logprobs.top_logprobs == [{"o": -0.25}] * 3
    assert choice.finish_reason == "length"


def test_the_places_of_tokens_go_on_through_a_stream() -> None:
    reply = parsed(logprobs=1, stream=True).reply
    raw = reply.begin(1) + b"".join(reply.feed([chunk]) for chunk in scored("ab", "c", "def"))
    offsets = [event["choices"][0]["logprobs"] for event in events(raw)]  # type: ignore[index]  # parsed JSON
    assert [one["text_offset"] for one in offsets if one] == [[0], [2], [3]]


def test_a_stream_of_several_choices_ends_once_when_all_have() -> None:
    reply = parsed(prompt=["a", "b"], echo=True, stream=True, stream_options={"include_usage": True}).reply
    first, second = said("x"), said("y", 9)
    parts = [reply.begin(1), reply.feed(first[:1], 0), reply.feed(second, 1), reply.feed(first[1:], 0)]
    assert [part.count(b"[DONE]") for part in parts] == [0, 0, 0, 1]
    assert reply.feed(first, 1) == b""
    found = events(b"".join(parts))
    texts = {0: "", 1: ""}
    for event in found:
        for choice in event["choices"]:  # type: ignore[attr-defined]  # parsed JSON
            texts[choice["index"]] += choice["text"]
    assert texts == {0: "ax", 1: "by"}
    assert found[-1]["usage"] == {
        "prompt_tokens": 13,
        "completion_tokens": 4,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_an_error_in_one_choice_ends_the_stream() -> None:
    reply = parsed(prompt=["a", "b"], stream=True).reply
    broken = Final(Finish.ERROR, Usage(1, 0), error=EngineFailed("/secret"))
    raw = reply.begin(1) + reply.feed([Chunk("x", "", 0, broken)], 1)
    assert raw.endswith(b"data: [DONE]\n\n")
    assert b'"error":{' in raw
    assert b"secret" not in raw
    assert reply.feed(said("late"), 0) == b""
