"""The document. Bodies are the schemas of the very models that read them; a member that a model leaves to be read later
may be anything here, and is refused with a 400 if it is wrong. What is not listed in a body is ignored.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pydantic import BaseModel
from starlette.routing import BaseRoute

from deployments.openapi.operation import JSON, NOTHING, Documented, Operation, Parameter

Tree: TypeAlias = dict[str, object]

VERSION = "3.1.0"
COMPONENTS = "#/components/schemas/"
_PLACE = re.compile(r"\{(\w+)(?::path)?\}")

_ERROR: Tree = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
"""What the errors of both dialects have; Anthropic's paths and clients get its form, all others OpenAI's."""


def document(routes: Sequence[BaseRoute], version: str) -> Tree:
    """The OpenAPI document of all documented `routes`."""
    schemas: Tree = {"Error": _ERROR}
    paths: dict[str, Tree] = {}
    for route in routes:
        if isinstance(route, Documented):
            path = paths.setdefault(_PLACE.sub(r"{\1}", route.path), {})
            path[route.method.lower()] = _operation(route, schemas)
    schemes: Tree = {"bearer": {"type": "http", "scheme": "bearer"}, "key": _header("x-api-key")}
    return {
        "openapi": VERSION,
        "info": {"title": "Shoal", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": schemes},
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _operation(route: Documented, schemas: Tree) -> Tree:
    operation = route.operation
    places = [_place(name) for name in _PLACE.findall(route.path)]
    chosen = [_parameter(one) for one in operation.parameters]
    told: Tree = {"summary": operation.summary, "responses": _responses(operation)}
    if places or chosen:
        told["parameters"] = [*places, *chosen]
    if operation.body is not None:
        told["requestBody"] = {"required": True, "content": _body(operation.body, schemas)}
    return told | ({"security": []} if operation.is_open else {})


def _responses(operation: Operation) -> Tree:
    given = {kind: {"schema": {"type": "object"}} if kind == JSON else {} for kind in operation.gives if kind}
    done: Tree = {"description": "done"}
    error = {"description": "an error in the caller's dialect", "content": {JSON: {"schema": _reference("Error")}}}
    return {
        str(operation.status): done | ({"content": given} if operation.gives != (NOTHING,) else {}),
        "4XX": error,
        "5XX": error,
    }


def _body(body: type[BaseModel] | str, schemas: Tree) -> Tree:
    if isinstance(body, str):
        return {body: {"schema": {"type": "string", "format": "binary"}}}
    # The parts of two bodies may have one name.
    schema = body.model_json_schema(ref_template=f"{COMPONENTS}{body.__name__}{{model}}")
    inner = schema.pop("$defs", {})
    schemas.update({body.__name__ + name: _plain(one) for name, one in inner.items()})
    schemas[body.__name__] = _plain(schema)
    return {JSON: {"schema": _reference(body.__name__)}}


def _plain(schema: object) -> object:
    """Without the docstrings of the code, which speak to its readers."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _plain(value) for key, value in schema.items() if key != "description" or not isinstance(value, str)}


def _place(name: str) -> Tree:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _parameter(parameter: Parameter) -> Tree:
    schema: Tree = {"enum": list(parameter.values)} if parameter.values else {"type": "string", "minLength": 1}
    where = "header" if parameter.in_header else "query"
    return {"name": parameter.name, "in": where, "description": parameter.about, "schema": schema}


def _header(name: str) -> Tree:
    return {"type": "apiKey", "in": "header", "name": name}


def _reference(name: str) -> Tree:
    return {"$ref": COMPONENTS + name}
