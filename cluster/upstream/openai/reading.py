"""A chat completion's body, held to what the real service refuses; keys that it does not know are let through.

OpenAI refuses those, but the many services that speak its protocol have keys of their own.
"""

import json

from cluster.upstream.asked import Asked, Dialect, Json, Problem, Tool
from cluster.upstream.checking import a_count, a_list, a_number, a_text, an_object, objects, wrong
from cluster.upstream.openai.turns import Turns


def read(body: Json, dialect: Dialect) -> Asked:
    """What `body` asks for. Raises Problem."""
    turns = Turns(body.get("messages"))
    tools = _tools(body)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if body.get("temperature") is not None:
        a_number(body["temperature"], "temperature", 0, 2)
    is_stream = body.get("stream") is True
    return Asked(
        dialect=dialect,
        model=a_text(body.get("model"), "model"),
        question=turns.question,
        prompt="\n".join([*turns.texts, *(json.dumps(tool) for tool in a_list(body.get("tools") or [], "tools"))]),
        media_tokens=turns.media_tokens,
        max_tokens=None if limit is None else a_count(limit, "max_tokens"),
        stops=_stops(body.get("stop")),
        tools=() if body.get("tool_choice") == "none" else tools,
        forced=_forced(body, tools),
        schema=_schema(body.get("response_format")),
        is_stream=is_stream,
        is_thinking=dialect is Dialect.OPENROUTER and bool(body.get("reasoning")),
        is_after_tool=turns.is_after_tool,
        is_usage_wanted=_is_usage_wanted(body, is_stream, dialect),
        choices=a_count(body.get("n") or 1, "n"),
        top_logprobs=a_count(body.get("top_logprobs") or 0, "top_logprobs", 0) if body.get("logprobs") else None,
    )


def _tools(body: Json) -> tuple[Tool, ...]:
    if body.get("tools") == []:
        raise Problem(400, "Invalid 'tools': empty array. Expected an array with minimum length 1.", param="tools")
    found = []
    for place, tool in objects(body.get("tools") or [], "tools"):
        function = an_object(tool.get("function"), f"{place}.function")
        schema = an_object(function.get("parameters") or {"type": "object"}, f"{place}.function.parameters")
        found.append(Tool(a_text(function.get("name"), f"{place}.function.name"), schema))
    return tuple(found)


def _forced(body: Json, tools: tuple[Tool, ...]) -> Tool | None:
    choice = body.get("tool_choice")
    if choice is None or choice in ("auto", "none"):
        return None
    if not tools:
        wrong("tool_choice", "'tool_choice' is only allowed when 'tools' are specified.")
    if choice == "required":
        return tools[0]
    name = an_object(an_object(choice, "tool_choice").get("function"), "tool_choice.function").get("name")
    named = [tool for tool in tools if tool.name == name]
    return named[0] if named else wrong("tool_choice", f"Tool choice '{name}' not found in 'tools' parameter.")


def _stops(stop: object) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else a_list(stop or [], "stop")
    return tuple(a_text(one, "stop") for one in stops)


def _schema(value: object) -> Json | None:
    form = an_object(value or {"type": "text"}, "response_format")
    if form.get("type") == "text":
        return None
    if form.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if form.get("type") != "json_schema":
        wrong("response_format.type", "Supported values are: 'json_object', 'json_schema' and 'text'.")
    held = an_object(form.get("json_schema"), "response_format.json_schema")
    a_text(held.get("name"), "response_format.json_schema.name")
    return an_object(held.get("schema"), "response_format.json_schema.schema")


def _is_usage_wanted(body: Json, is_stream: bool, dialect: Dialect) -> bool:
    options = body.get("stream_options")
    if options is not None and not is_stream:
        wrong("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    wanted = options is not None and an_object(options, "stream_options").get("include_usage") is True
    return wanted or not is_stream or dialect is Dialect.OPENROUTER
