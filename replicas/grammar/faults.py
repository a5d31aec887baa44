"""Where a grammar is wrong, out of what llguidance says of it.

It names line and column of Lark and the place in an expression, but of a JSON schema only what is wrong. The place is
found by asking it about the schemas within: the innermost one that is refused in the same words by itself is the one.
"""

import json
import re
import time
from bisect import bisect
from functools import cache
from itertools import islice
from urllib.parse import quote

from llguidance import LLMatcher, LLTokenizer, regex_to_lark

from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from replicas.grammar.limits import ASCII, parser_limits
from replicas.grammar.schema import PARAM, Json, children, followable, parsed

SEARCH_S = 0.5
"""So long the place is searched; what was found by then is told."""

_MOST_CHARACTERS = 300
_ROOT = "/$defs/root"
_SCHEMA = "failed to compile JSON schema"
_INLINE = re.compile(r"%json\s*")
_MOST_SCHEMAS = 4  # of a rule: each may take SEARCH_S
_LARK = re.compile(r"(?:at )?(\d+)\((\d+)\): (.*)", re.DOTALL)
_EXPRESSION = re.compile(r"regex parse error:\n    .*\n    ( *)\^+\nerror: (.*)")
_UNKNOWN_KEYS = "Unimplemented keys: "
_KEYWORDS = (
    (re.compile(r"regex"), "pattern"),
    (re.compile(r"^Invalid type|^type must"), "type"),
    (re.compile(r"^Pointer|circular references|^Unresolvable|remote|retriev"), "$ref"),
    (re.compile(r"^Unsatisfiable schema: (?:anyOf|enum) is empty"), "enum"),
    (re.compile(r"^Expected .* for '(?P<key>\w+)'"), ""),
)


def located(grammar: Grammar, error: str) -> InvalidRequest:
    """The refusal of `grammar`, which llguidance called an `error`."""
    if grammar.kind == "json_schema":
        return _in_schema(grammar.text, error)
    if grammar.kind == "regex":
        return InvalidRequest(
            f"the regular expression cannot be followed: {_in_expression(error, grammar.text)}", "regex"
        )
    place = _LARK.match(error)
    where = f" at line {place[1]}, column {place[2]}" if place else ""
    words = _in_expression(place[3] if place else error)
    pointer = _pointer_in(grammar.text, int(place[1]), int(place[2])) if place and _SCHEMA in place[3] else ""
    return InvalidRequest(f"the grammar cannot be followed{where}: {words}{pointer}", "lark")


def placed(grammar: Grammar, refusal: InvalidRequest) -> InvalidRequest:
    """`refusal` with the field that `grammar` was sent in for its kind, if it is about that."""
    kind, mark, pointer = (refusal.param or "").partition("#")
    if not grammar.place or kind != grammar.kind:
        return refusal
    param = f"{grammar.place}{mark}{pointer}"
    return InvalidRequest(f"{param}: {refusal.message}", param)


def _pointer_in(text: str, line: int, column: int) -> str:
    """Where in the first schema that is refused from this place of a Lark grammar on the fault is, as words; often
    nothing."""
    ahead = "\n".join(text.split("\n")[line - 1 :])[column - 1 :]
    for found in islice(_INLINE.finditer(ahead), _MOST_SCHEMAS):
        try:
            schema: Json = json.JSONDecoder().raw_decode(ahead, found.end())[0]
        except (ValueError, RecursionError):
            continue
        pointer, node, fault = _innermost(schema, "")
        if fault:
            keyword = _keyword(fault, node)
            place = f"{pointer}/{keyword}" if keyword else pointer
            return f", at #{place}" if place else ""
    return ""


def _in_expression(error: str, text: str = "") -> str:
    """Words for an `error` in an expression; `text` is as the client wrote it, if llguidance has rewritten it."""
    found = _EXPRESSION.search(error)
    if found:
        place = len(found[1])
        if text:
            place = bisect(range(len(text) - 1), place, key=lambda end: len(regex_to_lark(text[: end + 1], ASCII)))
        return f"{found[2]}, at character {place + 1} of the expression"
    return _short(re.sub(r"^(at )?\d+\(\d+\): ", "", error))


def _short(error: str) -> str:
    if error.startswith("panic:"):
        return "it is not well-formed"
    return error.strip().split("\n", 1)[0][:_MOST_CHARACTERS]


def _in_schema(text: str, error: str) -> InvalidRequest:
    if error.startswith("recursion limit"):
        return InvalidRequest("the JSON schema cannot be followed: it is nested too deeply", PARAM)
    pointer, node, fault = _innermost(followable(parsed(text)), error)
    keyword = _keyword(fault, node)
    pattern = node.get("pattern") if isinstance(node, dict) else None
    words = _in_expression(fault, pattern if isinstance(pattern, str) else "")
    if fault.startswith(_UNKNOWN_KEYS):
        keyword = json.loads(_short(fault).removeprefix(_UNKNOWN_KEYS))[0]
        words = f"the keyword {keyword!r} is not supported"
    place = f"{pointer}/{keyword}" if keyword else pointer
    param = f"{PARAM}#{place}" if place else PARAM
    return InvalidRequest(f"the JSON schema cannot be followed at #{place}: {words}", param)


def _keyword(fault: str, node: Json) -> str:
    """The keyword of `node` that `fault` is about, if its words tell."""
    named = (found.groupdict().get("key") or keyword for words, keyword in _KEYWORDS if (found := words.search(fault)))
    return next((keyword for keyword in named if isinstance(node, dict) and keyword in node), "")


def _innermost(schema: Json, error: str) -> tuple[str, Json, str]:
    """The pointer of the schema that is refused, the schema, and why."""
    deadline_s = time.monotonic() + SEARCH_S
    home = _moved(schema)
    pointer, node, fault = "", schema, _refusal(home, "") or error

    def inner() -> tuple[str, Json] | None:
        for step, child in children(node):
            if time.monotonic() > deadline_s:
                return None
            if _refusal(home, pointer + step) == fault:
                return step, child
        return None

    while found := inner():
        pointer, node = pointer + found[0], found[1]
    return pointer, node, fault


def _refusal(home: Json, pointer: str) -> str:
    """What llguidance says of the schema at `pointer` alone; empty if it takes it."""
    style = home.get("x-guidance", {}) if isinstance(home, dict) else {}
    alone = {"$defs": {"root": home}, "$ref": f"#{_ROOT}{quote(pointer)}", "x-guidance": style}
    source = json.dumps({"grammars": [{"json_schema": alone}]})
    # Not validate_grammar: it lets panics through, which a matcher catches.
    words = LLMatcher(_bytes(), source, log_level=0, limits=parser_limits()).get_error()
    return words.split("\n  while processing", 1)[0].replace(_ROOT, "")


@cache
def _bytes() -> LLTokenizer:
    """The smallest vocabulary: whether a schema can be followed does not depend on it."""
    return LLTokenizer("byte")


def _moved(schema: Json) -> Json:
    """`schema` with its references as they are when it is not the root but at _ROOT."""
    if isinstance(schema, list):
        return [_moved(child) for child in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value) for key, value in schema.items()}
    target = schema.get("$ref")
    if isinstance(target, str) and (target == "#" or target.startswith("#/")):
        moved["$ref"] = f"#{_ROOT}{target[1:]}"
    return moved
