"""Log-probabilities in the OpenAI dialect."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.chat_completion import ChoiceLogprobs

from replicas.engine import Scored, TokenScore
from replicas.errors import InvalidRequest
from router import sse
from router.body import read
from router.openai.logprobs import ScoreFields, logprobs_value

SCORED = st.builds(
    Scored, st.integers(0, 2**31), st.binary(max_size=6), st.floats(max_value=0, allow_nan=False, allow_infinity=True)
)
SCORES = st.lists(st.builds(TokenScore, SCORED, st.lists(SCORED, max_size=20).map(tuple)), max_size=8)


@given(SCORES)
def test_the_sdk_reads_any_scores_with_their_exact_bytes(scores: list[TokenScore]) -> None:
    read_back = ChoiceLogprobs.model_validate_json(sse.encoded(logprobs_value(scores)))
    content = read_back.content or []
    assert [bytes(token.bytes or []) for token in content] == [score.chosen.bytes_ for score in scores]
    assert [[bytes(t.bytes or []) for t in token.top_logprobs] for token in content] == [
        [top.bytes_ for top in score.top] for score in scores
    ]
    assert all(math.isfinite(token.logprob) for token in content)


def test_bytes_that_are_no_whole_character_are_written_as_escapes() -> None:
    scores = [TokenScore(Scored(1, " é".encode() + b"\xf0\x9f", -0.5)), TokenScore(Scored(2, b"", -math.inf))]
    assert logprobs_value(scores) == {
        "content": [
            {"token": " é\\xf0\\x9f", "logprob": -0.5, "bytes": [32, 195, 169, 240, 159], "top_logprobs": []},
            {"token": "", "logprob": -9999.0, "bytes": [], "top_logprobs": []},
        ],
        "refusal": None,
    }


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"{}", None),
        (b'{"logprobs": false, "top_logprobs": 0}', None),
        (b'{"logprobs": true}', 0),
        (b'{"logprobs": true, "top_logprobs": 20}', 20),
    ],
)
def test_a_body_asks_for_no_scores_or_for_some(body: bytes, wanted: int | None) -> None:
    assert read(ScoreFields, body).wanted_scores == wanted


@pytest.mark.parametrize(
    "body",
    [
        b'{"logprobs": true, "top_logprobs": 21}',
        b'{"logprobs": true, "top_logprobs": -1}',
        b'{"logprobs": true, "top_logprobs": "5"}',
        b'{"top_logprobs": 5}',
        b'{"logprobs": false, "top_logprobs": 1}',
    ],
)
def test_impossible_scores_are_refused_with_their_field(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _ = read(ScoreFields, body).wanted_scores
    assert refused.value.param == "top_logprobs"
