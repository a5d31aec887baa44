"""The switch between two rotary caches is read from the graph, wherever its number is kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from replicas.errors import ModelImportError
from replicas.export import Export
from tests.models import tiny_export, tiny_longrope_export

SWITCH = "/model/constants/INT64/48"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_longrope_export(tmp_path / "tiny")


def _edit(folder: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model.graph)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _keep_as_initializer(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    constant = next(node for node in graph.node if SWITCH in node.output)
    graph.node.remove(constant)
    graph.initializer.append(tensor)


def _key_of_last_token(session: ort.InferenceSession, tokens: int, width: int) -> NDArray[np.float32]:
    """Layer 0's key of the last of `tokens` tokens, in a call whose mask is `width` wide."""
    past = np.zeros((1, 2, width, 16), np.float32)
    feeds: dict[str, NDArray[np.generic]] = {
        "input_ids": np.arange(5, 5 + tokens)[None],
        "attention_mask": (np.arange(width) < tokens)[None] * 1,
    }
    feeds |= {f"past_key_values.{layer}.{side}": past for layer in range(2) for side in ("key", "value")}
    key: NDArray[np.float32] = session.run(["present.0.key"], feeds)[0]
    return key[0, :, tokens - 1]


def test_the_switch_is_the_number_that_the_mask_is_compared_with(folder: Path, tmp_path: Path) -> None:
    export = Export.load(folder)
    assert (export.rope_switch_tokens, export.max_mask_tokens, export.context_tokens) == (48, 512, 512)
    assert Export.load(tiny_longrope_export(tmp_path / "other", switch_tokens=96)).rope_switch_tokens == 96


def test_a_graph_with_one_cache_has_no_switch(tmp_path: Path) -> None:
    export = Export.load(tiny_export(tmp_path / "plain"))
    assert (export.rope_switch_tokens, export.max_mask_tokens) == (None, 512)


def test_a_switch_kept_as_an_initializer_is_found(folder: Path) -> None:
    number = helper.make_tensor(SWITCH, TensorProto.INT64, [], [64])
    _edit(folder, lambda graph: _keep_as_initializer(graph, number))
    assert Export.load(folder).rope_switch_tokens == 64


def test_a_switch_kept_beside_the_graph_is_found(folder: Path) -> None:
    (folder / "switch.data").write_bytes(np.array([80], "<i8").tobytes())
    tensor = TensorProto(name=SWITCH, data_type=TensorProto.INT64, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="switch.data")
    _edit(folder, lambda graph: _keep_as_initializer(graph, tensor))
    assert Export.load(folder).rope_switch_tokens == 80


def test_a_graph_that_branches_on_something_else_is_refused(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        compare = next(node for node in graph.node if node.op_type == "Greater")
        compare.input[0] = "total_length"

    _edit(folder, change)
    with pytest.raises(ModelImportError, match="branches on something other"):
        Export.load(folder)


def test_keys_change_by_the_width_of_the_mask_alone(folder: Path) -> None:
    session = ort.InferenceSession(folder / "model.onnx")
    short = _key_of_last_token(session, 20, 48)
    assert np.array_equal(_key_of_last_token(session, 20, 30), short)
    long = _key_of_last_token(session, 20, 49)
    assert not np.array_equal(long, short)
    assert np.array_equal(_key_of_last_token(session, 20, 200), long)
