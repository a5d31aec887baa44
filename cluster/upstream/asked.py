"""What a request asks for, whichever protocol it came in, and the one way to say no to it."""

from dataclasses import dataclass
from enum import StrEnum

Json = dict[str, object]


class Dialect(StrEnum):
    """A protocol. OpenRouter speaks OpenAI's chat completions with additions of its own; OpenAI has two more, for bare
    text and for vectors."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    OPENROUTER = "openrouter"
    TEXT = "text"
    VECTORS = "vectors"


class Problem(Exception):
    """An answer that is an error: HTTP `status`, and words.

    `kind` is the protocol's own type of error; None: the usual one of the status.
    """

    def __init__(self, status: int, message: str, kind: str | None = None, param: str | None = None) -> None:
        super().__init__(status, message, kind, param)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called."""

    name: str
    schema: Json


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `question` is the last text block of the user, `prompt` all text there is, tools too.

    `forced` is the tool that must be called, `schema` what a JSON answer must match. `media_tokens` are what images and
    documents count as. `is_after_tool`: the last turn brings results of tools.
    """

    dialect: Dialect
    model: str
    question: str
    prompt: str
    media_tokens: int = 0
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    forced: Tool | None = None
    schema: Json | None = None
    is_stream: bool = False
    is_thinking: bool = False
    is_after_tool: bool = False
    is_usage_wanted: bool = True
    choices: int = 1
    top_logprobs: int | None = None
