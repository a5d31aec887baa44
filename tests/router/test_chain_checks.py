"""What checks of answers rest on: schemas read within bounds, and loops of words found."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from router.chain.checks import is_looping
from router.chain.schema import STEPS, breaks

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
KNOWN: dict[str, st.SearchStrategy[object]] = {
    "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True),
    "enum": st.lists(JSON, min_size=1, max_size=3),
    "const": JSON,
    "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    "minimum": st.integers(-2, 2),
    "maximum": st.integers(-2, 2),
    "exclusiveMinimum": st.floats(-2, 2),
    "exclusiveMaximum": st.floats(-2, 2),
    "minLength": st.integers(0, 3),
    "maxLength": st.integers(0, 3),
    "minItems": st.integers(0, 3),
    "maxItems": st.integers(0, 3),
}
UNKNOWN: dict[str, st.SearchStrategy[object]] = {
    "pattern": st.sampled_from(["^a", "b$"]),
    "uniqueItems": st.booleans(),
    "minProperties": st.integers(0, 2),
    "patternProperties": st.just({"a": True, "b": False}),
}


def nested(inner: st.SearchStrategy[object], *more: str) -> dict[str, st.SearchStrategy[object]]:
    """Keywords that hold schemas."""
    several = st.lists(inner, min_size=1, max_size=2)
    found = {
        "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
        "additionalProperties": inner,
        "items": inner,
        "prefixItems": several,
        "anyOf": several,
        "allOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "propertyNames": inner,
    }
    return {name: found[name] for name in found if more or name not in ("oneOf", "not", "if", "then", "propertyNames")}


def schemas(words: dict[str, st.SearchStrategy[object]], *more: str) -> st.SearchStrategy[object]:
    leaf = st.booleans() | st.fixed_dictionaries({}, optional=words)
    return st.recursive(
        leaf, lambda inner: st.fixed_dictionaries({}, optional={**words, **nested(inner, *more)}), max_leaves=5
    )


@settings(max_examples=400, deadline=None)
@given(JSON, schemas({**KNOWN, **UNKNOWN}, "all"))
@example({"ab": 1}, {"patternProperties": {"a": True}, "additionalProperties": False})
@example("text", {"oneOf": [{"type": "string"}, {"pattern": "q"}]})
@example(["a", 1], {"prefixItems": [{"type": "string"}], "items": {"type": "integer"}})
@example("text", {"not": {"pattern": "q"}})
def test_what_follows_a_schema_is_never_called_broken(value: object, schema: object) -> None:
    if Draft202012Validator(schema).is_valid(value):  # type: ignore[arg-type]  # generated as a schema
        assert not breaks(value, schema)


@settings(max_examples=400, deadline=None)
@given(JSON, schemas(KNOWN))
def test_with_the_keywords_that_it_reads_it_says_what_the_standard_says(value: object, schema: object) -> None:
    assert breaks(value, schema) is not Draft202012Validator(schema).is_valid(value)  # type: ignore[arg-type]  # generated as a schema


LIST = {"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"$ref": "#/$defs/a~1b"}}, "required": ["n"]}
TREE = {**LIST, "$defs": {"a/b": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("value", "is_broken"),
    [({"n": 1, "next": {"n": 2}}, False), ({"n": 1, "next": {"n": "2"}}, True), ({"n": 1, "next": {}}, True)],
)
def test_references_inside_a_schema_are_followed(value: object, is_broken: bool) -> None:
    assert breaks(value, TREE) is is_broken


@pytest.mark.parametrize("reference", ["#/$defs/missing", "https://example.com/schema", "#anchor", 5])
def test_other_references_pass(reference: object) -> None:
    assert not breaks("text", {"$ref": reference})
    assert breaks("text", {"$ref": reference, "type": "null"})


def bomb(depth: int, last: str) -> dict[str, object]:
    """A schema that takes 2 to the power of `depth` checks for what is of the type `last`."""
    twice = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**twice, f"d{depth}": {"type": last}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"items": {"enum": [[i] for i in range(STEPS)]}},
        {"items": {"const": 0}, "allOf": [{"$ref": "#"}] * 9},
    ],
)
def test_schemas_that_would_take_for_ever_are_given_up(schema: dict[str, object]) -> None:
    assert not breaks([0] * 1000, schema)


def test_a_schema_bomb_is_given_up() -> None:
    assert breaks("text", bomb(3, "null"))
    assert not breaks("text", bomb(28, "string"))


@given(st.text("ab \n", min_size=1, max_size=40), st.integers(4, 12))
def test_copies_of_one_piece_are_a_loop(piece: str, times: int) -> None:
    text = piece * times
    is_long = len(text.rstrip()) >= max(80, 4 * len(piece)) and any(letter.isalnum() for letter in piece)
    assert is_looping("Well. " + text) or not is_long


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no no no no",
        "The harbour opens at six in the morning and closes at nine in the evening, on all days but one, as ever.",
        "\n".join(f"| {i} | {i * i} |" for i in range(40)),
        "=" * 200,
        "x = [0, 0, 0, 0, 0, 0]",
    ],
)
def test_plain_text_is_no_loop(text: str) -> None:
    assert not is_looping(text)
