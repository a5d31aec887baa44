"""Log-probabilities in the chat completions dialect: what a body may ask for, and how the scores are worded.

The dialect gives a token as text and as bytes. Bytes that are no whole characters are written `\\xf0\\x9f` in the text,
as the real API does; only `bytes` is exact, and joining them over all tokens gives the answer.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from replicas.engine import Scored, TokenScore
from replicas.errors import InvalidRequest
from router.body import Flag, Wire
from router.sse import Json

LEAST_LOGPROB = -9999.0
"""The dialect's number for "as good as impossible": JSON has no minus infinity."""


class ScoreFields(Wire):
    """The two fields of a body that ask for log-probabilities."""

    logprobs: Flag | None = None
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=20)] | None = None

    @property
    def wanted_scores(self) -> int | None:
        """`Generation.top_logprobs`: None for no scores. Raises InvalidRequest for alternatives without `logprobs`."""
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise InvalidRequest("top_logprobs: only together with `logprobs: true`", "top_logprobs")
        return None


def logprobs_value(scores: Sequence[TokenScore]) -> Json:
    """The `logprobs` member of a choice, whole or of a streamed chunk, for the tokens that `scores` are of."""
    content = [{**_scored(s.chosen), "top_logprobs": [_scored(top) for top in s.top]} for s in scores]
    return {"content": content, "refusal": None}


def token_text(scored: Scored) -> str:
    """A token as text."""
    return scored.bytes_.decode("utf-8", "backslashreplace")


def _scored(scored: Scored) -> dict[str, Json]:
    return {
        "token": token_text(scored),
        "logprob": max(LEAST_LOGPROB, scored.logprob),
        "bytes": list(scored.bytes_),
    }
