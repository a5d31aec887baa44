"""The bundled model with its adapter for tools: calls where one fits, words where none does, as its README says."""

import threading
from collections.abc import Iterator

import pytest

from replicas.adapters import FOLDER
from replicas.chat import ChatTokenizer
from replicas.engine import CallPiece, Chunk, Generation, Message, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.tools.layout import ToolLayout, adapter_layout
from replicas.tools.parser import Said
from replicas.tools.tool import Tool, ToolChoice, object_of
from tests.models import bundled_export

TOOLS = (
    Tool("dns_lookup", "Resolve a domain name to its records", '{"properties": {"domain": {"type": "string"}}}'),
    Tool("stock_quote", "Get the price of a stock", '{"properties": {"ticker": {"type": "string"}}}'),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[SlotEngine]:
    path = bundled_export()
    engine = SlotEngine(Export.load(path), SlotConfig(slots=2, max_len=512, is_spinning=False))
    engine.load_adapter("tools", path / FOLDER / "tools")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def layout() -> ToolLayout:
    found = adapter_layout("chatml", ChatTokenizer(bundled_export()).tags)
    assert found is not None
    return found


def ask(engine: SlotEngine, layout: ToolLayout, text: str, choice: ToolChoice, adapter: str | None) -> list[Said]:
    prompt = ChatTokenizer(bundled_export()).encode_chat([Message("user", text)], TOOLS, layout)
    grammar, parser = layout.grammar(TOOLS, choice), layout.parser(TOOLS, is_certain=True)
    said: list[Said] = []
    done = threading.Event()

    def sink(chunk: Chunk) -> None:
        said.extend(parser.push(chunk.text))
        if chunk.final is not None:
            said.extend(parser.flush())
            done.set()

    engine.submit(Generation("ask", prompt, Sampling(60), grammar=grammar, adapter=adapter), sink)
    assert done.wait(60)
    return said


def calls(said: list[Said]) -> list[tuple[str | None, object]]:
    pieces = [one for one in said if isinstance(one, CallPiece)]
    texts = {p.index: "".join(q.arguments for q in pieces if q.index == p.index) for p in pieces}
    return [(piece.name, object_of(texts[piece.index])) for piece in pieces if piece.name is not None]


def test_it_calls_the_tool_that_fits_with_what_the_text_names(engine: SlotEngine, layout: ToolLayout) -> None:
    said = ask(engine, layout, "How is AMD stock doing?", ToolChoice(), "tools")
    assert calls(said) == [("stock_quote", {"ticker": "AMD"})]
    assert not any(isinstance(one, str) for one in said)


def test_it_answers_in_words_where_no_tool_fits(engine: SlotEngine, layout: ToolLayout) -> None:
    said = ask(engine, layout, "What is the capital of France?", ToolChoice(), "tools")
    assert "Paris" in "".join(map(str, said))
    assert calls(said) == []


def test_a_named_tool_is_called_for_certain_even_by_the_bare_model(engine: SlotEngine, layout: ToolLayout) -> None:
    choice = ToolChoice("named", "dns_lookup", is_parallel=False)
    [(name, arguments)] = calls(ask(engine, layout, "What is the capital of France?", choice, None))
    assert name == "dns_lookup"
    assert arguments is not None
