"""The Anthropic Messages dialect, for local text models."""

from router.anthropic.dialect import AnthropicDialect, count_body
from router.anthropic.reply import AnthropicReply
from router.anthropic.request import parse_count

__all__ = ["AnthropicDialect", "AnthropicReply", "count_body", "parse_count"]
