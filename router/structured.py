"""Structured output as clients ask for it -> a `Grammar`.

OpenAI's `response_format`, Anthropic's `output_config.format` (and the older `output_format`), vLLM's `guided_*` fields
and its newer `structured_outputs`. Each field is a reader in a table; a request may use one of them, two are a 400.
Shapes are checked here; whether a schema or an expression can be followed is for the grammar compiler to say, which
knows the model's vocabulary.
"""

import json
from collections.abc import Callable, Mapping
from typing import TypeAlias

from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from router.body import parsed_json

CHOICES = 1024
"""A longer list of choices is a 400: a schema's enum may hold more."""

Read: TypeAlias = Callable[[object, str], Grammar | None]
"""Turns a field's value into a grammar; the string is the field's path. Raises InvalidRequest."""

ANY_OBJECT = Grammar("json_schema", '{"type": "object"}')


def openai_grammar(body: Mapping[str, object]) -> Grammar | None:
    """What a chat completion with these fields must match; None if anything goes. Raises InvalidRequest."""
    return _only(body, {"response_format": _response_format, **_VLLM})


def anthropic_grammar(body: Mapping[str, object]) -> Grammar | None:
    """What a Messages answer must match; None if anything goes. vLLM's fields count too. Raises InvalidRequest."""
    return _only(body, {"output_config": _output_config, "output_format": _output_format, **_VLLM})


def _only(body: Mapping[str, object], readers: Mapping[str, Read], prefix: str = "") -> Grammar | None:
    found = {
        f"{prefix}{name}": grammar
        for name, read in readers.items()
        if body.get(name) is not None and (grammar := read(body[name], f"{prefix}{name}")) is not None
    }
    if len(found) > 1:
        first, second, *_ = found
        raise InvalidRequest(f"{second}: {first} says already what the answer must match; send one of the two", second)
    return next(iter(found.values()), None)


def _response_format(value: object, path: str) -> Grammar | None:
    wanted = _object(value, path)
    match wanted.get("type"):
        case "text":
            return None
        case "json_object":
            return ANY_OBJECT
        case "json_schema":
            named = _object(wanted.get("json_schema"), f"{path}.json_schema")
            return _schema(named.get("schema"), f"{path}.json_schema.schema")
        case _:
            raise _wrong(f"{path}.type", "'text', 'json_object' or 'json_schema'")


def _output_config(value: object, path: str) -> Grammar | None:
    wanted = _object(value, path).get("format")
    return None if wanted is None else _output_format(wanted, f"{path}.format")


def _output_format(value: object, path: str) -> Grammar:
    wanted = _object(value, path)
    if wanted.get("type") != "json_schema":
        raise _wrong(f"{path}.type", "'json_schema'")
    return _schema(wanted.get("schema"), f"{path}.schema")


def _guided_json(value: object, path: str) -> Grammar:
    """A schema, or JSON text that holds one."""
    if not isinstance(value, str):
        return _schema(value, path)
    try:
        return _schema(parsed_json(value), path)
    except ValueError as error:
        raise InvalidRequest(f"{path}: the text is not valid JSON: {error}", path) from error


def _regex(value: object, path: str) -> Grammar:
    return Grammar("regex", _text(value, path), path)


def _grammar(value: object, path: str) -> Grammar:
    return Grammar("lark", _text(value, path), path)


def _choice(value: object, path: str) -> Grammar:
    choices = [_text(choice, f"{path}[{i}]") for i, choice in enumerate(value)] if isinstance(value, list) else []
    if not 0 < len(choices) <= CHOICES:
        raise _wrong(path, f"a list of 1 to {CHOICES} strings")
    # A Lark string is written as in JSON.
    text = "start: " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    return Grammar("lark", text, path)


def _json_object(value: object, path: str) -> Grammar | None:
    if not isinstance(value, bool):
        raise _wrong(path, "true or false")
    return ANY_OBJECT if value else None


def _structured_outputs(value: object, path: str) -> Grammar | None:
    wanted = _object(value, path)
    for name in wanted.keys() - _STRUCTURED.keys() - _OPTIONS:
        if wanted[name] is not None:
            where = f"{path}.{name}"
            raise InvalidRequest(f"{where}: no form of this name; there are {', '.join(_STRUCTURED)}", where)
    for name in _CHANGES:
        if wanted.get(name) not in (None, False):
            where = f"{path}.{name}"
            raise InvalidRequest(f"{where}: white space and other properties cannot be changed; leave it out", where)
    return _only(wanted, _STRUCTURED, f"{path}.")


_STRUCTURED: dict[str, Read] = {
    "json": _guided_json,
    "json_object": _json_object,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
}
_CHANGES = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")
"""What vLLM lets be changed of a form. None of it can be changed here."""
_OPTIONS = frozenset({"disable_fallback", *_CHANGES})
_VLLM: dict[str, Read] = {
    "guided_json": _guided_json,
    "guided_regex": _regex,
    "guided_choice": _choice,
    "guided_grammar": _grammar,
    "structured_outputs": _structured_outputs,
}


def _schema(value: object, path: str) -> Grammar:
    return Grammar("json_schema", json.dumps(_object(value, path), ensure_ascii=False), path)


def _object(value: object, path: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _wrong(path, "an object")
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(path, "a string that is not empty")
    return value


def _wrong(path: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: Input should be {wanted}", path)
