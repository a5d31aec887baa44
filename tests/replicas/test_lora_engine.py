"""Adapters in the engine: named per request, side by side, loaded and unloaded while it runs."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest

from replicas.adapters import adapters_of, install_shipped
from replicas.engine import Finish, Generation, Message
from replicas.errors import DeadlineExceeded, EngineFailed, InvalidRequest, ModelImportError, NotFound
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.model.adapters import REST_S, Adapters
from replicas.slot.start import opening
from tests.models import bundled_export
from tests.replicas.engines import WAIT_S, Inbox, asked, sampled, slot_engine
from tests.replicas.peft import random_pairs, write_peft

NAMES = (None, "one", "two")
TOOLS = """You can use these tools:
{"name": "dns_lookup", "description": "Resolve a domain name to its records", \
"parameters": {"properties": {"domain": {"type": "string"}}, "required": ["domain"]}}
{"name": "stock_quote", "description": "Get the price of a stock", \
"parameters": {"properties": {"ticker": {"type": "string"}}, "required": ["ticker"]}}
To use a tool, answer only with
<tool_call>
{"name": ..., "arguments": {...}}
</tool_call>
If no tool fits, answer in plain text."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlotEngine]:
    """An engine with the adapters "one" and "two"."""
    folder = tmp_path_factory.mktemp("adapters")
    engine = slot_engine()
    for seed, name in enumerate(("one", "two")):
        engine.load_adapter(name, write_peft(folder / name, random_pairs(seed=seed)))
    yield engine
    engine.close()


def _submitted(engine: SlotEngine, id_: str, adapter: str | None) -> Inbox:
    inbox = Inbox()
    engine.submit(replace(asked(id_), adapter=adapter), inbox)
    return inbox


def test_requests_of_different_adapters_answer_as_they_do_alone(engine: SlotEngine) -> None:
    alone = {}
    for name in NAMES:
        inbox = _submitted(engine, "alone", name)
        assert inbox.final().error is None
        alone[name] = inbox.text
    wanted = NAMES * 4
    inboxes = [_submitted(engine, str(place), name) for place, name in enumerate(wanted)]
    assert all(inbox.final().finish is not Finish.ERROR for inbox in inboxes)
    assert [inbox.text for inbox in inboxes] == [alone[name] for name in wanted]
    assert len(set(alone.values())) == 3


def test_an_adapter_that_is_not_loaded_is_the_callers_mistake(engine: SlotEngine) -> None:
    with pytest.raises(NotFound, match="adapter 'three' does not exist: loaded: one, two"):
        _submitted(engine, "x", "three")


def test_an_adapter_in_use_is_not_unloaded(tmp_path: Path) -> None:
    engine, inbox = slot_engine(), Inbox()
    engine.load_adapter("one", write_peft(tmp_path / "one", random_pairs()))
    long_answer = sampled(max_tokens=200, ignore_eos=True)
    stream = engine.submit(replace(asked("busy"), adapter="one", sampling=long_answer), inbox)
    inbox.begun()
    with pytest.raises(InvalidRequest, match="requests for the adapter 'one' are under way"):
        engine.unload_adapter("one")
    stream.cancel()
    assert inbox.final().error is None
    engine.unload_adapter("one")
    assert engine.stats().adapters == ()
    engine.close()


def test_answers_run_on_while_the_first_request_for_an_adapter_opens_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_opening, may_open, open_now = threading.Event(), threading.Event(), Adapters.open

    def slow(adapters: Adapters) -> None:
        is_opening.set()
        assert may_open.wait(WAIT_S)
        open_now(adapters)

    engine, inbox = slot_engine(), Inbox()
    engine.load_adapter("one", write_peft(tmp_path / "one", random_pairs()))
    monkeypatch.setattr(Adapters, "open", slow)
    first = threading.Thread(target=engine.submit, args=(replace(asked("first"), adapter="one"), inbox))
    first.start()
    assert is_opening.wait(WAIT_S)
    assert _submitted(engine, "meanwhile", None).final().error is None
    assert not inbox.chunks
    may_open.set()
    first.join(WAIT_S)
    assert inbox.final().error is None
    engine.close()


def test_a_call_that_the_loop_has_no_time_for_is_not_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, engine = threading.Event(), slot_engine()
    busy = Inbox(gate)
    engine.submit(asked("busy"), busy)
    busy.begun()
    monkeypatch.setattr("replicas.slot.engine.CALL_DEADLINE_S", 0.0)
    with pytest.raises(DeadlineExceeded):
        engine.load_adapter("one", write_peft(tmp_path / "one", random_pairs()))
    gate.set()
    assert _submitted(engine, "after", None).final().error is None
    assert engine.stats().adapters == ()
    engine.close()


def test_a_session_for_adapters_that_cannot_be_opened_is_tried_again_after_a_rest_only() -> None:
    tried, now_s = [], [0.0]

    def no_memory() -> ort.InferenceSession:
        tried.append(now_s[0])
        raise MemoryError

    adapters = Adapters(no_memory, "cpu", lambda: now_s[0])
    for now_s[0] in (0.0, 1.0, REST_S - 1, REST_S):
        with pytest.raises(EngineFailed, match="LoRA adapters cannot be opened: MemoryError"):
            adapters.open()
    assert tried == [0.0, REST_S]


def test_a_request_hears_why_its_adapters_session_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("the graph does not run")

    engine = slot_engine()
    engine.load_adapter("one", write_peft(tmp_path / "one", random_pairs()))
    monkeypatch.setattr(opening, "open_session", broken)
    for ask in (engine.prepare, lambda request: engine.submit(request, Inbox())):
        with pytest.raises(EngineFailed, match="LoRA adapters cannot be opened: the graph does not run"):
            ask(replace(asked(), adapter="one"))
    assert (_submitted(engine, "bare", None).final().error, engine.is_healthy) == (None, True)
    engine.close()


def test_an_adapter_that_does_not_fit_leaves_the_engine_as_it_was(engine: SlotEngine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelImportError, match="cannot be read"):
        engine.load_adapter("three", tmp_path / "empty")
    with pytest.raises(InvalidRequest, match="loaded already"):
        engine.load_adapter("one", write_peft(tmp_path / "one", random_pairs()))
    assert engine.stats().adapters == ("one", "two")


def test_the_shipped_adapter_calls_the_right_tool_and_the_bare_model_does_not(tmp_path: Path) -> None:
    engine = SlotEngine(Export.load(bundled_export()), SlotConfig(slots=2, max_len=512, threads=1))
    install_shipped(tmp_path)
    [adapter] = adapters_of(tmp_path)
    engine.load_adapter(adapter.name, adapter.path)
    question = (Message("system", TOOLS), Message("user", "How is AMD stock doing?"))
    texts = {}
    for name in (adapter.name, None):
        inbox = Inbox()
        engine.submit(Generation("one", question, sampled(max_tokens=40), adapter=name), inbox)
        assert inbox.final().finish is Finish.END
        texts[name] = inbox.text
    engine.close()
    assert texts["tools"] == '<tool_call>\n{"name": "stock_quote", "arguments": {"ticker": "AMD"}}\n</tool_call>'
    assert "<tool_call>" not in texts[None]
