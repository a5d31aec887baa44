"""A Messages body, held to what the real service refuses: unknown keys, missing limits, forced thinking, bad tools."""

import json
import re

from cluster.upstream.anthropic.turns import Turns
from cluster.upstream.asked import Asked, Dialect, Json, Tool
from cluster.upstream.checking import a_count, a_list, a_number, a_text, an_object, objects, wrong

# Of the packages `anthropic` 2.11 (a test compares) and its beta headers.
KEYS = frozenset(
    [
        "billing_policy",
        "cache_control",
        "compaction",
        "container",
        "context_management",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "thread",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    ]
)
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_LEAST_BUDGET_TOKENS = 1024


def read(body: Json, is_count: bool = False) -> Asked:
    """What `body` asks for; `is_count`: for a count of its tokens. Raises Problem."""
    for key in body:
        if key not in KEYS:
            wrong(key, "Extra inputs are not permitted")
    model = a_text(body.get("model"), "model")
    limit = (
        None
        if is_count
        else a_count(body["max_tokens"] if "max_tokens" in body else _required("max_tokens"), "max_tokens")
    )
    turns = Turns(body.get("messages"))
    tools = _tools(body.get("tools"))
    is_thinking = _is_thinking(body, limit)
    system = _system(body.get("system"))
    return Asked(
        dialect=Dialect.ANTHROPIC,
        model=model,
        question=turns.question,
        prompt="\n".join([*system, *turns.texts, *(json.dumps(tool) for _, tool in tools)]),
        media_tokens=turns.media_tokens,
        max_tokens=limit,
        stops=tuple(
            a_text(stop, "stop_sequences") for stop in a_list(body.get("stop_sequences") or [], "stop_sequences")
        ),
        tools=() if _choice(body) == "none" else tuple(tool for tool, _ in tools),
        forced=_forced(body, tuple(tool for tool, _ in tools)),
        schema=_schema(body),
        is_stream=body.get("stream") is True,
        is_thinking=is_thinking,
        is_after_tool=turns.is_after_tool,
    )


def _required(key: str) -> object:
    wrong(key, "Field required")


def _system(value: object) -> list[str]:
    if value is None or isinstance(value, str):
        return [value] if value else []
    return [a_text(block.get("text"), f"{place}.text") for place, block in objects(value, "system")]


def _tools(value: object) -> list[tuple[Tool, Json]]:
    found = []
    for place, tool in objects(value or [], "tools"):
        name = a_text(tool.get("name"), f"{place}.name")
        if not _TOOL_NAME.fullmatch(name):
            wrong(f"{place}.custom.name", f"String should match pattern '^{_TOOL_NAME.pattern}$'")
        if tool.get("type", "custom") == "custom":
            schema = an_object(tool.get("input_schema"), f"{place}.custom.input_schema")
            if schema.get("type") != "object":
                wrong(f"{place}.custom.input_schema.type", "Field required")
            found.append((Tool(name, schema), tool))
    return found


def _choice(body: Json) -> object:
    choice = body.get("tool_choice")
    return an_object(choice, "tool_choice").get("type") if choice is not None else None


def _forced(body: Json, tools: tuple[Tool, ...]) -> Tool | None:
    kind = _choice(body)
    if kind is None:
        return None
    if not body.get("tools"):
        wrong("tool_choice", "may only be specified while providing tools")
    if kind == "any":
        return tools[0] if tools else None
    if kind == "tool":
        name = an_object(body["tool_choice"], "tool_choice").get("name")
        named = [tool for tool in tools if tool.name == name]
        return named[0] if named else wrong("tool_choice", f"Tool '{name}' not found in provided tools")
    if kind not in ("auto", "none"):
        wrong("tool_choice", f"Input tag '{kind}' does not match any of the expected tags")
    return None


def _is_thinking(body: Json, limit: int | None) -> bool:
    temperature = body.get("temperature")
    if temperature is not None:
        a_number(temperature, "temperature", 0, 1)
    if body.get("thinking") is None:
        return False
    thinking = an_object(body["thinking"], "thinking")
    if thinking.get("type") == "enabled":
        budget = a_count(thinking.get("budget_tokens"), "thinking.enabled.budget_tokens", _LEAST_BUDGET_TOKENS)
        if limit is not None and budget >= limit:
            wrong("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`")
        if temperature not in (None, 1):
            wrong("temperature", "`temperature` may only be set to 1 when thinking is enabled")
        if _choice(body) in ("any", "tool"):
            wrong("tool_choice", "Thinking may not be enabled when tool_choice forces tool use.")
    return thinking.get("type") in ("enabled", "adaptive")


def _schema(body: Json) -> Json | None:
    held = an_object(body.get("output_config") or {}, "output_config").get("format") or body.get("output_format")
    if held is None:
        return None
    form = an_object(held, "output_config.format")
    if form.get("type") != "json_schema":
        wrong("output_config.format.type", "Input should be 'json_schema'")
    return an_object(form.get("schema"), "output_config.format.schema")
