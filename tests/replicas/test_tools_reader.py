"""Stop strings beside calls: they end words, and leave calls and what stands around them alone."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.engine import Chunk, Final, Finish, Sampling, Usage
from replicas.errors import EngineFailed
from replicas.tools.parser import CallParser
from replicas.tools.reader import CallReader
from replicas.tools.syntax import HERMES

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lima"}}\n</tool_call>'
END = Final(Finish.END, Usage(7, 99, 5))


def read(pieces: Sequence[str], *stops: str, final: Final = END, is_certain: bool = True) -> list[Chunk]:
    sampling = Sampling(99, stop=tuple(stops))
    reader = CallReader(CallParser(HERMES, ["weather"], is_certain=is_certain), sampling, prompt_tokens=7)
    chunks = [*(Chunk("r", piece, 1) for piece in pieces), Chunk("r", "", 0, final)]
    return [said for chunk in chunks if not reader.has_stopped for said in reader.read([chunk])]


def summary(chunks: Sequence[Chunk]) -> tuple[str, str, Finish, str | None]:
    """Words, arguments, and how it ended."""
    final = chunks[-1].final
    assert final is not None
    arguments = "".join(chunk.call.arguments for chunk in chunks if chunk.call is not None)
    return "".join(chunk.text for chunk in chunks), arguments, final.finish, final.stop_sequence


@pytest.mark.parametrize("stop", ["Lima", "\n", "tool_call", "{", '"', "<", "city"])
@pytest.mark.parametrize("is_certain", [True, False])
def test_a_stop_string_in_a_call_or_its_markup_is_none(stop: str, is_certain: bool) -> None:
    told = read([f"I look.\n{CALL}"], stop, is_certain=is_certain)
    assert summary(told) == ("I look.", '{"city": "Lima"}', Finish.END, None)


def test_words_before_and_after_a_call_end_at_a_stop_string() -> None:
    assert summary(read([f"I look. Oh.\n{CALL}"], "Oh")) == ("I look. ", "", Finish.STOP, "Oh")
    assert summary(read([f"{CALL}Well. Oh."], "Oh")) == ("Well. ", '{"city": "Lima"}', Finish.STOP, "Oh")


def test_a_stop_string_does_not_begin_before_a_call_and_end_behind_it() -> None:
    assert summary(read([f"a{CALL}b"], "ab")) == ("ab", '{"city": "Lima"}', Finish.END, None)


def test_an_answer_that_is_stopped_early_says_how_many_tokens_it_took() -> None:
    final = read(["a", "b", "c", "d"], "bc")[-1].final
    assert final is not None
    assert final.usage == Usage(7, 3)
    late = read(["a "], " ")[-1].final  # white space waits for what follows it
    assert late is not None
    assert late.usage == END.usage


def test_an_answer_that_broke_has_not_been_stopped() -> None:
    broken = Final(Finish.ERROR, Usage(7, 1), error=EngineFailed("broken"))
    assert read(["a "], " ", final=broken)[-1].final == broken


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([CALL, "a", "b", " ", "\n", "<tool"]), max_size=6).map("".join),
    st.lists(st.sampled_from(["ab", "b", "\n", "a b", "weather", "<tool"]), max_size=3),
    st.data(),
)
def test_any_cut_of_an_answer_stops_at_the_same_place(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    expected = summary(read([text], *stops))
    assert summary(read(pieces, *stops)) == summary(read(list(text), *stops)) == expected


def test_a_call_that_is_cut_before_its_name_leaves_no_markup() -> None:
    text = 'I look.\n<tool_call>\n{"name": "wea'
    length = Final(Finish.LENGTH, Usage(7, 9))
    assert summary(read([text], final=length)) == ("I look.", "", Finish.LENGTH, None)
    assert summary(read([text]))[0] == text
