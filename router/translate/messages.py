"""A chat completions body as a Messages body.

System turns at the beginning become `system`, later ones keep their place. Results of tools go into one user turn with
what follows them. Anthropic refuses what OpenAI takes: empty texts, a conversation without a user, a temperature above
1 or one beside `top_p`, ids of calls with other characters than letters, digits, `_` and `-`. A limit is a must there;
a caller without one gets ours.
"""

from collections.abc import Mapping

from replicas.cloud.fields import Fields, count, fields, objects, text
from router.openai.request import DEFAULT_MAX_TOKENS
from router.translate.form import JSON_WORDS, wanted_form
from router.translate.turns import conversation

NO_ARGUMENTS = {"type": "object", "properties": {}}


def messages_body(body: Fields, model: str) -> Mapping[str, object]:
    """`body` for `model`. Raises InvalidRequest."""
    form = wanted_form(body, "openai")
    has_schema = form is not None and form.schema is not None
    system, turns = conversation(objects(body.get("messages")))
    if form is not None and not has_schema:
        system = [*system, JSON_WORDS]
    said: dict[str, object] = {
        "model": model,
        "max_tokens": _limit(body),
        "system": "\n".join(system) or None,
        "messages": turns,
        **_sampling(body),
        **_tools(body),
        "output_config": {"format": form.messages_format()} if form is not None and has_schema else None,
        "stream": True if body.get("stream") is True else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _limit(body: Fields) -> int:
    limit = count(body.get("max_completion_tokens")) or count(body.get("max_tokens"))
    return limit or max(DEFAULT_MAX_TOKENS, count(body.get("min_tokens")))


def _sampling(body: Fields) -> Mapping[str, object]:
    temperature, stop = body.get("temperature"), body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    is_warm = isinstance(temperature, int | float)
    return {
        "temperature": min(temperature, 1) if isinstance(temperature, int | float) else None,
        "top_p": None if is_warm else body.get("top_p"),
        "top_k": count(body.get("top_k")) or None,
        "stop_sequences": [one for one in stops if text(one).strip()] or None,
    }


def _tools(body: Fields) -> Mapping[str, object]:
    functions = [fields(tool.get("function")) for tool in objects(body.get("tools"))]
    is_legacy = body.get("tools") is None
    if is_legacy:
        functions = objects(body.get("functions"))
    choice: object = body.get("function_call") if is_legacy else body.get("tool_choice")
    allowed = fields(fields(choice).get("allowed_tools"))
    if allowed:
        names = [fields(tool.get("function")).get("name") for tool in objects(allowed.get("tools"))]
        functions = [function for function in functions if function.get("name") in names]
        choice = allowed.get("mode")
    if not functions:
        return {}
    is_parallel = not is_legacy and body.get("parallel_tool_calls") is not False
    return {"tools": [_tool(function) for function in functions], "tool_choice": _choice(choice, is_parallel)}


def _tool(function: Fields) -> Mapping[str, object]:
    schema = {**(fields(function.get("parameters")) or NO_ARGUMENTS), "type": "object"}
    told = {
        "name": function.get("name"),
        "description": function.get("description"),
        "input_schema": schema,
        "strict": True if function.get("strict") is True else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _choice(choice: object, is_parallel: bool) -> Mapping[str, object] | None:
    if choice == "none":
        return {"type": "none"}
    name = fields(fields(choice).get("function")).get("name") or fields(choice).get("name")
    wanted: dict[str, object] = {"type": "any" if choice == "required" else "auto"}
    if isinstance(name, str):
        wanted = {"type": "tool", "name": name}
    if not is_parallel:
        return wanted | {"disable_parallel_tool_use": True}
    return None if wanted == {"type": "auto"} else wanted
