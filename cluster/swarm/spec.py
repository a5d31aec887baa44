"""What may be submitted: the body of POST /v1/swarms, checked once and whole.

Everything that can be known to be wrong is refused at submit with the path of the field: unknown keys (with the nearest
known one), placeholders without values, lists of unequal length, values no prompt uses, sizes over the bounds.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from cluster.swarm.template import filled_length, placeholders
from replicas.errors import InvalidRequest

INSTANCES_MAX = 10_000  # agents x items of one job
PROMPT_CHARS_MAX = 1_000_000  # of one prompt once its placeholders are filled

Name = Annotated[str, Field(min_length=1, max_length=200)]
Template = Annotated[str, Field(min_length=1, max_length=PROMPT_CHARS_MAX)]
FIRST_ERROR = Field(fail_fast=True)  # a body of wrong items would cost a gigabyte of error messages
Tokens = Annotated[int, Field(ge=1, le=131_072)]


class AgentSpec(BaseModel):
    """One agent: it runs once on every item. `model` and `max_tokens` None take the swarm's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    role: Name
    prompt: Template
    system: Template | None = None
    model: Name | None = None
    max_tokens: Tokens | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """Every text of it that may hold placeholders."""
        return (self.prompt, self.system) if self.system else (self.prompt,)


class SwarmSpec(BaseModel):
    """A swarm. Without `over` there is one item. `deadline_s` counts from submit, waiting included. The calls of a
    `private` one never leave for a cloud."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    agents: Annotated[list[AgentSpec], Field(min_length=1, max_length=100), FIRST_ERROR]
    over: dict[Name, Annotated[list[str], FIRST_ERROR]] | None = None
    max_tokens: Tokens = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Annotated[list[Name], Field(max_length=16), FIRST_ERROR] = []
    model: Name | None = None
    name: Name | None = None
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 3600.0
    private: bool = False

    @property
    def items(self) -> int:
        """How many items every agent runs on."""
        return len(next(iter(self.over.values()))) if self.over else 1

    @property
    def instances(self) -> int:
        """How many agent instances the job has: one call and one output each."""
        return self.items * len(self.agents)

    def values(self, item: int) -> dict[str, str]:
        """What the placeholders stand for in `item`."""
        return {key: texts[item] for key, texts in (self.over or {}).items()}


def parse_swarm(body: Mapping[str, object]) -> SwarmSpec:
    """Check a decoded body. Raises InvalidRequest with the field in `param`."""
    try:
        spec = SwarmSpec.model_validate(body)
        spec.model_dump_json()
    except ValidationError as error:
        raise _worded(error.errors(include_url=False)) from None
    except PydanticSerializationError:  # Python strings hold what JSON and UTF-8 cannot
        raise InvalidRequest("a text is not valid Unicode: it holds half of a surrogate pair") from None
    return checked(spec)


def parse_swarm_json(body: bytes) -> SwarmSpec:
    """Check a body as it came. Raises InvalidRequest with the field in `param`."""
    try:
        spec = SwarmSpec.model_validate_json(body)
    except ValidationError as error:
        raise _worded(error.errors(include_url=False)) from None
    return checked(spec)


def checked(spec: SwarmSpec) -> SwarmSpec:
    """`spec`, if its fields agree with each other. Raises InvalidRequest."""
    _check_lengths(spec)
    if spec.instances > INSTANCES_MAX:
        raise InvalidRequest(
            f"{spec.items} items x {len(spec.agents)} agents are {spec.instances} calls; a job has at most "
            f"{INSTANCES_MAX}: split it",
            "over",
        )
    _check_placeholders(spec)
    return spec


def _check_lengths(spec: SwarmSpec) -> None:
    if spec.over is None:
        return
    lengths = {key: len(texts) for key, texts in spec.over.items()}
    if not lengths or 0 in lengths.values():
        raise InvalidRequest("`over` has no items: give every key at least one value, or leave `over` out", "over")
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InvalidRequest(f"the lists in `over` must be equally long: {counted}", "over")


def _check_placeholders(spec: SwarmSpec) -> None:
    longest = {key: max(map(len, texts)) for key, texts in (spec.over or {}).items()}
    used: set[str] = set()
    for index, agent in enumerate(spec.agents):
        for field, template in zip(("prompt", "system"), agent.templates, strict=False):
            path = f"agents.{index}.{field}"
            names = placeholders(template)
            if unknown := sorted(names - longest.keys()):
                raise _without_values(unknown[0], path, longest.keys())
            if filled_length(template, longest) > PROMPT_CHARS_MAX:
                raise InvalidRequest(f"{path}: over {PROMPT_CHARS_MAX} characters once filled: use less text", path)
            used |= names
    if unused := sorted(longest.keys() - used):
        raise InvalidRequest(
            f"no prompt uses over.{unused[0]}: put {{{unused[0]}}} into a prompt, or leave the key out",
            f"over.{unused[0]}",
        )


def _without_values(name: str, path: str, known: Iterable[str]) -> InvalidRequest:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {{{near[0]}}}? " if near else ""
    return InvalidRequest(
        f"{path}: {{{name}}} has no values: {hint}add over.{name}, or write {{{{{name}}}}} for the letters {{{name}}}",
        path,
    )


def _worded(details: list[ErrorDetails]) -> InvalidRequest:
    """The first error; an unknown key comes before all others, a missing one may be it misspelt."""
    detail = next((detail for detail in details if detail["type"] == "extra_forbidden"), details[0])
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = AgentSpec.model_fields if path.startswith("agents.") else SwarmSpec.model_fields
        near = difflib.get_close_matches(str(detail["loc"][-1]), list(known), n=1)
        tail = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return InvalidRequest(f"{path}: unknown key; {tail}", path)
    message = detail["msg"]
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        message += "; write it in quotes"
    return InvalidRequest(f"{path}: {message}" if path else message, path or None)
