"""The ways in which `bench.tools` asks a model for a call, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam

from bench.tools.cases import Case
from replicas.engine import Message, ToolCall
from replicas.tools.layout import CHATML, adapter_layout
from replicas.tools.tool import object_of

MAX_TOKENS = 128
ADAPTER = "tools"


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one case: the calls, and the words beside them."""

    calls: tuple[ToolCall, ...]
    text: str


Way: TypeAlias = Callable[[openai.OpenAI, str, Case], Said]


def by_choice(client: openai.OpenAI, model: str, case: Case) -> Said:
    """The model decides; a call that it begins is held to the schema."""
    return _with_tools(client, model, case, "auto")


def required(client: openai.OpenAI, model: str, case: Case) -> Said:
    """The answer has to be one call."""
    return _with_tools(client, model, case, "required")


def free_text(client: openai.OpenAI, model: str, case: Case) -> Said:
    """No grammar: the adapter by name, its layout by hand, and the answer read by the parser."""
    layout = adapter_layout(CHATML, {})
    assert layout is not None, "the layout of the bundled adapter is ours"
    turns = layout.prompt([Message("user", case.request)], case.tools).turns
    messages = cast("list[ChatCompletionMessageParam]", [dict(turn) for turn in turns])
    done = client.chat.completions.create(
        model=f"{model}:{ADAPTER}", messages=messages, temperature=0, max_tokens=MAX_TOKENS
    )
    parser = layout.parser(case.tools, is_certain=False)
    told = [*parser.push(done.choices[0].message.content or ""), *parser.flush()]
    pieces = [one for one in told if not isinstance(one, str)]
    names = {piece.index: piece.name for piece in pieces if piece.name is not None}
    written = {i: "".join(piece.arguments for piece in pieces if piece.index == i) for i in names}
    calls = tuple(ToolCall("", name, written[i]) for i, name in names.items())
    return Said(calls, "".join(one for one in told if isinstance(one, str)))


def _with_tools(client: openai.OpenAI, model: str, case: Case, choice: str) -> Said:
    functions = [
        {"name": tool.name, "description": tool.description, "parameters": object_of(tool.schema)}
        for tool in case.tools
    ]
    tools = cast("list[ChatCompletionToolUnionParam]", [{"type": "function", "function": one} for one in functions])
    done = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": case.request}],
        tools=tools,
        tool_choice="required" if choice == "required" else "auto",
        parallel_tool_calls=choice != "required",
        temperature=0,
        max_tokens=MAX_TOKENS,
    )
    message = done.choices[0].message
    calls = [call for call in message.tool_calls or [] if call.type == "function"]
    made = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in calls)
    return Said(made, message.content or "")
