"""OpenAI's dialects: chat completions, and the older completions."""

from router.openai.dialect import CompletionsDialect, OpenAIDialect
from router.openai.reply import OpenAIReply

__all__ = ["CompletionsDialect", "OpenAIDialect", "OpenAIReply"]
