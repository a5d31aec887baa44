"""What the privacy guard remembers: that a text was clean, never the text, and not for ever."""

import gc

from hypothesis import given
from hypothesis import strategies as st

from router.privacy.clean import CleanTexts
from router.privacy.guard import Guard

SECRET = "ghp_" + "a1" * 18


@given(st.lists(st.text()), st.text())
def test_a_text_is_known_if_that_very_text_was_added(added: list[str], asked: str) -> None:
    clean = CleanTexts()
    for text in added:
        clean.add(text)
    assert all(text in clean for text in added)
    assert (asked in clean) == (asked in added)


def test_lone_surrogates_are_texts_like_others() -> None:
    clean = CleanTexts()
    clean.add("\ud800")
    assert "\ud800" in clean
    assert "\udfff" not in clean


def test_what_is_not_asked_for_is_forgotten_and_what_is_stays() -> None:
    clean = CleanTexts(most=4)
    clean.add("kept")
    clean.add("forgotten")
    for number in range(40):
        clean.add(str(number))
        assert "kept" in clean
    assert "forgotten" not in clean


def test_no_text_is_kept() -> None:
    clean = CleanTexts()
    clean.add("a sentence that nobody else says")
    held = [one for one in gc.get_referents(vars(clean)) if isinstance(one, set)]
    assert {len(digest) for digests in held for digest in digests} == {16}


def test_a_text_with_something_private_is_found_each_time_and_beside_clean_ones() -> None:
    guard = Guard()
    for _ in range(3):
        assert guard.findings(["hello", f"use {SECRET}", "hello"]) == ("keys",)
        assert guard.findings(["hello"]) == ()
    assert guard.findings([f"use {SECRET}", "write to ada@lovelace.io"]) == ("keys", "email")


def test_two_guards_that_look_for_different_things_share_nothing() -> None:
    text = "write to ada@lovelace.io"
    assert Guard(("keys",)).findings([text]) == ()
    assert Guard().findings([text]) == ("email",)
