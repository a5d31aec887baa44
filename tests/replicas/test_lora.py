"""LoRA adapters: read from PEFT's files, fitted to a graph, and computing what merged weights compute."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from replicas.errors import InvalidRequest, ModelImportError, NotFound
from replicas.export import Export
from replicas.gguf.export import export as export_gguf
from replicas.lora import LoraWeights, Projection, add_lora, find_projections
from replicas.lora.peft import Factors, PeftAdapter, read_peft
from replicas.slot.model.forward import Forward
from replicas.slot.request.lane import Lane
from tests.models import TINY, tiny_gguf
from tests.replicas.engines import tiny
from tests.replicas.passes import opened
from tests.replicas.peft import MODULES, merged, random_pairs, write_peft
from tests.replicas.reference import Reference
from tests.replicas.session import Session

IDS = [1, *np.random.default_rng(1).integers(3, 280, 20).tolist()]
KV_WIDTH = TINY.kv_heads * TINY.head_size
Break = Callable[[Path], object]


@pytest.fixture(scope="module")
def forward() -> Iterator[Forward]:
    forward = opened(tiny())
    yield forward
    forward.close()


def _graph() -> onnx.GraphProto:
    return onnx.load(tiny().model_file, load_external_data=False).graph


@pytest.mark.parametrize("modules", [MODULES, ("q_proj",), ("k_proj", "down_proj")])
def test_an_adapter_computes_what_its_merged_weights_compute(tmp_path: Path, modules: tuple[str, ...]) -> None:
    source, pairs = tiny_gguf(tmp_path / "tiny.gguf"), random_pairs(modules=modules)
    export_gguf(source, tmp_path / "export")
    Session(tmp_path / "export", accuracy_level=1)  # writes the graph whose kernels multiply floats
    exact = replace(Export.load(tmp_path / "export"), model_file=tmp_path / "export" / "model-1.onnx")
    expected = merged(Reference.read(source), TINY, pairs, scale=2.0).logits(IDS)
    forward = opened(exact)
    forward.add_adapter("one", LoraWeights.read(write_peft(tmp_path / "adapter", pairs), exact))
    lane = Lane("one")
    got = [
        *forward.verify(0, IDS[:10], 0, lane).copy(),
        *(forward.decode(0, [IDS[n]], [n], lane)[0].copy() for n in range(10, 20)),
    ]
    np.testing.assert_allclose(got, expected[:20], rtol=0, atol=1e-3)
    assert np.abs(forward.prefill(0, IDS, 0)[0] - expected[20]).max() > 0.1


def test_adapters_come_and_go_and_the_bare_model_stays(forward: Forward, tmp_path: Path) -> None:
    bare = forward.prefill(0, IDS, 0).copy()
    weights = [LoraWeights.read(write_peft(tmp_path / str(seed), random_pairs(seed=seed)), tiny()) for seed in (1, 2)]
    forward.add_adapter("one", weights[0])
    forward.add_adapter("two", weights[1])
    one, two = (forward.prefill(0, IDS, 0, Lane(name)).copy() for name in ("one", "two"))
    assert forward.adapters == ("one", "two")
    assert len({bare.tobytes(), one.tobytes(), two.tobytes()}) == 3
    forward.remove_adapter("one")
    forward.add_adapter("one", weights[1])
    assert np.array_equal(forward.prefill(0, IDS, 0, Lane("one")), two)
    assert np.array_equal(forward.prefill(0, IDS, 0), bare)
    forward.remove_adapter("one")
    forward.remove_adapter("two")


def test_a_name_is_loaded_once_and_must_be_loaded(forward: Forward, tmp_path: Path) -> None:
    weights = LoraWeights.read(write_peft(tmp_path / "adapter", random_pairs()), tiny())
    with pytest.raises(NotFound, match="adapter 'one' does not exist: loaded: none"):
        forward.prefill(0, IDS, 0, Lane("one"))
    forward.add_adapter("one", weights)
    with pytest.raises(InvalidRequest, match="loaded already"):
        forward.add_adapter("one", weights)
    forward.remove_adapter("one")
    with pytest.raises(NotFound, match="adapter 'one'"):
        forward.remove_adapter("one")


@pytest.mark.parametrize(("element", "bits"), [("F32", 23), ("F16", 10), ("BF16", 7)])
def test_every_float_that_peft_saves_is_read(tmp_path: Path, element: str, bits: int) -> None:
    pairs = random_pairs(modules=("q_proj",))
    read = read_peft(write_peft(tmp_path / "adapter", pairs, element, {"lora_alpha": 4})).modules[1, "q_proj"]
    a, b = pairs["base_model.model.model.layers.1.self_attn.q_proj"]
    np.testing.assert_allclose(read.a, a, rtol=2.0**-bits, atol=1e-7)
    np.testing.assert_allclose(read.b, b, rtol=2.0**-bits, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "scale"), [({"lora_alpha": 8}, 2.0), ({"lora_alpha": 8, "use_rslora": True}, 4.0)]
)
def test_the_scale_is_in_b(tmp_path: Path, settings: dict[str, object], scale: float) -> None:
    pairs = random_pairs(modules=("q_proj",))
    read = read_peft(write_peft(tmp_path / "adapter", pairs, settings=settings)).modules[0, "q_proj"]
    assert np.array_equal(read.b, scale * pairs["base_model.model.model.layers.0.self_attn.q_proj"][1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type: Input should be 'LORA'"),
        ({"r": 0}, "r: Input should be greater than 0"),
        ({"r": 5}, r"layer 0, down_proj: lora_A \[4, 128\], lora_B \[64, 4\] are not of rank 5"),
        ({"bias": "all"}, "bias: Input should be 'none'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_alpha": float("nan")}, "lora_alpha: Input should be a finite number"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights"),
        ({"lora_bias": True}, "lora_bias"),
        ({"use_qalora": True}, "use_qalora"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "target_parameters"),
        ({"kasa_config": {"beta": 1.0}}, "kasa_config"),
    ],
)
def test_other_arithmetic_than_plain_lora_is_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    folder = write_peft(tmp_path / "adapter", random_pairs(), settings=settings)
    with pytest.raises(ModelImportError, match=message):
        read_peft(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": False, "layers_to_transform": None, "loftq_config": {}, "peft_version": "0.21.2"},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.1, "target_parameters": None, "qalora_group_size": 16},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}, "alora_invocation_tokens": None},
    ],
)
def test_what_only_training_needs_is_let_be(tmp_path: Path, settings: dict[str, object]) -> None:
    assert read_peft(write_peft(tmp_path / "adapter", random_pairs(), settings=settings)).modules


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "an adapter is a folder with that file"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "adapter_config.json: it: Invalid JSON"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "safetensors cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 20), "is not a safetensors file"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, damage: Break, message: str) -> None:
    folder = write_peft(tmp_path / "adapter", random_pairs())
    damage(folder)
    with pytest.raises(ModelImportError, match=message):
        read_peft(folder)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("model.lm_head", (64, 64), "which is not LoRA of a layer's projection"),
        (
            "model.layers.0.self_attn.z_proj",
            (64, 64),
            "targets layer 0, z_proj, which this model's graph does not have",
        ),
        ("model.layers.7.mlp.up_proj", (128, 64), "targets layer 7, up_proj"),
        ("model.layers.0.mlp.up_proj", (96, 64), "maps 64 numbers to 96, in this model 64 to 128"),
    ],
)
def test_an_adapter_of_another_model_is_refused(tmp_path: Path, key: str, shape: tuple[int, int], message: str) -> None:
    pair = (np.ones((4, shape[1]), np.float32), np.ones((shape[0], 4), np.float32))
    with pytest.raises(ModelImportError, match=message):
        LoraWeights.read(write_peft(tmp_path / "adapter", {key: pair}), tiny())


def test_numbers_of_another_kind_are_refused(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "adapter", random_pairs(), "F64")
    with pytest.raises(ModelImportError, match="is F64; save the adapter as F16, BF16 or F32"):
        read_peft(folder)


def test_all_projections_of_an_export_are_found() -> None:
    found = find_projections(_graph(), KV_WIDTH)
    assert [projection.parts for projection in found] == [(module,) for module in MODULES] * TINY.layers
    assert [projection.layer for projection in found] == [0] * 7 + [1] * 7


def test_names_of_the_genai_builder_are_known() -> None:
    graph = _graph()
    own = find_projections(graph, KV_WIDTH)
    places = {projection.output: projection for projection in own}
    for node in graph.node:
        if projection := places.get(node.output[0]):
            block = "mlp" if projection.parts[0] in MODULES[4:] else "attn"
            node.name = f"/model/layers.{projection.layer}/{block}/{projection.parts[0]}/MatMulNBits"
    assert find_projections(graph, KV_WIDTH) == own


PACKED = Projection(0, ("q_proj", "k_proj", "v_proj"), (6, 4, 4), 8, "qkv", TensorProto.FLOAT)
APART = tuple(
    Projection(0, (part,), (width,), 8, part, TensorProto.FLOAT)
    for part, width in zip(PACKED.parts, PACKED.widths, strict=True)
)


@pytest.mark.parametrize("projections", [(PACKED,), APART], ids=["packed graph", "graph apart"])
@pytest.mark.parametrize("is_packed", [True, False], ids=["packed adapter", "adapter apart"])
def test_packed_layers_fit_either_way(projections: tuple[Projection, ...], *, is_packed: bool) -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(3, 8)).astype(np.float32), random.normal(size=(14, 3)).astype(np.float32)
    rows = {"q_proj": slice(0, 6), "k_proj": slice(6, 10), "v_proj": slice(10, 14)}
    apart = {(0, part): Factors(a.copy(), b[place]) for part, place in rows.items()}
    adapter = PeftAdapter(Path("x"), {(0, "qkv_proj"): Factors(a, b)} if is_packed else apart)
    arrays = LoraWeights.fit(adapter, projections).arrays
    got = np.concatenate([(arrays[p.a][0, 0] @ arrays[p.b][0, 0, 0]).T for p in projections])
    np.testing.assert_allclose(got, b @ a, rtol=1e-5, atol=1e-6)
    assert all(arrays[p.a].shape[-1] == (3 if is_packed or p is not PACKED else 9) for p in projections)


def test_a_packed_projection_in_half_floats_gets_its_term() -> None:
    model, found = _packed_model()
    factors = Factors(np.eye(3, 8, dtype=np.float32), np.ones((14, 3), np.float32))
    weights = LoraWeights.fit(PeftAdapter(Path("x"), {(0, "qkv_proj"): factors}), found)
    x = np.arange(16, dtype=np.float16).reshape(2, 1, 8)
    feeds = {"ids": np.ones((2, 1), np.int64), "x": x, **weights.arrays}
    got = ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    np.testing.assert_array_equal(got, np.broadcast_to(x[:, :, :3].sum(-1, keepdims=True), (2, 1, 14)))


def _packed_model() -> tuple[onnx.ModelProto, tuple[Projection, ...]]:
    """A model that is one packed projection with zeros for weights, and room for an adapter."""
    node = helper.make_node("MatMul", ["x", "w"], ["qkv"], name="/model/layers.0/attn/qkv_proj/MatMul")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", "s"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["b", "s", 8])
    qkv = helper.make_tensor_value_info("qkv", TensorProto.FLOAT16, ["b", "s", 14])
    weight = numpy_helper.from_array(np.zeros((8, 14), np.float16), "w")
    graph = helper.make_graph([node], "packed", [ids, x], [qkv], [weight])
    found = find_projections(graph, kv_width=4)
    add_lora(graph, found, "ids")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), found
