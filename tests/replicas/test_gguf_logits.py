"""The export computes what the GGUF file says: its logits against a numpy forward pass of the dequantized weights.

Run with float kernels (accuracy_level 1) an export must agree with the reference to float rounding, so a wrong layout,
permutation, rotation or norm cannot hide. As shipped, kernels round activations to 8 bits, and all that can be asked is
that the distributions stay close.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from replicas.gguf.blocks import Floats
from replicas.gguf.export import export
from tests.models import TINY, Tiny, tiny_export, tiny_gguf
from tests.replicas.reference import Reference, log_softmax
from tests.replicas.session import Session

IDS = [1, *np.random.default_rng(1).integers(3, 280, 40).tolist()]
ROUNDING = 1e-3  # measured 6e-5 at most, on logits whose deviation is about 4
EXACT = ("Q8_0", "Q4_0")
BIASES = {
    f"blk.{layer}.{name}.bias": np.random.default_rng(layer).normal(0, 1, size).astype(np.float32)
    for layer in range(2)
    for name, size in (("attn_q", 64), ("attn_k", 32), ("attn_v", 32), ("attn_output", 64), ("ffn_down", 64))
}
MODELS = {
    **{kind: Tiny(kind=kind) for kind in ("Q8_0", "Q4_0", "Q4_1", "F16", "F32")},
    **{f"{kind}, tied": Tiny(kind=kind, is_tied=True) for kind in ("Q8_0", "Q4_0", "Q4_1", "F16", "F32")},
    "inputs that are no multiple of 32": Tiny(kind="F16", hidden=40, ffn=172, heads=3, kv_heads=1),
    "the same, tied": Tiny(kind="F32", hidden=40, ffn=172, is_tied=True),
    "a Q6_K output": Tiny(kind="Q4_0", hidden=256, output_kind="Q6_K"),
    "multi-head attention": Tiny(kv_heads=4),
    "one KV head": Tiny(kv_heads=1, layers=3),
    "half of a head rotated": Tiny(head_size=32, metadata={"llama.rope.dimension_count": 16}),
    "linear rotary scaling": Tiny(metadata={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}),
    "Llama 3's rotary factors": Tiny(tensors={"rope_freqs.weight": np.linspace(1, 8, 8, dtype=np.float32)}),
    "biases": Tiny(tensors=BIASES),
    "norms in half floats": Tiny(tensors={"output_norm.weight": np.full(64, 1.5, np.float16)}),
}


@dataclass(frozen=True)
class Case:
    directory: Path
    tiny: Tiny
    reference: Reference


@pytest.fixture(scope="module", params=MODELS.values(), ids=list(MODELS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    tiny: Tiny = request.param
    folder = tmp_path_factory.mktemp("model")
    source = tiny_gguf(folder / "tiny.gguf", tiny)
    export(source, folder / "export")
    return Case(folder / "export", tiny, Reference.read(source))


def test_with_float_kernels_the_logits_are_those_of_the_export_weights(case: Case) -> None:
    expected = as_exported(case.reference, case.tiny).logits(IDS)
    got = Session(case.directory, accuracy_level=1).run(IDS)
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING)


def test_decoding_with_kv_gives_the_logits_of_a_prefill(case: Case) -> None:
    expected = as_exported(case.reference, case.tiny).logits(IDS)
    session = Session(case.directory, accuracy_level=1)
    got = np.concatenate([session.run(IDS[:20]), session.run(IDS[20:30]), *(session.run([i]) for i in IDS[30:])])
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING)


def test_as_shipped_the_distributions_stay_close_to_those_of_the_file(case: Case) -> None:
    expected = case.reference.logits(IDS)
    got = Session(case.directory).run(IDS)
    logs = log_softmax(expected)
    divergence = (np.exp(logs) * (logs - log_softmax(got))).sum(-1)
    # Measured 0.045 and 0.88 at worst (Q4_1); a wrong permutation alone gives a divergence above 1. Real weights are
    # smoother than these: 0.003 on the bundled model.
    assert divergence.mean() < 0.1
    assert (got.argmax(-1) == expected.argmax(-1)).mean() > 0.75


def test_wrong_rows_in_one_head_would_be_seen(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf")
    export(source, tmp_path / "export")
    reference = Reference.read(source)
    swapped = dict(reference.weights)
    swapped["blk.1.attn_k.weight"] = np.roll(swapped["blk.1.attn_k.weight"], 1, axis=0)
    wrong = replace(reference, weights=swapped).logits(IDS)
    assert np.abs(Session(tmp_path / "export", accuracy_level=1).run(IDS) - wrong).max() > 100 * ROUNDING


def test_a_tied_embedding_is_stored_once_and_everything_can_be_mapped(tmp_path: Path) -> None:
    model = onnx.load(tiny_export(tmp_path / "tied", Tiny(is_tied=True)) / "model.onnx", load_external_data=False)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.external_data
    }
    assert places["token_embd.weight"] == places["token_embd.weight.blocks"]
    assert [name for name, place in places.items() if int(place["offset"]) % 4096] == []


@pytest.mark.parametrize("tiny", [Tiny(kind="Q4_0", is_tied=True), Tiny(kind="F16"), Tiny(kind="F32", ffn=172)])
def test_made_in_small_pieces_an_export_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Tiny
) -> None:
    whole = tiny_export(tmp_path / "whole", tiny)
    monkeypatch.setattr("replicas.gguf.weights.PIECE_WEIGHTS", 700)
    monkeypatch.setattr("replicas.gguf.rotary.PIECE_TOKENS", 100)
    pieces = tiny_export(tmp_path / "pieces", tiny)
    for file in whole.iterdir():
        assert (pieces / file.name).read_bytes() == file.read_bytes()


def test_greedy_output_of_the_tiny_model_is_varied(tmp_path: Path) -> None:
    export(tiny_gguf(tmp_path / "tiny.gguf", TINY), tmp_path / "export")
    for prompt in ([1, 50, 60], [7, 8, 9, 10]):
        assert len(set(Session(tmp_path / "export").greedy(prompt, 100))) > 40


def as_exported(reference: Reference, tiny: Tiny) -> Reference:
    """The reference with the weights that the importer cuts to 8 bits cut by the formula: nearest of 127 steps."""
    weights = dict(reference.weights)
    for name, values in weights.items():
        kind = tiny.output_kind if name == "output.weight" and tiny.output_kind else tiny.kind
        if values.ndim == 2 and kind not in EXACT and values.shape[1] % 32 == 0:
            weights[name] = _cut(values)
    return replace(reference, weights=weights)


def _cut(values: Floats) -> Floats:
    blocks = values.reshape(-1, 32)
    steps = np.abs(blocks).max(-1, keepdims=True) / 127
    cut: Floats = (np.round(blocks / steps) * steps).reshape(values.shape)
    return cut
