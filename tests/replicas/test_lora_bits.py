"""An adapter's term to the last bit: rows beside a row, the cut of a prompt and the number of threads do not show."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper, numpy_helper

from replicas.export import Export
from replicas.lora import LoraWeights, add_lora, find_projections
from replicas.lora.peft import Factors, PeftAdapter
from replicas.slot.model.forward import Forward
from replicas.slot.request.lane import Lane
from tests.models import Tiny, tiny_export, tiny_longrope_export
from tests.replicas.passes import BLOCK, PROMPT, chunks, decoded_alone_and_together, opened, prefilled
from tests.replicas.peft import random_pairs, write_peft

Rows = NDArray[np.float32]
# Inputs and outputs that leave remainders in every kernel's blocks.
ODD = Tiny(kind="F16", hidden=40, ffn=172, heads=3, kv_heads=1)
LANE = Lane("one")
# Inputs, rank and outputs: of the bundled model, of Phi-4-mini, with remainders.
SIZES = ((576, 16, 1536), (1536, 16, 576), (3072, 48, 1024), (1531, 13, 61), (61, 7, 1531))
COUNTS = (1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33, 64)


@pytest.fixture(scope="module", params=[(Tiny(), 1), (Tiny(), 2), (ODD, 1)], ids=["1 thread", "2 threads", "odd sizes"])
def forward(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forward]:
    tiny, threads = request.param
    folder = tmp_path_factory.mktemp("lora")
    export = Export.load(tiny_export(folder / "tiny", tiny))
    forward = opened(export, slots=16, threads=threads)
    adapter = write_peft(folder / "adapter", random_pairs(tiny, rank=5))
    forward.add_adapter("one", LoraWeights.read(adapter, export))
    yield forward
    forward.close()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(2, BLOCK), min_size=1, max_size=4), st.integers(0, 15))
def test_how_a_prompt_is_cut_does_not_show(forward: Forward, budgets: list[int], row: int) -> None:
    whole = prefilled(forward, 0, PROMPT, chunks(70, [BLOCK]), LANE)
    following = forward.decode(0, [9], [70], LANE)[0].copy()
    assert np.array_equal(prefilled(forward, row, PROMPT, chunks(70, budgets), LANE), whole)
    assert np.array_equal(forward.decode(row, [9], [70], LANE)[0], following)


@pytest.mark.parametrize("rows", range(1, 17))
def test_neighbours_do_not_show(forward: Forward, rows: int) -> None:
    lengths = [70, 3, 40, 2, 55, 61, 7, 8, 9, 33, 34, 35, 36, 37, 38, 39][-rows:]
    alone, together = decoded_alone_and_together(forward, lengths, LANE)
    assert all(np.array_equal(one, row) for one, row in zip(alone, together, strict=True))


def test_an_adapter_works_in_both_regimes_of_longrope(tmp_path: Path) -> None:
    export = Export.load(tiny_longrope_export(tmp_path / "tiny", switch_tokens=48))
    forward = opened(export)
    forward.add_adapter("one", LoraWeights.read(write_peft(tmp_path / "adapter", random_pairs()), export))
    lanes = [Lane(adapter, is_long=is_long) for adapter in (None, "one") for is_long in (False, True)]
    whole = [prefilled(forward, 0, PROMPT[:40], [20, 20], lane) for lane in lanes]
    cut = [prefilled(forward, 1, PROMPT[:40], [7, 30, 3], lane) for lane in lanes]
    assert np.array_equal(whole, cut)
    assert len({logits.tobytes() for logits in whole}) == 4
    forward.close()


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_rows_term_does_not_depend_on_the_rows_and_threads_beside_it(sizes: tuple[int, int, int]) -> None:
    x = np.random.default_rng(1).normal(size=(max(COUNTS), sizes[0])).astype(np.float32)
    model, arrays = _one_projection(sizes)
    for threads in (1, 2, 4):
        session = _session(model, threads)
        whole = _term(session, arrays, x[:, None])
        for count in COUNTS:
            assert np.array_equal(_term(session, arrays, x[:count, None]), whole[:count])
            assert np.array_equal(_term(session, arrays, x[None, :count]), whole[:count])


def test_a_plain_product_shows_how_many_rows_there_are() -> None:
    # Why rows are stacked. If this fails onnxruntime has changed for the better, and A can do without its dimensions.
    random = np.random.default_rng(0)
    x, a = random.normal(size=(2, 576)).astype(np.float32), random.normal(size=(576, 48)).astype(np.float32)
    product = helper.make_node("MatMul", ["x", "a"], ["y"])
    x_info, a_info, y_info = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["m", "n"]) for name in "xay")
    session = _session(_model(helper.make_graph([product], "plain", [x_info, a_info], [y_info])), 1)
    assert not np.array_equal(session.run(None, {"x": x[:1], "a": a})[0], session.run(None, {"x": x, "a": a})[0][:1])


def _one_projection(sizes: tuple[int, int, int]) -> tuple[bytes, dict[str, Rows]]:
    """A model that is the term alone (its own weights are zeros), and the inputs of an adapter."""
    inputs, rank, outputs = sizes
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="/model/layers.0/mlp/up_proj/MatMul")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", "s"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "s", inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "s", outputs])
    weight = numpy_helper.from_array(np.zeros((inputs, outputs), np.float32), "w")
    graph = helper.make_graph([node], "term", [ids, x], [y], [weight])
    found = find_projections(graph, 1)
    add_lora(graph, found, "ids")
    random = np.random.default_rng(0)
    a, b = (random.normal(size=shape).astype(np.float32) for shape in ((rank, inputs), (outputs, rank)))
    arrays = LoraWeights.fit(PeftAdapter(Path("x"), {(0, "up_proj"): Factors(a, b)}), found).arrays
    return _model(graph), {name: array.astype(np.float32) for name, array in arrays.items()}


def _model(graph: GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    serialized: bytes = model.SerializeToString()
    return serialized


def _session(model: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _term(session: ort.InferenceSession, arrays: dict[str, Rows], x: Rows) -> Rows:
    """The term of each row of `x`, [batch, tokens, inputs]."""
    got: Rows = session.run(None, {"ids": np.ones(x.shape[:2], np.int64), "x": x, **arrays})[0]
    return got.reshape(-1, got.shape[-1])
