"""The gate: what it holds back, what it finds wrong, and what goes out when nothing better is to be had."""

import asyncio
import json
from dataclasses import replace

import pytest

from replicas.engine import (
    CallPiece,
    Chunk,
    Final,
    Finish,
    Grammar,
    Message,
    Sampling,
    Scored,
    TokenScore,
    ToolCall,
    Usage,
)
from replicas.errors import EngineFailed, Unavailable
from replicas.tools.tool import Tool, ToolChoice
from router.call import Call
from router.chain.backend import Asked
from router.chain.backoff import Retries
from router.chain.bar import Bar
from router.chain.breaker import Limits, State
from router.chain.gate import Gate, Prefix
from tests.router.chains import asks, chain, chunk, end, link, ran, saying, scripted, skipping, told

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
LOOK = Tool("look", schema=json.dumps({"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}))
GOOD = "The harbour opens at six in the morning and closes at nine in the evening, on all days but one."
REFUSAL = "I\u2019m sorry, but I can't help with that."


def call(grammar: Grammar | None = None, tools: tuple[Tool, ...] = (), mode: str = "auto", name: str = "") -> Call:
    choice = ToolChoice(mode, name)  # type: ignore[arg-type]  # a mode by its name
    return Call("c", None, (Message("user", "hi"),), Sampling(9), tools=tools, tool_choice=choice, grammar=grammar)


def scored(text: str, *logprobs: float) -> Chunk:
    return chunk(text, len(logprobs), scores=tuple(TokenScore(Scored(0, b"", one)) for one in logprobs))


def called(name: str, *arguments: str) -> list[Chunk]:
    pieces = [CallPiece(0, name), *(CallPiece(0, None, part) for part in arguments)]
    return [chunk(tokens=1, call=piece) for piece in pieces]


FORM = Bar(form=True).gate(call(Grammar("json_schema", json.dumps(SCHEMA))))
TOOLS = Bar(form=True).gate(call(tools=(LOOK,)))
FORM_OR_CALL = Bar(form=True).gate(call(Grammar("json_schema", json.dumps(SCHEMA)), (LOOK,)))
MUST_CALL = Bar(form=True).gate(call(tools=(LOOK,), mode="required"))
NAMED = Bar(form=True).gate(call(tools=(LOOK, Tool("go")), mode="named", name="look"))
SURE = Bar(mean_logprob=-1.0).gate(call())
WORDS = Bar(refusals=True, repetition=True, least_characters=2).gate(call())


@pytest.mark.parametrize(
    ("gate", "answer", "check"),
    [
        (FORM, [chunk('{"n": 1}')], None),
        (FORM, [chunk('{"n": "1"}')], "schema"),
        (FORM, [chunk('{"n": 1')], "schema"),
        (FORM, [chunk("n is 1")], "schema"),
        (FORM_OR_CALL, called("look", '{"at": "it"}'), None),
        (FORM_OR_CALL, [chunk("no need")], "schema"),
        (TOOLS, [chunk("no need")], None),
        (TOOLS, called("look", '{"at": ', '"it"}'), None),
        (TOOLS, called("look", '{"at": 1}'), "tools"),
        (TOOLS, called("look", '{"at": '), "tools"),
        (TOOLS, called("look"), "tools"),
        (TOOLS, called("fly", "{}"), "tools"),
        (MUST_CALL, [chunk("no need")], "tools"),
        (MUST_CALL, called("look", '{"at": "it"}'), None),
        (NAMED, called("go", "{}"), "tools"),
        (SURE, [scored("yes", -0.1, -0.4)], None),
        (SURE, [scored("yes", -0.1, -2.4)], "logprob"),
        (SURE, [chunk("unscored")], None),
        (WORDS, [chunk(GOOD)], None),
        (WORDS, [chunk(REFUSAL)], "refusal"),
        (WORDS, [chunk("As an AI language model, I have no opinion.")], "refusal"),
        (WORDS, [chunk("I cannot assist with this.")], "refusal"),
        (WORDS, [chunk("I can help: she said 'sorry' and left. I cannot see why it fails.")], None),
        (WORDS, [chunk(REFUSAL), *called("look", "{}")], None),
        (WORDS, [chunk("over and over again, " * 6)], "repetition"),
        (WORDS, [chunk("| a | b |\n" + "-" * 200)], None),
        (WORDS, [chunk(" ")], "length"),
    ],
)
def test_what_is_wrong_with_an_answer_is_found(gate: Gate, answer: list[Chunk], check: str | None) -> None:
    found = ran(link("a", [[], *([one] for one in answer), [end()]], gate=gate), link("b", saying("other")))
    fault = found.run.tries[0].fault
    assert (fault and fault.check) == check
    assert found.run.answered_by == ("a" if check is None else "b")


BAD, GOOD_CALL = ToolCall("", "look", "{}"), ToolCall("", "look", '{"at": "it"}')


@pytest.mark.parametrize(
    ("gate", "prefix", "is_fault"),
    [
        (TOOLS, Prefix("", (GOOD_CALL, BAD)), False),  # the last one may be cut off
        (TOOLS, Prefix("", (BAD, GOOD_CALL)), True),
        (MUST_CALL, Prefix("let me see"), False),
        (FORM, Prefix('{"n": '), False),
        (SURE, Prefix("a", scores=scored("a", *[-3.0] * 7).scores), False),  # too few to say
        (SURE, Prefix("a", scores=scored("a", *[-3.0] * 8).scores), True),
        (WORDS, Prefix(""), False),
    ],
)
def test_a_beginning_is_judged_by_what_is_certain_of_it(gate: Gate, prefix: Prefix, is_fault: bool) -> None:
    assert (asyncio.run(gate.fault(prefix)) is not None) is is_fault


@pytest.mark.parametrize("mode", ["text", "lark"])
def test_other_forms_are_left_to_the_engine(mode: str) -> None:
    grammar = Grammar("lark", "start: /x/") if mode == "lark" else None
    assert ran(link("a", saying("y"), gate=Bar(form=True).gate(call(grammar)))).run.answered_by == "a"


def test_a_context_that_ran_full_is_a_fault() -> None:
    found = ran(link("a", [[chunk("half"), end(Finish.CONTEXT)]], gate=WORDS), link("b", saying("whole")))
    assert (found.answer.text, found.run.tries[0].why) == ("whole", "rejected: length")


def test_a_rejected_answer_lets_out_no_byte() -> None:
    found = ran(link("a", saying("I cannot ", "help with that."), gate=WORDS), link("b", saying("other")))
    assert [one.text for chunks in found.lists for one in chunks] == ["other", ""]
    assert found.reasons == [("a", "rejected"), ("b", "answered")]


def test_only_a_bounded_beginning_is_held_back() -> None:
    steps = [step for i in range(100) for step in (1.0, [chunk(f"word{i} ")])]
    found = ran(link("a", [[], *steps, [end()]], gate=Bar(repetition=True, hold_tokens=10).gate(call())), ping_s=1e3)
    assert found.times_s[1] == pytest.approx(10.0)
    assert [len(chunks) for chunks in found.lists[1:4]] == [10, 1, 1]
    assert found.answer.text.startswith("word0 word1 ")


def test_a_rejection_does_not_wait_for_the_end() -> None:
    endless = link("a", [[], *([chunk("the same ")] for _ in range(40)), 1e6], gate=WORDS)
    found = ran(endless, link("b", saying("other")))
    assert (found.answer.text, found.times_s[-1], scripted(endless).closed_early) == ("other", 0.0, 1)


def test_a_form_is_waited_for_up_to_a_limit_and_then_let_go() -> None:
    pieces = ['{"n": ', *["1"] * 20_000]
    found = ran(link("a", [*([chunk(piece)] for piece in pieces), [end()]], gate=FORM), link("b", saying("other")))
    assert found.run.answered_by == "a"
    assert FORM.hold_characters <= sum(len(one.text) for one in found.lists[1]) < FORM.hold_characters + 10


def test_scores_that_only_the_gate_asked_for_go_no_further() -> None:
    kept, dropped = (
        ran(link("a", [[scored("yes", -0.1)], [end()]], gate=SURE, keeps_scores=keeps)) for keeps in (1, 0)
    )
    assert (len(kept.answer.scores), len(dropped.answer.scores)) == (1, 0)
    assert kept.answer.text == dropped.answer.text == "yes"


def test_a_final_without_scores_is_judged_by_its_mean() -> None:
    last = Chunk("g", "", 0, Final(Finish.END, Usage(1, 1), mean_logprob=-3.0))
    found = ran(link("a", [[chunk("hm")], [last]], gate=SURE), link("b", saying("other")))
    assert found.run.tries[0].why == "rejected: logprob"


def test_a_pool_whose_answers_are_rejected_is_well() -> None:
    async def test() -> None:
        shared = chain(Limits(failures=1, rest_s=5.0, probes=1))
        asked = Asked((link("a", [EngineFailed("x")], saying(REFUSAL), gate=WORDS), link("b", saying("other"))))
        await told(replace(asked, retries=Retries(0)), shared)
        await asyncio.sleep(6.0)
        assert (await told(asked, shared)).run.tries[0].why == "rejected: refusal"
        assert shared.breaker("a").state is State.CLOSED

    skipping(test())


def test_a_rejected_answer_is_better_than_none() -> None:
    first = link("a", saying(REFUSAL), gate=WORDS)
    found = ran(first, link("b", [EngineFailed("x")]))
    assert (found.answer.text, found.run.is_degraded, len(asks(first))) == (REFUSAL, True, 2)


def test_a_rejected_answer_may_be_kept_back_for_good() -> None:
    gated = [link(pool, saying(REFUSAL), gate=WORDS) for pool in ("a", "b")]
    found = ran(*gated, serves_rejected=False)
    assert isinstance(found.error, Unavailable)
    assert "good enough" in str(found.error)


@pytest.mark.parametrize(("verdict", "pool"), [(True, "a"), (False, "b"), (None, "a"), (1e6, "a")])
def test_the_judge_decides_if_it_can(verdict: object, pool: str) -> None:
    seen: list[Prefix] = []

    async def judge(prefix: Prefix) -> bool:
        seen.append(prefix)
        if verdict is None:
            raise EngineFailed("the judge is ill")
        if isinstance(verdict, float):
            await asyncio.sleep(verdict)
        return bool(verdict)

    gate = Bar(refusals=True).gate(call(), judge)
    assert ran(link("a", saying(GOOD), gate=gate), link("b", saying("other"))).run.answered_by == pool
    assert (len(seen), seen[0].text) == (1, GOOD)


def test_the_judge_is_not_asked_about_what_is_plainly_wrong() -> None:
    async def judge(_: Prefix) -> bool:
        raise AssertionError("asked")

    gate = Bar(refusals=True).gate(call(), judge)
    assert ran(link("a", saying(REFUSAL), gate=gate), link("b", saying("other"))).run.answered_by == "b"
