"""Reading a request body: bytes -> JSON -> a pydantic model, and every way that fails is an InvalidRequest.

The parser (jiter) refuses what Python's own lets through: NaN and Infinity, lone surrogates, nesting deeper than DEPTH.
The message begins with the path of the field (`messages[2].role: ...`), which is `param` too. Fields that no model
names are ignored at every depth: clients send new ones weekly. Message content stays `object` here: router/content.py
reads it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from replicas.engine import GREEDY_BELOW, LEAST_PENALTY, Sampling
from replicas.errors import InvalidRequest
from router.shapes import AnyObject, Biases, Expression, OneOfTexts, OneSchema, OutputFormat, ResponseFormat

INT32_MAX = 2**31 - 1
"""Counts are clamped to it: an engine keeps them in arrays, and no context is that long."""

BIASES = 1024
"""Tokens that a request may name; OpenAI takes as many."""

TOKEN_ID = re.compile(r"[0-9]{1,9}")

SESSION_CHARS = 256
"""Of a session id that much is kept."""

DEPTH = 201
"""The parser's own bound."""

M = TypeVar("M", bound=BaseModel)

Count = Annotated[int, Field(strict=True, ge=1)]
Flag = Annotated[bool, Field(strict=True)]
Penalty = Annotated[float, Field(strict=True, ge=-2, le=2, allow_inf_nan=False)]
TokenId = Annotated[int, Field(strict=True, ge=0, le=INT32_MAX)]
StopString = Annotated[str, Field(min_length=1, max_length=1024)]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Stops = Annotated[
    list[StopString],
    Field(fail_fast=True),
    Field(max_length=16),
    BeforeValidator(_listed, json_schema_input_type=StopString | Annotated[list[StopString], Field(max_length=16)]),
]
"""A string or a list of at most 16; each costs the engine a comparison per token."""


class Wire(BaseModel):
    """A part of a body. Errors never quote the input: they may be logged, and prompts must not be.

    A list in one has fail_fast: an 8 MB body of wrong items took 25 s and 3 GB to collect all their errors.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class SamplingFields(Wire):
    """What both dialects call by the same names, OpenAI's and vLLM's; null counts as absent."""

    temperature: Annotated[float, Field(strict=True, ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(strict=True, ge=-1)] | None = None  # -1 is vLLM's word for off
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | None = None
    min_p: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(strict=True, ge=LEAST_PENALTY, le=100)] | None = None
    logit_bias: Biases = None
    min_tokens: Annotated[int, Field(strict=True, ge=0)] | None = None
    ignore_eos: Flag | None = None
    stop_token_ids: Annotated[list[TokenId], Field(fail_fast=True), Field(max_length=BIASES)] | None = None
    include_stop_str_in_output: Flag | None = None

    def sampling(self, max_tokens: int, stop: list[str] | None) -> Sampling:
        """The engine's sampling; temperature 1 when none was asked for, as both real APIs do."""
        min_tokens = self.min_tokens or 0
        if min_tokens > max_tokens:
            raise InvalidRequest(f"min_tokens: {min_tokens} is more than the {max_tokens} of max_tokens", "min_tokens")
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(
            max_tokens=min(max_tokens, INT32_MAX),
            temperature=temperature if temperature >= GREEDY_BELOW else 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=min(max(self.top_k or 0, 0), INT32_MAX),
            min_p=self.min_p or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            logit_bias=_biases(self.logit_bias),
            min_tokens=min(min_tokens, INT32_MAX),
            ignore_eos=bool(self.ignore_eos),
            stop=tuple(stop or ()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            keeps_stop=bool(self.include_stop_str_in_output),
            seed=self.seed,
        )


def _biases(value: object) -> tuple[tuple[int, float], ...]:
    """By token. Raises InvalidRequest. By hand: pydantic would collect the errors of all members of a large object."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > BIASES:
        raise InvalidRequest(f"logit_bias: Input should be an object of at most {BIASES} tokens", "logit_bias")
    found: dict[int, float] = {}
    for name, bias in value.items():
        is_number = isinstance(bias, int | float) and not isinstance(bias, bool) and -100 <= bias <= 100
        if not is_number or not TOKEN_ID.fullmatch(name):
            words = "logit_bias: Input should be an object of token ids and numbers from -100 to 100"
            raise InvalidRequest(words, "logit_bias")
        found[int(name)] = float(bias)
    return tuple(found.items())


class FormFields(Wire):
    """What says the form of an answer, by the names of both dialects and of vLLM; router/structured.py reads them."""

    response_format: ResponseFormat = None
    output_config: AnyObject = None
    output_format: OutputFormat = None
    guided_json: OneSchema = None
    guided_regex: Expression = None
    guided_choice: OneOfTexts = None
    guided_grammar: Expression = None
    structured_outputs: AnyObject = None

    @property
    def form(self) -> Mapping[str, object]:
        """The fields by name."""
        return {name: getattr(self, name) for name in FormFields.model_fields}


def parsed_json(body: bytes | str) -> object:
    """Strict JSON. Raises ValueError, never RecursionError."""
    value: object = from_json(body, allow_inf_nan=False)
    return value


def read(model: type[M], body: bytes) -> M:
    """`body` as a `model`. Raises InvalidRequest with the path of the first wrong field in `param`."""
    try:
        value = parsed_json(body)
    except ValueError as error:
        if str(error).startswith("recursion limit"):
            words = f"the body is nested too deep: at most {DEPTH} lists and objects in each other"
            raise InvalidRequest(words) from error
        raise InvalidRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest('the body must be a JSON object, such as {"messages": [...]}')
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = path(first["loc"])
        words = "Input should be an object" if first["type"] == "model_type" else first["msg"]
        raise InvalidRequest(f"{where}: {words}", where) from error


def path(loc: tuple[int | str, ...]) -> str:
    """`("messages", 2, "role")` as `messages[2].role`."""
    written = ""
    for step in loc:
        written += f"[{step}]" if isinstance(step, int) else f".{step}"
    return written.lstrip(".")


def session_id(*candidates: object) -> str | None:
    """The first candidate that is a non-empty string, cut to SESSION_CHARS."""
    for candidate in candidates:
        if isinstance(candidate, str) and candidate:
            return candidate[:SESSION_CHARS]
    return None


def member(value: object, name: str) -> object:
    """`value[name]` of a JSON object; None if it is not an object or has no such member."""
    return value.get(name) if isinstance(value, Mapping) else None
