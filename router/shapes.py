"""How members look that are read by hand: what the OpenAPI document says of them. Validation is left to who reads them.

Clients send new kinds of blocks weekly, so a wrong one is found where it is read, and most are let through.
"""

from typing import Annotated, TypeAlias

from pydantic import WithJsonSchema

Shape: TypeAlias = dict[str, object]

_STRING: Shape = {"type": "string"}
_NULL: Shape = {"type": "null"}
_OBJECT: Shape = {"type": "object"}
_NAME: Shape = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}
_SCHEMA: Shape = {"type": "object", "properties": {"type": {"const": "object"}}, "required": ["type"]}
_TOKENS: Shape = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_SAID: Shape = {"type": "string", "minLength": 1}


def _either(*shapes: Shape) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [*shapes]})


def _fields(required: list[str], **properties: Shape) -> Shape:
    return {"type": "object", "required": required, "properties": properties}


def _array(items: Shape) -> Shape:
    return {"type": "array", "items": items}


def _some(items: Shape) -> Shape:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": 128}


_TEXT = _fields(["type", "text"], type={"const": "text"}, text=_STRING)
_BLOCK: Shape = {"anyOf": [_TEXT, _fields(["type"], type={"type": "string", "not": {"const": "text"}})]}
_FUNCTION = _fields(["name"], name=_NAME, description=_STRING, parameters=_SCHEMA)

_NAMED = _fields(["name"], name=_NAME)
_HOLDER = _fields(["schema"], schema=_SCHEMA)

Content: TypeAlias = Annotated[object, _either(_STRING, _array(_BLOCK), _NULL)]
Prompts: TypeAlias = Annotated[object, _either(_SAID, _TOKENS, _some(_SAID), _some(_TOKENS))]
AnyObject: TypeAlias = Annotated[object, _either(_OBJECT, _NULL)]
AnyText: TypeAlias = Annotated[object, _either(_STRING, _NULL)]
Functions: TypeAlias = Annotated[object, _either(_array(_FUNCTION), _NULL)]
ChatTools: TypeAlias = Annotated[
    object, _either(_array(_fields(["type", "function"], type={"const": "function"}, function=_FUNCTION)), _NULL)
]
ChatChoice: TypeAlias = Annotated[
    object,
    _either({"enum": ["auto", "none", None]}, _fields(["type", "function"], function=_NAMED)),
]
ChatCalls: TypeAlias = Annotated[object, _either(_array(_fields(["function"], id=_STRING, function=_NAMED)), _NULL)]
MessageTools: TypeAlias = Annotated[
    object, _either(_array(_fields(["name"], name=_NAME, description=_STRING, input_schema=_SCHEMA)), _NULL)
]
MessageChoice: TypeAlias = Annotated[
    object, _either(_fields(["type"], type={"enum": ["auto", "any", "tool", "none"]}, name=_NAME), _NULL)
]
Biases: TypeAlias = Annotated[
    object,
    _either(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        },
        _NULL,
    ),
]
ResponseFormat: TypeAlias = Annotated[
    object,
    _either(
        _fields(["type"], type={"enum": ["text", "json_object"]}),
        _fields(["type", "json_schema"], type={"const": "json_schema"}, json_schema=_HOLDER),
        _NULL,
    ),
]
OutputFormat: TypeAlias = Annotated[
    object, _either(_fields(["type", "schema"], type={"const": "json_schema"}, schema=_SCHEMA), _NULL)
]
OneSchema: TypeAlias = Annotated[object, _either(_SCHEMA, _NULL)]
Expression: TypeAlias = Annotated[object, _either(_SAID, _NULL)]
OneOfTexts: TypeAlias = Annotated[
    object, _either({"type": "array", "minItems": 1, "maxItems": 1024, "items": _SAID}, _NULL)
]
