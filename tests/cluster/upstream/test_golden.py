"""The streams as they are on the wire, held to files that were read against the vendors' documents."""

from pathlib import Path

import pytest

from cluster.upstream.anthropic.wire import AnthropicWire
from cluster.upstream.asked import Asked, Dialect
from cluster.upstream.openai.wire import OpenAIWire
from cluster.upstream.reply import Called, Reply, Usage
from cluster.upstream.wire import Telling, Wire

GOLDEN = Path(__file__).parent / "golden"
WIRES: dict[Dialect, Wire] = {
    Dialect.ANTHROPIC: AnthropicWire(),
    Dialect.OPENAI: OpenAIWire(Dialect.OPENAI),
    Dialect.OPENROUTER: OpenAIWire(Dialect.OPENROUTER),
}
USAGE = Usage(input=20, output=9, cache_read=5, cache_write=2, thinking=2)
REPLY = Reply("I look.", "Well, well", (Called("find", {"key": "é"}), Called("list", {})), "tool_use", None, USAGE)


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("dialect", WIRES)
def test_an_answer_is_on_the_wire_as_it_was(dialect: Dialect, is_stream: bool) -> None:
    asked = Asked(dialect, "model-1", "look", "look", is_stream=is_stream)
    frames = WIRES[dialect].write(asked, REPLY, Telling("0123", 1_767_225_600, USAGE, 0.00025))
    path = GOLDEN / f"{dialect}{'.sse' if is_stream else '.json'}"
    assert b"".join(frame.data for frame in frames) == path.read_bytes()
