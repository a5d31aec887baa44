"""What a judge is asked, and how its word is read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.engine import Final, Finish, Grammar, Message, Priority, Sampling, ToolCall, Usage
from replicas.errors import EngineFailed
from replicas.tools.tool import Tool
from router.call import Call
from router.chain.gate import Prefix
from router.chain.judge import ANSWER_CHARS, PROMPT, REQUEST_CHARS, Judging, approves, question
from router.origin import Origin

CALL = Call(
    "c",
    "auto",
    (
        Message("system", "be brief"),
        Message("user", "first"),
        Message("assistant", "?"),
        Message("user", "what is 2+2"),
    ),
    Sampling(9, temperature=1.0),
    is_stream=True,
    priority=Priority.BATCH,
    session_id="s",
    tools=(Tool("look"),),
    grammar=Grammar("regex", "a"),
    top_logprobs=3,
    adapter="a",
    origin=Origin(role="clerk", is_private=True),
)
END = Final(Finish.END, Usage(1, 1))


def told(prefix: Prefix, call: Call = CALL) -> dict[str, str]:
    found = json.loads(question(Judging("judge"), call, prefix).messages[1].content)
    assert isinstance(found, dict)
    return found


def test_the_judge_sees_the_last_question_and_the_answer_and_answers_in_a_word() -> None:
    asked = question(Judging("judge", wait_s=3.0), CALL, Prefix("four", final=END))
    assert (asked.messages[0], asked.model, asked.deadline_s) == (Message("system", PROMPT), "judge", 3.0)
    assert told(Prefix("four", final=END)) == {"request": "what is 2+2", "answer": "four"}
    assert (asked.sampling.temperature, asked.sampling.max_tokens < 10) == (0.0, True)
    assert (asked.tools, asked.grammar, asked.adapter, asked.session_id, asked.top_logprobs) == (
        (),
        None,
        None,
        None,
        None,
    )


def test_the_judge_is_asked_as_the_same_request_by_the_same_caller() -> None:
    asked = question(Judging("judge"), CALL, Prefix("four"))
    assert (asked.id, asked.origin, asked.priority) == (CALL.id, CALL.origin, CALL.priority)


def test_the_judge_is_told_of_calls_and_that_more_is_to_come() -> None:
    calls = (ToolCall("", "look", '{"at": "it"}'),)
    assert told(Prefix("let me see", calls))["beginning of the answer"] == 'let me see\ncalls look with {"at": "it"}'


@given(st.text(max_size=20), st.integers(1, 3 * REQUEST_CHARS))
def test_what_a_judge_reads_is_bounded(text: str, times: int) -> None:
    call = Call("c", None, (Message("user", text * times),), Sampling(9))
    found = told(Prefix(text * times), call)
    assert len(found["request"]) <= REQUEST_CHARS
    assert len(found["beginning of the answer"]) <= ANSWER_CHARS
    assert (text * times).endswith(found["request"])


@pytest.mark.parametrize("said", ["yes", "Yes.", " YES, it is", "**yes**", '"yes"'])
def test_a_yes_is_a_yes(said: str) -> None:
    assert approves(said)


@pytest.mark.parametrize("said", ["no", "No!", "\nno, because yes is wrong", "(No)"])
def test_a_no_is_a_no(said: str) -> None:
    assert not approves(said)


@pytest.mark.parametrize("said", ["", "maybe", "note that", "yesterday", "It depends: yes or no"])
def test_what_is_neither_is_no_verdict(said: str) -> None:
    with pytest.raises(EngineFailed, match="neither yes nor no"):
        approves(said)
