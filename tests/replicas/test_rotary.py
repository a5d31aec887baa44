"""Rotary caches as long as a slot give the same bits as those of the whole context."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from replicas.export import Export
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.forward import Forward
from replicas.slot.model.rotary import shorten_caches
from replicas.slot.place import CPU
from replicas.slot.request.lane import Lane
from replicas.slot.start.providers import open_session
from tests.models import tiny_export, tiny_longrope_export

MAX_LEN = 64
TOKENS = tuple(range(40, 60))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return Export.load(tiny_longrope_export(tmp_path_factory.mktemp("m") / "tiny", switch_tokens=48))


def _logits(export: Export, max_len: int | None, lane: Lane) -> NDArray[np.float32]:
    session = open_session(export, CPU, 1, is_spinning=False, max_len=max_len)
    forward = Forward(session, export, KvSlab(export, 1, MAX_LEN, CPU), 1, MAX_LEN)
    forward.prefill(0, TOKENS, 0, lane)
    return forward.decode(0, (7,), (len(TOKENS),), lane).copy()


@pytest.mark.parametrize("is_long", [False, True])
def test_logits_do_not_change_by_a_bit(export: Export, is_long: bool) -> None:
    lane = Lane(is_long=is_long)
    assert np.array_equal(_logits(export, MAX_LEN, lane), _logits(export, None, lane))


def test_only_the_longer_cache_is_cut(export: Export) -> None:
    graph = onnx.load(export.model_file, load_external_data=False).graph
    shorten_caches(graph, MAX_LEN)
    branches = [attribute.g for node in graph.node if node.op_type == "If" for attribute in node.attribute]
    rows = {value.name: value.type.tensor_type.shape.dim[0].dim_value for branch in branches for value in branch.output}
    assert rows == {"cos_cache_large": 64, "sin_cache_large": 64, "cos_cache_small": 48, "sin_cache_small": 48}
    assert {node.attribute[0].t.dims[0] for branch in branches for node in branch.node} == {48, 64}


def test_a_graph_without_branches_stays_as_it_is(tmp_path: Path) -> None:
    model_file = Export.load(tiny_export(tmp_path / "plain")).model_file
    graph = onnx.load(model_file, load_external_data=False).graph
    before = graph.SerializeToString()
    shorten_caches(graph, MAX_LEN)
    assert graph.SerializeToString() == before
