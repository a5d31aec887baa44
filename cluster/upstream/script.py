"""The script: what the upstream serves, what it answers, how it fails. YAML or JSON; an unknown key is an error.

Answers and faults are lists of their own, and in each the first entry that matches a request holds for it. Chances are
drawn from `seed`, the entry and how often it was tried: the same requests in the same order meet the same faults.
"""

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cluster.upstream.asked import Dialect
from replicas.errors import SettingsError

Stop = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded"]
Chance = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the script."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(Part):
    """USD per million tokens."""

    input: Usd = 0.0
    output: Usd = 0.0
    cache_read: Usd = 0.0
    cache_write: Usd = 0.0


class ModelCard(Part):
    """A model that is served. `accuracy` is the share of questions whose `text` and not whose `wrong` is answered. One
    that `is_dense` counts a token for each byte of a prompt: no real one counts more.

    The first byte comes after `ttft_s`, the tokens at `tokens_per_s`; null: at once.
    """

    id: str
    display_name: str = ""
    context_tokens: int = Field(200_000, ge=1)
    price: Price = Price()
    accuracy: Chance = 1.0
    is_dense: bool = False
    ttft_s: Seconds = 0.0
    tokens_per_s: float | None = Field(None, gt=0)


class When(Part):
    """Which requests; what is not given does not matter. `model`, `path` and header values are globs (`claude-*`).

    `contains` is looked for in the last text of the user, the expression `pattern` in all text. Without `path` only
    messages and chat completions are meant, not models or token counts.
    """

    path: str | None = None
    dialect: Dialect | None = None
    model: str | None = None
    contains: str | None = None
    pattern: str | None = None
    headers: dict[str, str] = {}
    has_tools: bool | None = None
    is_stream: bool | None = None
    is_after_tool: bool | None = None

    @field_validator("pattern")
    @classmethod
    def _is_expression(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern


class Entry(Part):
    """An entry of a list: the first `skip` requests that match pass by, then it holds for `times` (null: all)."""

    when: When = When()
    skip: int = Field(0, ge=0)
    times: int | None = Field(None, ge=1)


class Call(Part):
    """A call of a tool; without `input` an example of the tool's schema."""

    name: str
    input: dict[str, object] | None = None


class Words(Part):
    """What the model says. Null text: an echo of the question, unless there are calls."""

    text: str | None = None
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    stop: Stop | None = None


class CacheUse(Part):
    """How many of the prompt's tokens were read from a cache, or written to one."""

    read_tokens: int = Field(0, ge=0)
    write_tokens: int = Field(0, ge=0)


class AnswerEntry(Entry, Words):
    """An answer to the requests that match. `wrong` is what a model below full accuracy says instead."""

    wrong: Words | None = None
    cache: CacheUse = CacheUse()


class FaultKind(StrEnum):
    """The ways to misbehave."""

    STATUS = "status"
    HTML = "html"
    RESET = "reset"
    SILENCE = "silence"
    SLOW_START = "slow_start"
    SLOW_TOKENS = "slow_tokens"
    CUT = "cut"
    UNFINISHED = "unfinished"
    ERROR_EVENT = "error_event"
    MALFORMED = "malformed"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    DUPLICATES = "duplicates"
    WRONG_USAGE = "wrong_usage"
    NO_USAGE = "no_usage"
    EMPTY_CALLS = "empty_calls"
    WHOLE_ARGUMENTS = "whole_arguments"
    OBJECT_ARGUMENTS = "object_arguments"
    STOP_WITH_CALLS = "stop_with_calls"
    INTERLEAVED_CALLS = "interleaved_calls"


class Fault(Part):
    """One fault. `529` alone is that status, `cut` alone that kind.

    `after_tokens`: where in a stream it strikes; None: after a few, but a reset before the first byte. `delay_s`: what
    slow faults add to the first byte, or take per token. `headers` go with a status or a page.
    """

    kind: FaultKind
    status: int | None = Field(None, ge=200, le=599)
    message: str | None = None
    error_type: str | None = None
    retry_after_s: Seconds | None = None
    retry_after_ms: int | None = Field(None, ge=0)
    headers: dict[str, str] = {}
    after_tokens: int | None = Field(None, ge=0)
    delay_s: Seconds = 1.0

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, int):
            return {"kind": "status", "status": value}
        return {"kind": value} if isinstance(value, str) else value


class FaultEntry(Fault, Entry):
    """A fault of the requests that match, each with `probability`."""

    probability: Chance = 1.0


class Script(Part):
    """All of it. No `models`: any name is served. No `keys`: any key is taken, but there must be one."""

    seed: int = 0
    models: tuple[ModelCard, ...] = ()
    keys: tuple[str, ...] = ()
    answers: tuple[AnswerEntry, ...] = ()
    faults: tuple[FaultEntry, ...] = ()


def parsed_script(text: str, source: str) -> Script:
    """The script that `text` is, YAML or JSON. Raises SettingsError in the words of `source`."""
    return _validated(Script, text, source)


def parsed_fault(text: str, source: str) -> Fault:
    """The fault that `text` is: a status, a kind, or an object. Raises SettingsError in the words of `source`."""
    return _validated(Fault, text, source)


def load_script(path: Path) -> Script:
    """The script of a file. Raises SettingsError."""
    try:
        return parsed_script(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not text: {error}") from error


_P = TypeVar("_P", bound=Part)


def _validated(kind: type[_P], text: str, source: str) -> _P:
    try:
        tree = _tree(text)
        return kind.model_validate({} if tree is None else tree)
    except yaml.YAMLError as error:
        raise SettingsError(f"{source} is not YAML: {error}") from error
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc'])) or kind.__name__}: {problem['msg']}" for problem in error.errors()
        ]
        raise SettingsError("\n".join(f"{source}: {line}" for line in lines)) from error


def _tree(text: str) -> object:
    try:
        return json.loads(text)  # a script of thousands of answers that a program wrote: YAML would take seconds
    except json.JSONDecodeError:
        return yaml.safe_load(text)
