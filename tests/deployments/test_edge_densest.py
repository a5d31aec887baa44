"""However densely a cloud counts, no answer costs more than was held for it: a token for each byte that it was
asked, all of it written to its cache, and as long an answer as it was allowed."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.budget import Budget, Budgets, Payer
from router.budget.budgets import Hold
from router.budget.money import nano_of
from tests.deployments.asking import CHAT, MESSAGES
from tests.deployments.far import CLAUDE, GPT, Far, far
from tests.deployments.test_edge_clouds import Purse

DENSE = """
answers: [{cache: {write_tokens: 1000000}}]
models:
  - {id: claude-haiku-4-5, is_dense: true, price: {input: 1.0, output: 5.0, cache_write: 1.25}}
  - {id: gpt, is_dense: true, price: {input: 1.0, output: 5.0, cache_write: 1.0}}
"""
PLENTY = 10**15
MOST_TOKENS = 8

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80),
    st.text("0123456789 ", min_size=1, max_size=80),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=80),
    st.text("abcdefXYZ+/=", min_size=1, max_size=80),
    st.lists(st.sampled_from(["\ufdfa", "\ufb2c", "\U0001d160", "👩‍👩‍👧", "\0", '"']), min_size=1, max_size=20).map(
        "".join
    ),
)


class Noted(Budgets):
    """Notes of each call what was held, and what it has cost, in nano-dollars."""

    def __init__(self) -> None:
        super().__init__((Budget("all", PLENTY),), Purse(PLENTY), lambda _: None)
        self.calls: list[tuple[int, int]] = []

    @asynccontextmanager
    async def held(self, payer: Payer, worst_usd: float, deadline_s: float) -> AsyncGenerator[Hold, None]:
        async with super().held(payer, worst_usd, deadline_s) as hold:
            try:
                yield hold
            finally:
                self.calls.append((nano_of(worst_usd), nano_of(hold.cost_usd)))


@dataclass(frozen=True)
class Dense:
    """An edge before clouds that count as many tokens as can be, and what its calls have cost."""

    far: Far
    budgets: Noted


@pytest.fixture(scope="module")
def dense() -> Iterator[Dense]:
    budgets = Noted()
    with far(DENSE, budgets=budgets) as edge:
        yield Dense(edge, budgets)


def tools_of(path: str, description: str) -> list[dict[str, object]]:
    """One tool, in the words of the dialect of `path`."""
    schema = {"type": "object", "properties": {"x": {"type": "string", "description": description}}}
    if path == MESSAGES:
        return [{"name": "look_up", "description": description, "input_schema": schema}]
    return [{"type": "function", "function": {"name": "look_up", "description": description, "parameters": schema}}]


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize("model", [CLAUDE, GPT])
@settings(max_examples=25, deadline=None)
@given(turns=st.lists(texts, min_size=1, max_size=4), described=st.none() | texts, stream=st.booleans())
def test_no_answer_costs_more_than_was_held_for_it(
    dense: Dense, path: str, model: str, turns: list[str], described: str | None, stream: bool
) -> None:
    told = [{"role": ("user", "assistant")[at % 2], "content": f"{at}: {text}."} for at, text in enumerate(turns)]
    if len(told) % 2 == 0:
        told.append({"role": "user", "content": "and now?"})
    tools: dict[str, object] = {} if described is None else {"tools": tools_of(path, described)}
    asked_for: dict[str, object] = {"model": model, "messages": told, "max_tokens": MOST_TOKENS, "stream": stream}
    answer = dense.far.ask(path, "", "", **asked_for, **tools)
    assume(answer.headers.get("x-shoal-model") == model)  # else something in it looked private
    assert answer.status_code == 200, answer.text
    [*_, asked] = dense.far.upstream.ended()
    held_nano, cost_nano = dense.budgets.calls[-1]
    assert asked.usage is not None
    assert asked.usage.input >= sum(len(text.encode()) for text in turns)
    assert nano_of(asked.billed_usd) <= cost_nano <= held_nano
