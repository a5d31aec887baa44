"""The grammar of an answer that calls tools, as llguidance's Lark: each tool's name with its own schema behind it.

A tag that is one token of the vocabulary must be named as that token (llguidance never matches it as text), any other
is text. In an answer of the model's own choice the words go on until a call opens; from there on it must be a whole
call. Keywords of a schema that llguidance cannot follow are let go rather than refused: callers send tools that were
written for other models.
"""

import re
from collections.abc import Mapping, Sequence
from json import JSONDecoder

from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from replicas.grammar.schema import PARAM, Json, followable, parsed
from replicas.tools.syntax import TOOL_TAGS, CallSyntax
from replicas.tools.tool import Tool, ToolChoice, written

CALLS = 16
"""In one answer: small models that may go on tend to repeat themselves."""

_AT_LINE = re.compile(
    r"at line (\d+), column \d+: (?:failed to compile JSON schema: )?(.*?)(?:, at (#/.*))?$", re.DOTALL
)
_CALL = re.compile(r"call_\d+: ")
_NAME = '{"name": '
_SAID = "start: %json"
_NO_FORM = "tools: beside tools of the model's own choice only a JSON schema can be the form of the answer"


def calls_grammar(
    syntax: CallSyntax, tags: Mapping[str, int], tools: Sequence[Tool], choice: ToolChoice, said: Grammar | None = None
) -> Grammar:
    """What an answer must match that calls `tools` by `choice` (not `none`). `said` is what it must match instead where
    it calls none of its own choice: a JSON schema; None for any words. `tags` are the control tokens of the vocabulary.
    """
    offered = [tool for tool in tools if choice.mode != "named" or tool.name == choice.name]
    is_forced = choice.mode in ("required", "named")
    opener = _tag(syntax.opener, tags)
    again = "" if not choice.is_parallel else _again(syntax, opener)
    rules = [f"calls: {_body(syntax, again if syntax.is_list else '')} {_tag(syntax.closer, tags)}"]
    rules += [f"call: {' | '.join(f'call_{i}' for i in range(len(offered)))}"]
    rules += [f'call_{i}: {_text(syntax.head(tool.name))} %json {_schema(tool)} "}}"' for i, tool in enumerate(offered)]
    more = "" if syntax.is_list else again
    if is_forced:
        return Grammar("lark", "\n".join([f"start: {opener} calls {more}", *rules]))
    others = sorted(id_ for tag, id_ in tags.items() if tag not in TOOL_TAGS)
    return Grammar("lark", "\n".join([*_choosing(syntax, opener, more, others, said), *rules]) + "\n")


def blamed(grammar: Grammar | None, refusal: InvalidRequest, tools: Sequence[Tool]) -> InvalidRequest:
    """`refusal`, in words about the tool whose schema is at fault if it is one's in a grammar made here of `tools`."""
    found = _AT_LINE.search(refusal.message)
    lines = [] if grammar is None else grammar.text.split("\n")
    if found is None or not 0 < int(found[1]) <= len(lines):
        return refusal
    line, why, pointer = lines[int(found[1]) - 1], found[2], found[3] or ""
    if line.startswith(_SAID):
        return InvalidRequest(f"the JSON schema cannot be followed: {why}", f"{PARAM}{pointer}")
    rule = _CALL.match(line)
    if rule is None:
        return refusal
    head, _ = JSONDecoder().raw_decode(line, rule.end())
    name, _ = JSONDecoder().raw_decode(head, len(_NAME))
    tool = next(tool for tool in tools if tool.name == name)
    return _refused(tool, pointer, why)


def _refused(tool: Tool, pointer: str, why: str) -> InvalidRequest:
    where = f"{tool.place}{pointer}"
    return InvalidRequest(f"{where}: the schema of {tool.name!r} cannot be followed: {why}", where)


def _choosing(syntax: CallSyntax, opener: str, more: str, others: Sequence[int], said: Grammar | None) -> list[str]:
    """The rules of an answer that may call."""
    if said is not None:
        if said.kind != "json_schema":
            raise InvalidRequest(_NO_FORM, "tools")
        return [f"{_SAID} {written(followable(parsed(said.text)))} | {opener} calls {more}"]
    if not syntax.opener:
        return [f"start: calls {more} | words", r"words: /[^{](?s:.*)/ |"]
    if opener.startswith("<"):
        reserved = f" | <[{','.join(map(str, others))}]>" if others else ""
        return [f"start: words | words {opener} calls {more}", f"words: ( /(?s:.+)/{reserved} )*"]
    return [f"start: words | before calls {more}", "words: /(?s:.*)/", f"before[suffix={opener}]: /(?s:.*)/"]


def _body(syntax: CallSyntax, again: str) -> str:
    gap = _text(syntax.gap)
    inner = f'"[" call {again} "]"' if syntax.is_list else "call"
    return f"{gap} {inner} {gap}"


def _again(syntax: CallSyntax, opener: str) -> str:
    """More calls after the first."""
    if syntax.is_list:
        return f'(", " call){{0,{CALLS - 1}}}'
    return f'("\\n" {opener} calls){{0,{CALLS - 1}}}' if opener else ""


def _schema(tool: Tool) -> str:
    """The tool's schema as llguidance can follow it. Raises InvalidRequest that names the tool."""
    try:
        schema = followable({"type": "object", **_object(parsed(tool.schema))})
    except InvalidRequest as error:
        _, mark, pointer = (error.param or "").partition("#")
        raise _refused(tool, mark + pointer, error.message) from error
    edited = _object(schema)
    return written({**edited, "x-guidance": {**_object(edited["x-guidance"]), "lenient": True}})


def _object(schema: Json) -> dict[str, Json]:
    return schema if isinstance(schema, dict) else {}


def _tag(tag: str, tags: Mapping[str, int]) -> str:
    return f"<[{tags[tag]}]>" if tag in tags else _text(tag)


def _text(text: str) -> str:
    """A Lark string is written as in JSON; an empty one is nothing."""
    return written(text) if text else ""
