"""The Claude Agent SDK, the real one with its command line, runs a tool loop on the bundled model by base URL alone.

It is told another home and another address, and whatever else it would like to reach on the net is not there.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.engines import load_adapters
from deployments.plan import AppPlan, EnginePlan, PoolPlan
from replicas.engine import Generation, Sink
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.engine import SlotStream
from tests.deployments.served import Served, serving
from tests.models import bundled_export

sdk = pytest.importorskip("claude_agent_sdk", reason="the extra agent-sdk is not installed: `make agent-sdk`")

MODEL = "smol"
LIMIT_S = 120.0
NOWHERE = "http://127.0.0.1:9"


class Greedy(SlotEngine):
    """The SDK says no temperature; a test wants the same answer each time."""

    def submit(self, request: Generation, sink: Sink) -> SlotStream:
        return super().submit(replace(request, sampling=replace(request.sampling, temperature=0.0)), sink)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    path = bundled_export()
    pool = PoolPlan(MODEL, path, EnginePlan(), context_tokens=2048, adapters=("tools",), tool_adapter="tools")
    engine = Greedy(Export.load(path), SlotConfig(slots=2, max_len=2048, is_spinning=False))
    load_adapters(engine, pool)
    with serving(AppPlan((pool,), MODEL), smol=[engine]) as served:
        yield served


@pytest.fixture
def environment(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the command line is told; whatever it would find of a developer's own is gone."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC", "CLAUDE"))]:
        monkeypatch.delenv(name)
    return {
        "ANTHROPIC_BASE_URL": served.url,
        "ANTHROPIC_API_KEY": "local",
        "ENABLE_TOOL_SEARCH": "false",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HOME": str(tmp_path),
        "CLAUDE_CONFIG_DIR": str(tmp_path),
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1",
    }


def test_an_agent_of_the_sdk_calls_a_tool_of_this_process_and_is_told_the_result(
    environment: dict[str, str], tmp_path: Path
) -> None:
    called: list[dict[str, object]] = []

    async def weather(arguments: dict[str, object]) -> dict[str, object]:
        called.append(arguments)
        return {"content": [{"type": "text", "text": "12 degrees"}]}

    tool = sdk.tool("weather", "Tell the weather in a city", {"city": str})(weather)
    options = sdk.ClaudeAgentOptions(
        model=f"claude-local-{MODEL}",
        system_prompt="You help with the weather.",
        tools=[],
        mcp_servers={"sky": sdk.create_sdk_mcp_server("sky", tools=[tool])},
        strict_mcp_config=True,
        allowed_tools=["mcp__sky__weather"],
        setting_sources=[],
        max_turns=4,
        cwd=tmp_path,
        env=environment,
    )

    async def told() -> list[object]:
        async with asyncio.timeout(LIMIT_S):
            return [message async for message in sdk.query(prompt="What is the weather in Lima?", options=options)]

    messages = asyncio.run(told())
    assert called == [{"city": "Lima"}]
    blocks = [block for one in messages if isinstance(one, sdk.AssistantMessage) for block in one.content]
    assert [block.name for block in blocks if isinstance(block, sdk.ToolUseBlock)] == ["mcp__sky__weather"]
    result = messages[-1]
    assert isinstance(result, sdk.ResultMessage)
    assert (result.subtype, result.is_error, result.num_turns) == ("success", False, 2)
    assert "12 degrees" in str(result.result)
    # The second request begins with the tokens of the first: what the SDK adds to a question moves nothing.
    assert result.usage["cache_read_input_tokens"] > 150
