"""Bodies with all that a caller can say in them, and what a cloud of the other dialect is to get of each."""

import json
from collections.abc import Callable
from pathlib import Path

from cluster.upstream.anthropic.turns import signature
from replicas.cloud.release import CloudKind
from router.translate.draft import Target, drafted
from router.translate.source import Source
from tests.cluster.upstream.played import QUESTION

GOLDEN = Path(__file__).parent / "translated"
PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjcK"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

Body = dict[str, object]


def said(text: str) -> Body:
    return {"type": "text", "text": text}


MESSAGES: Body = {
    "model": "small",
    "max_tokens": 500,
    "temperature": 0.5,
    "top_k": 5,
    "stop_sequences": ["END"],
    "stream": True,
    "metadata": {"user_id": "somebody"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: v=1; n=7"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        said("Be kind."),
    ],
    "tools": [
        {
            "name": "weather",
            "description": "Of a city.",
            "input_schema": PARAMETERS,
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "custom", "name": "clock", "input_schema": {"type": "object", "properties": {}}},
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "messages": [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm", "signature": signature("hm")}, said("Hi.")],
        },
        {
            "role": "user",
            "content": [
                said("What is this?"),
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {
                    "type": "document",
                    "title": "a.pdf",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                },
                {
                    "type": "document",
                    "title": "Notes",
                    "source": {"type": "text", "media_type": "text/plain", "data": "one"},
                },
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            ],
        },
        {"role": "system", "content": "From now on in French."},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}},
                {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                said("Well?"),
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        said("rain"),
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True, "content": "no battery"},
            ],
        },
        {"role": "assistant", "content": "It is"},
        {"role": "user", "content": QUESTION},
    ],
}

CHAT: Body = {
    "model": "small",
    "max_completion_tokens": 500,
    "temperature": 1.5,
    "top_p": 0.9,
    "stop": ["END", " "],
    "seed": 3,
    "stream": True,
    "user": "somebody",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    "tools": [
        {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS}},
        {"type": "function", "function": {"name": "clock"}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [said("Be kind.")]},
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": ""},
        {"role": "user", "content": "Anybody?"},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": []},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call.1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
                },
                {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "call.1", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_2", "content": [said("noon")]},
        {
            "role": "user",
            "content": [
                said("What is this?"),
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            ],
        },
        {"role": "system", "content": "From now on in French."},
        {"role": "assistant", "function_call": {"name": "clock", "arguments": "{}"}, "content": None},
        {"role": "function", "name": "clock", "content": "one"},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "It is  "},
    ],
}

BODIES: dict[CloudKind, Body] = {"anthropic": MESSAGES, "openai": CHAT}


def source(kind: CloudKind, **more: object) -> Source:
    """The body that says everything, with `more` in it; None takes a member out."""
    body = {name: value for name, value in (BODIES[kind] | more).items() if value is not None}
    return Source.of(kind, json.dumps(body).encode(), {"anthropic-beta": "one", "authorization": "Bearer x"})


def sent(kind: CloudKind, to: CloudKind, **more: object) -> Body:
    """What a cloud that speaks `to` would get of it."""
    body: Body = json.loads(drafted(source(kind, **more), Target(to, "large"), "x", 30.0).body)
    return body


PRODUCERS: dict[str, Callable[[], Body]] = {
    "anthropic_to_openai.json": lambda: sent("anthropic", "openai"),
    "openai_to_anthropic.json": lambda: sent("openai", "anthropic"),
    "anthropic_to_anthropic.json": lambda: sent("anthropic", "anthropic"),
    "openai_to_openai.json": lambda: sent("openai", "openai"),
}

if __name__ == "__main__":
    for name, produce in PRODUCERS.items():
        (GOLDEN / name).write_text(json.dumps(produce(), indent=1, ensure_ascii=False) + "\n", "utf-8")
