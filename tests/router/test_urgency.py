"""Which requests may wait."""

import json

import pytest

from replicas.engine import Priority
from replicas.errors import InvalidRequest
from router.anthropic import AnthropicDialect
from router.call import Dialect
from router.openai import OpenAIDialect

BODY: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
DIALECTS: list[Dialect] = [OpenAIDialect("m"), AnthropicDialect("m")]


def priority(dialect: Dialect, headers: dict[str, str], **fields: object) -> Priority:
    return dialect.parse(json.dumps({**BODY, **fields}).encode(), headers).call.priority


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_header_says_whether_a_request_may_wait(dialect: Dialect) -> None:
    assert priority(dialect, {}) is Priority.INTERACTIVE
    assert priority(dialect, {"x-shoal-priority": "Batch "}) is Priority.BATCH
    assert priority(dialect, {"x-shoal-priority": "interactive"}) is Priority.INTERACTIVE


@pytest.mark.parametrize("dialect", DIALECTS)
def test_another_word_is_refused(dialect: Dialect) -> None:
    with pytest.raises(InvalidRequest, match="interactive or batch") as refused:
        priority(dialect, {"x-shoal-priority": "high"})
    assert refused.value.param == "x-shoal-priority"


def test_the_flex_tier_may_wait_unless_the_header_says_otherwise() -> None:
    assert priority(DIALECTS[0], {}, service_tier="flex") is Priority.BATCH
    assert priority(DIALECTS[0], {"x-shoal-priority": "interactive"}, service_tier="flex") is Priority.INTERACTIVE
    assert priority(DIALECTS[0], {}, service_tier="default") is Priority.INTERACTIVE
    assert priority(DIALECTS[1], {}, service_tier="standard_only") is Priority.INTERACTIVE
