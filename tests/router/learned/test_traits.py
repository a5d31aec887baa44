"""Traits are whole numbers, the same for the same request, and survive their line; no word can be read from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.engine import Grammar, Message, Sampling
from replicas.tools.tool import Tool, ToolChoice
from router.call import Call
from router.learned.traits import GRAMS, NAMES, SCHEMA, Traits, traits_of
from tests.router.learned.made import asked


def told(text: str) -> dict[str, int]:
    return dict(zip(NAMES, traits_of(asked(text)).counts, strict=True))


@given(st.text(max_size=300))
def test_the_line_of_any_request_reads_back_as_the_same_traits(text: str) -> None:
    traits = traits_of(asked(text))
    assert Traits.of_line(traits.line) == traits == traits_of(asked(text))
    assert set(traits.line) <= set("0123456789abcdef: ")


@given(st.text(max_size=200))
def test_any_other_text_is_no_line_or_one_that_reads_back(line: str) -> None:
    found = Traits.of_line(line)
    assert found is None or Traits.of_line(found.line) == found


@pytest.mark.parametrize("change", ["9:", "schema", "", "1:1 2:0", "1:" + "1 " * len(NAMES) + ":" + "f" * 40])
def test_lines_of_another_schema_or_size_are_none(change: str) -> None:
    assert Traits.of_line(change) is None


def test_a_line_with_numbers_below_zero_is_none() -> None:
    counts = " ".join(["-1"] + ["0"] * (len(NAMES) - 1))
    assert Traits.of_line(f"{SCHEMA}:{counts}:0") is None
    assert Traits.of_line(f"{SCHEMA}:{'0 ' * len(NAMES)}:-1") is None


def test_sums_lists_code_and_forms_leave_their_marks() -> None:
    sums = told("What is 123 * 45 + 6?")
    assert (sums["digits"], sums["numbers"], sums["longest_number"], sums["operators"]) == (6, 3, 3, 2)
    assert (sums["questions"], sums["asks_what"], sums["asks_who"], sums["english"]) == (1, 1, 0, 1)
    listed = told("Choose one of these, as JSON:\n- red\n- green")
    assert (listed["items"], listed["lines"], listed["json"], listed["choice"]) == (2, 2, 1, 1)
    assert told("Write a Python function that sorts names.")["code"] == 1


def test_what_came_beside_the_words_counts_too() -> None:
    call = Call(
        "call-1",
        None,
        (Message("system", "Be brief."), Message("user", "hello")),
        Sampling(7),
        tools=(Tool("look", "", "{}"),),
        tool_choice=ToolChoice("required"),
        grammar=Grammar("regex", "a+"),
        has_image=True,
    )
    found = dict(zip(NAMES, traits_of(call).counts, strict=True))
    wanted = ("tools", "call_required", "form", "image", "system", "turns", "answer_tokens")
    assert [found[name] for name in wanted] == [1, 1, 1, 1, 1, 2, 7]


def test_numbers_are_alike_to_the_grams_and_a_long_text_is_read_at_both_ends() -> None:
    assert traits_of(asked("add 17 and 4")).grams == traits_of(asked("add 9 and 350")).grams
    filler = "x " * 100_000
    short, long = traits_of(asked("hm?")), traits_of(asked(f"hm {filler} what?"))
    assert dict(zip(NAMES, long.counts, strict=True))["asks_what"] == 1
    assert dict(zip(NAMES, long.counts, strict=True))["chars"] < 5000
    assert all(0 <= gram < GRAMS for gram in (*short.grams, *long.grams))
