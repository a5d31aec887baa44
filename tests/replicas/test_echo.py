"""EchoEngine beyond the contract: what it says, and when time runs out."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.collect import collect
from replicas.detokenizer import Detokenizer
from replicas.echo import END, EchoConfig, EchoEngine, EchoTokenizer, last_text
from replicas.engine import Finish, Generation, Grammar, Message, Sampling, ToolCall
from replicas.errors import DeadlineExceeded
from replicas.grammar import Constraint
from replicas.slot.admission import Admission, Bounds
from tests.replicas.engines import Inbox, asked, sampled

TALK = (Message("system", "be brief"), Message("user", "first"), Message("assistant", "so"), Message("user", "läst"))


def test_it_answers_with_the_last_message() -> None:
    engine = EchoEngine()
    answer = collect(engine, Generation("one", TALK, sampled(max_tokens=100)))
    engine.close()
    assert (answer.text, answer.final.finish) == ("läst", Finish.END)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_text_survives_the_byte_tokens(text: str) -> None:
    tokenizer = EchoTokenizer()
    ids = last_text(tokenizer.encode_chat([Message("user", "before"), Message("user", text)]))
    assert ids == tokenizer.encode(text)


def test_ignore_eos_says_it_again() -> None:
    engine = EchoEngine()
    answer = collect(engine, asked(text="abc", max_tokens=8, ignore_eos=True))
    engine.close()
    assert answer.text == "abcabcab"


def test_nothing_to_say_is_an_empty_answer() -> None:
    engine = EchoEngine()
    answer = collect(engine, asked(text=""))
    engine.close()
    assert (answer.text, answer.final.finish) == ("", Finish.END)


def test_a_step_with_a_delay_ends_at_once_when_the_engine_closes() -> None:
    engine, inbox = EchoEngine(EchoConfig(delay_s=3600.0)), Inbox()
    engine.submit(asked(), inbox)
    inbox.begun()
    engine.close()
    assert inbox.final().finish is Finish.CANCELLED


def test_a_running_answer_stops_when_the_clock_passes_its_deadline() -> None:
    now_s = [0.0]
    engine, gate = EchoEngine(clock=lambda: now_s[0]), threading.Event()
    inbox = Inbox(gate)
    engine.submit(Generation("late", (Message("user", "slow"),), sampled(), deadline_s=5.0), inbox)
    inbox.begun()
    now_s[0] = 5.0
    gate.set()
    final = inbox.final()
    engine.close()
    assert isinstance(final.error, DeadlineExceeded)
    assert (inbox.text, final.timings.decode_s) == ("s", 5.0)


@pytest.mark.parametrize(
    ("last", "is_continued"),
    [
        (Message("assistant", "I look, "), True),
        (Message("assistant", " "), False),
        (Message("assistant", "I look.", (ToolCall("c", "weather", "{}"),)), False),
        (Message("user", "x"), False),
    ],
)
def test_prompt_and_answer_agree_on_what_is_continued(
    monkeypatch: pytest.MonkeyPatch, last: Message, *, is_continued: bool
) -> None:
    told: list[bool] = []

    def noting(tokenizer: EchoTokenizer, *, is_continuation: bool = False) -> Detokenizer:
        told.append(is_continuation)
        return detokenizer(tokenizer, is_continuation=is_continuation)

    detokenizer = EchoTokenizer.detokenizer
    monkeypatch.setattr(EchoTokenizer, "detokenizer", noting)
    engine, talk = EchoEngine(), (Message("user", "x"), last)
    collect(engine, Generation("one", talk, sampled()))
    engine.close()
    own_turn = EchoTokenizer().encode_chat((Message("assistant", ""),))[0]
    assert told == [EchoTokenizer().encode_chat(talk)[-1] != own_turn] == [is_continued]


class Plain:
    """An engine that can do nothing beyond text."""

    def compiled(self, grammar: Grammar) -> Constraint:
        raise AssertionError("there is no grammar")

    def adapters(self) -> tuple[str, ...]:
        return ()

    def can_embed(self) -> bool:
        return False


@pytest.mark.parametrize("is_continued", [True, False])
def test_an_engine_knows_whether_token_ids_are_to_be_continued(is_continued: bool) -> None:
    known: list[bool] = []

    class Spy(EchoTokenizer):
        def detokenizer(self, *, is_continuation: bool = False) -> Detokenizer:
            known.append(is_continuation)
            return super().detokenizer(is_continuation=is_continuation)

    admission = Admission(Spy(), {END}, Bounds(261, 100), Plain())
    admission.admit(Generation("one", (97, 98), Sampling(3), is_continued=is_continued), Inbox())
    assert known == [is_continued]
