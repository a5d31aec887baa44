"""Tokens to text: nothing is lost, nothing comes too early."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from replicas.detokenizer import ByteDetokenizer, StopFilter, spelled
from tests.replicas.engines import tiny

LETTERS = st.text(alphabet="ab\n", max_size=24)


def _text(pieces: list[bytes], *, is_space_stripped: bool = False) -> list[str]:
    detokenizer = ByteDetokenizer(pieces.__getitem__, is_space_stripped=is_space_stripped)
    return [*(detokenizer.push(number) for number in range(len(pieces))), detokenizer.flush()]


def _filtered(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    filter_, passed = StopFilter(stops), ""
    for piece in pieces:
        text, stop = filter_.push(piece)
        passed += text
        if stop is not None:
            return passed, stop
    return passed + filter_.flush(), None


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=8))
def test_any_bytes_cut_anywhere_decode_as_a_whole(data: bytes, cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(ends)]
    assert "".join(_text(pieces)) == data.decode(errors="replace")


@given(st.text(max_size=20))
def test_a_character_comes_whole_with_its_last_byte(text: str) -> None:
    pieces = [bytes([byte]) for byte in text.encode(errors="ignore")]
    pushed = _text(pieces)
    assert "".join(pushed) == text.encode(errors="ignore").decode()
    assert all(len(piece) <= 1 for piece in pushed)


def test_half_a_character_at_the_end_becomes_one_replacement() -> None:
    assert _text(["🌍".encode()[:2]]) == ["", "\ufffd"]


@given(st.lists(st.integers(3, 280), max_size=60))
def test_byte_level_tokens_decode_as_the_tokenizers_library_does(ids: list[int]) -> None:
    fast = Tokenizer.from_file(str(tiny().directory / "tokenizer.json"))
    detokenizer = ByteDetokenizer(lambda id_: spelled(fast.id_to_token(id_) or "", "byte_level"))
    assert "".join(map(detokenizer.push, ids)) + detokenizer.flush() == fast.decode(ids)


@given(st.lists(st.sampled_from(["▁a", "b", "▁", "<0xC3>", "é"]), max_size=12))
def test_byte_fallback_tokens_decode_as_the_tokenizers_library_does(tokens: list[str]) -> None:
    # The library gives up on a whole run of bytes if one is broken; here every C3 gets the A9 that completes it.
    whole = [part for token in tokens for part in ([token, "<0xA9>"] if token == "<0xC3>" else [token])]
    vocabulary = ["▁a", "b", "▁", "<0xC3>", "<0xA9>", "é"]
    fast = Tokenizer(models.WordLevel({token: id_ for id_, token in enumerate(vocabulary)}, "b"))
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces = [spelled(token, "byte_fallback") for token in whole]
    expected = fast.decode([vocabulary.index(token) for token in whole])
    assert "".join(_text(pieces, is_space_stripped=True)) == expected


def test_an_added_token_outside_the_byte_alphabet_is_itself() -> None:
    assert spelled("<tool call>", "byte_level") == b"<tool call>"
    assert spelled("Ġthe", "byte_level") == b" the"


@given(st.lists(LETTERS, max_size=6), st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=3))
def test_a_stop_string_never_gets_out_and_nothing_else_is_lost(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    passed, stop = _filtered(pieces, stops)
    if stop is None:
        assert passed == whole
        assert not any(stop in whole for stop in stops)
    else:
        assert whole.startswith(passed + stop)
    assert not any(stop in passed for stop in stops)


@given(LETTERS, st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=3))
def test_how_the_text_is_cut_does_not_move_the_stop(text: str, stops: list[str]) -> None:
    assert _filtered([text], stops) == _filtered(list(text), stops)


def test_only_what_could_begin_a_stop_string_is_held_back() -> None:
    filter_ = StopFilter(["\n\nHuman:"])
    assert filter_.push("Hello\n") == ("Hello", None)
    assert filter_.push("\nHum") == ("", None)
    assert filter_.push("bug") == ("\n\nHumbug", None)
    assert filter_.push("\n\nHuman: no") == ("", "\n\nHuman:")
