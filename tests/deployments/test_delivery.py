"""An answer that begins again goes on exactly where it stopped, however either run was cut into chunks."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.delivery import Delivery
from replicas.engine import Chunk, Final, Finish, Scored, TokenScore, Usage
from replicas.errors import EngineFailed

FINAL = Final(Finish.END, Usage(1, 5))
ANSWER = "abcdefghij"  # a token and a score for each character


def chunks(cuts: list[int], last: Final | None) -> list[Chunk]:
    edges = sorted({0, len(ANSWER), *cuts})
    texts = [ANSWER[start:end] for start, end in pairwise(edges)]
    made = [Chunk("x", text, len(text), scores=tuple(map(score, text))) for text in texts]
    return [*made, Chunk("x", "", 0, last)]


def score(character: str) -> TokenScore:
    return TokenScore(Scored(ord(character), character.encode(), -1.0))


cuts = st.lists(st.integers(0, len(ANSWER)))


@settings(deadline=None)
@given(cuts, cuts, st.integers(0, len(ANSWER)))
def test_text_tokens_and_scores_come_once(before: list[int], after: list[int], lost_after: int) -> None:
    delivery = Delivery()
    told = [delivery.rest(chunk) for chunk in chunks(before, None)[:lost_after]]
    delivery.begin_again()
    told += [delivery.rest(chunk) for chunk in chunks(after, FINAL)]
    assert "".join(chunk.text for chunk in told) == ANSWER
    assert sum(chunk.tokens for chunk in told) == len(ANSWER)
    assert [s for chunk in told for s in chunk.scores] == list(map(score, ANSWER))
    assert told[-1].final is FINAL


@pytest.mark.parametrize("again", [Chunk("x", "abx", 3), Chunk("x", "a", 1, FINAL), Chunk("x", "", 0, FINAL)])
def test_an_answer_that_comes_back_as_another_one_has_failed(again: Chunk) -> None:
    delivery = Delivery()
    delivery.rest(Chunk("x", "abc", 3))
    delivery.begin_again()
    with pytest.raises(EngineFailed, match="another one"):
        delivery.rest(again)
    assert delivery.is_contradicted


def test_an_answer_that_fails_the_second_time_says_why() -> None:
    delivery = Delivery()
    delivery.rest(Chunk("x", "abc", 3))
    delivery.begin_again()
    failed = Final(Finish.ERROR, Usage(1, 0), error=EngineFailed("broke"))
    assert delivery.rest(Chunk("x", "", 0, failed)).final is failed
