"""A request's grammar in llguidance's own form, checked for what llguidance would not survive."""

import json
import re

from llguidance import regex_to_lark
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark, is_lark_syntax

from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from replicas.grammar.limits import ASCII, GBNF_CHARS, RULES, TEXT_CHARS
from replicas.grammar.schema import followable, parsed

_DEFINITION = re.compile(r"^[ \t]*[?!]?\w[\w-]*(\[[^\]\n]*\])?(\.-?\d+)?[ \t]*:", re.MULTILINE)


def source(grammar: Grammar) -> str:
    """What llguidance compiles for `grammar`. Raises InvalidRequest."""
    _check_length(grammar.text, TEXT_CHARS[grammar.kind], grammar.kind)
    match grammar.kind:
        case "json_schema":
            return json.dumps({"grammars": [{"json_schema": followable(parsed(grammar.text))}]})
        case "regex":
            return _regex(grammar.text)
        case "lark":
            return json.dumps({"grammars": [{"lark_grammar": _lark(grammar.text)}]})


def _regex(text: str) -> str:
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise InvalidRequest("the expression ends in a backslash that escapes nothing", "regex")
    try:
        return json.dumps({"grammars": [{"lark_grammar": f"start: /{regex_to_lark(text, ASCII)}/"}]})
    except UnicodeEncodeError as error:
        raise InvalidRequest("the expression holds half a surrogate pair, which is no character", "regex") from error


def _lark(text: str) -> str:
    """Lark as it is; GBNF (`root ::= ...`) as Lark."""
    is_gbnf = "::=" in text and not is_lark_syntax(text)
    rules = text.count("::=") if is_gbnf else sum(1 for _ in _DEFINITION.finditer(text))
    if rules > RULES:
        raise InvalidRequest(f"the grammar has {rules} rules; at most {RULES}", "lark")
    if not is_gbnf:
        return text
    _check_length(text, GBNF_CHARS, "lark")
    try:
        return gbnf_to_lark(text)
    except (GbnfToLarkError, RecursionError) as error:
        raise InvalidRequest(f"the grammar is not GBNF: {str(error)[:200]}", "lark") from error


def _check_length(text: str, most: int, param: str) -> None:
    if len(text) > most:
        raise InvalidRequest(f"the grammar is {len(text)} characters long; at most {most}", param)
