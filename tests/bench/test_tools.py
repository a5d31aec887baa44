"""bench.tools: fair cases, and figures that count what they say."""

import json
from collections import Counter

import openai
import pytest

from bench.tools.__main__ import CHOICE, FREE, Outcome, Row, aims, measure, table
from bench.tools.cases import Case, cases
from bench.tools.ways import Said, by_choice, free_text, required
from replicas.engine import ToolCall
from replicas.tools.tool import object_of
from tests.deployments.served import serving


def test_the_same_seed_gives_the_same_cases() -> None:
    assert cases(30, 5) == cases(30, 5) != cases(30, 6)


def test_a_call_is_asked_for_in_most_cases_and_names_every_argument() -> None:
    made = cases(100, 1)
    calls = [case for case in made if case.tool is not None]
    assert len(calls) == 70
    for case in calls:
        offered = {tool.name: object_of(tool.schema) for tool in case.tools}
        schema = offered[case.tool or ""]
        assert schema is not None
        assert schema["required"] == list(case.arguments)
        assert all(str(value) in case.request for value in case.arguments.values())


def test_tools_are_few_distinct_and_none_fits_where_none_should() -> None:
    made = cases(200, 2)
    by_request = {case.request: case.tool for case in made if case.tool is not None}
    for case in made:
        names = [tool.name for tool in case.tools]
        assert 2 <= len(names) == len(set(names)) <= 5
        if case.tool is None:
            assert by_request.get(case.request) not in names
    assert Counter(case.tool for case in made).most_common(1)[0][0] is None


CASE = next(case for case in cases(100, 1) if case.tool is not None)
RIGHT = ToolCall("", CASE.tool or "", json.dumps(dict(CASE.arguments)))
WRONG = ToolCall("", CASE.tool or "", "{}")
OTHER = ToolCall("", "other", RIGHT.arguments)
TALK = Case("Hello", CASE.tools, None, {})


@pytest.mark.parametrize(
    ("case", "calls", "is_right", "is_exact"),
    [
        (CASE, (RIGHT,), True, True),
        (CASE, (WRONG,), True, False),
        (CASE, (OTHER,), False, False),
        (CASE, (RIGHT, RIGHT), True, False),
        (CASE, (), False, False),
        (TALK, (), True, True),
        (TALK, (RIGHT,), False, False),
    ],
)
def test_an_outcome_is_right_by_its_tool_and_exact_by_every_argument(
    case: Case, calls: tuple[ToolCall, ...], is_right: bool, is_exact: bool
) -> None:
    outcome = Outcome(case, Said(calls, ""))
    assert (outcome.is_right, outcome.is_exact) == (is_right, is_exact)


def test_numbers_and_their_texts_are_not_the_same() -> None:
    case = Case("Tram 7", CASE.tools, "tram_delay", {"line": 7})
    assert not Outcome(case, Said((ToolCall("", "tram_delay", '{"line": "7"}'),), "")).is_exact


def test_the_ways_with_tools_ask_a_real_instance() -> None:
    asked = cases(10, 3)
    with serving() as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="local") as client:
        row, outcomes = measure(client, "echo", ("echo", by_choice), asked)
        assert (row.right, row.exact, row.no_tool) == (0.0, 0.0, 1.0)  # an echo never calls
        assert [one.said.text for one in outcomes] == [case.request for case in asked]
        only_calls, _ = measure(client, "echo", ("required", required), asked)
        assert only_calls.no_tool is None
        with pytest.raises(openai.NotFoundError):
            measure(client, "echo", ("free", free_text), asked)


FREE_ROW = Row(FREE, 70, right=0.95, exact=0.80, no_tool=None, time_s=1.0)


@pytest.mark.parametrize(
    ("right", "exact", "reached"),
    [
        (0.90, 57 / 70, [True, True, True]),
        (0.89, 57 / 70, [False, True, True]),
        (0.90, 56 / 70, [True, True, False]),
        (0.90, 0.70, [True, False, False]),
    ],
)
def test_every_claim_is_judged_by_its_own_figure(right: float, exact: float, reached: list[bool]) -> None:
    chosen = Row(CHOICE, 70, right, exact, no_tool=0.9, time_s=1.0)
    best = Row("call required, grammar", 70, right=1.0, exact=1.0, no_tool=None, time_s=1.0)
    judged = aims([FREE_ROW, chosen, best])
    assert [aim.is_reached for aim in judged] == reached
    shown = table([FREE_ROW, chosen, best])
    assert [line.endswith("reached") for line in shown.splitlines()[-3:]] == reached
