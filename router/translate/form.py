"""The form that an answer must have, in the words of either dialect.

Both clouds hold a model to a JSON schema only if the schema says of every object that it has no further members;
OpenAI's `strict` moreover needs every member to be required. Schemas that do not say are closed for Anthropic, and sent
to OpenAI without `strict`, which is a request rather than a promise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from replicas.cloud.fields import fields
from replicas.cloud.release import CloudKind
from replicas.errors import InvalidRequest
from router.body import parsed_json
from router.structured import ANY_OBJECT, anthropic_grammar, openai_grammar

NAME = "answer"
JSON_WORDS = "Answer with one JSON object and nothing else."
"""To a cloud that knows no such form without a schema."""

_VALUES = ("const", "enum", "default", "examples")
"""Members of a schema that hold values and no schemas."""


@dataclass(frozen=True, slots=True)
class Form:
    """A JSON object that matches `schema`; any object without. `is_native`: asked for in the source's own words."""

    schema: Mapping[str, object] | None
    is_native: bool

    def chat_format(self) -> Mapping[str, object]:
        """The `response_format` of a chat completion."""
        if self.schema is None:
            return {"type": "json_object"}
        named = {"name": NAME, "schema": self.schema, "strict": _is_strict(self.schema)}
        return {"type": "json_schema", "json_schema": named}

    def messages_format(self) -> Mapping[str, object]:
        """The `output_config.format` of a message; there must be a schema."""
        return {"type": "json_schema", "schema": _closed(self.schema)}


def wanted_form(body: Mapping[str, object], dialect: CloudKind) -> Form | None:
    """What `body` asks for. Raises InvalidRequest for a form that no cloud can be held to."""
    grammar = (anthropic_grammar if dialect == "anthropic" else openai_grammar)(body)
    if grammar is None:
        return None
    if grammar.kind != "json_schema":
        words = "a cloud holds its answers to a JSON schema alone; send this to a local model"
        raise InvalidRequest(words, "structured_outputs")
    native = ("output_config", "output_format") if dialect == "anthropic" else ("response_format",)
    schema = None if grammar == ANY_OBJECT else fields(parsed_json(grammar.text))
    return Form(schema, any(body.get(name) is not None for name in native))


def _closed(schema: object) -> object:
    """`schema` with every object closed that does not say."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: value if key in _VALUES else _closed(value) for key, value in schema.items()}
    is_open = schema.get("type") == "object" and "additionalProperties" not in schema
    return inner | {"additionalProperties": False} if is_open else inner


def _is_strict(schema: Mapping[str, object]) -> bool:
    return _all_objects(schema, lambda one: one.get("additionalProperties") is False and _has_all_required(one))


def _has_all_required(schema: Mapping[str, object]) -> bool:
    required = schema.get("required")
    return set(fields(schema.get("properties"))) == set(required if isinstance(required, list) else ())


def _all_objects(schema: object, holds: Callable[[Mapping[str, object]], bool]) -> bool:
    if isinstance(schema, list):
        return all(_all_objects(item, holds) for item in schema)
    if not isinstance(schema, dict):
        return True
    inner = (value for key, value in schema.items() if key not in _VALUES)
    return (schema.get("type") != "object" or holds(schema)) and all(_all_objects(value, holds) for value in inner)
