"""The OpenAI chat completions dialect."""

from router.openai.dialect import OpenAIDialect
from router.openai.reply import OpenAIReply

__all__ = ["OpenAIDialect", "OpenAIReply"]
