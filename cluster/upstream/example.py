"""An instance of a JSON schema, the same each time: what the upstream answers when it is asked for structure.

Strings are filled with the question, so that what went in can be seen coming out. Covers what tools and structured
outputs use (types, enum, const, references, unions, bounds on lengths and numbers); a `pattern` is not solved.
"""

from cluster.upstream.asked import Json

_DEPTH = 12


def example(schema: Json, text: str) -> object:
    """A value that `schema` takes; strings are made of `text`."""
    return _Filler(schema, text).value(schema, 0)


class _Filler:
    def __init__(self, root: Json, text: str) -> None:
        self._root = root
        self._text = text

    def value(self, schema: object, depth: int) -> object:
        if not isinstance(schema, dict) or depth > _DEPTH:
            return None
        if "const" in schema:
            return schema["const"]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        inner = self._inner(schema)
        if inner is not None:
            return self.value(inner, depth + 1)
        return self._typed(schema, depth)

    def _inner(self, schema: Json) -> object:
        """What a reference or a union stands for."""
        reference = schema.get("$ref")
        if isinstance(reference, str):
            found: object = self._root
            for part in reference.removeprefix("#").strip("/").split("/"):
                found = found.get(part) if isinstance(found, dict) and part else found
            return found
        for key in ("anyOf", "oneOf", "allOf"):
            options = schema.get(key)
            if isinstance(options, list) and options:
                return _merged(schema, options) if key == "allOf" else options[0]
        return None

    def _typed(self, schema: Json, depth: int) -> object:
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list):
            kind = kind[0] if kind else None
        if kind == "object":
            properties = schema.get("properties")
            return {k: self.value(v, depth + 1) for k, v in properties.items()} if isinstance(properties, dict) else {}
        if kind == "array":
            return [self.value(schema.get("items"), depth + 1)] * max(1, _whole(schema, "minItems", 1))
        if kind in ("integer", "number"):
            return _number(schema)
        if kind == "boolean":
            return True
        return self._string(schema) if kind in ("string", None) else None

    def _string(self, schema: Json) -> str:
        fixed = {
            "date": "2026-01-01",
            "date-time": "2026-01-01T00:00:00Z",
            "time": "00:00:00Z",
            "email": "a@example.com",
        }
        form = schema.get("format")
        if isinstance(form, str) and form in fixed:
            return fixed[form]
        text = self._text.ljust(_whole(schema, "minLength", 0), ".")
        return text[: _whole(schema, "maxLength", len(text))]


def _merged(schema: Json, parts: list[object]) -> Json:
    """`allOf`: the parts laid over each other, their properties together."""
    together: Json = {key: value for key, value in schema.items() if key != "allOf"}
    properties: Json = {}
    for part in parts:
        if isinstance(part, dict):
            together |= part
            properties |= part.get("properties", {})
    return together | ({"properties": properties} if properties else {})


def _whole(schema: Json, key: str, default: int) -> int:
    value = schema.get(key)
    return value if isinstance(value, int) else default


def _number(schema: Json) -> int:
    if "exclusiveMinimum" in schema:
        return _whole(schema, "exclusiveMinimum", 0) + 1
    if "maximum" in schema and "minimum" not in schema:
        return min(1, _whole(schema, "maximum", 1))
    return _whole(schema, "minimum", 1)
