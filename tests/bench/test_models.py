"""The models that benchmarks make: the sizes they should have, and runtimes that take them."""

from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime_genai as og
import pytest
from tokenizers import Tokenizer

from bench.models.making import gguf_of, made
from bench.models.shapes import RANDOM_100M, Shape, phi4_mini
from bench.models.vocabulary import vocabulary
from replicas.errors import ModelImportError
from replicas.export import Export
from tests.models import tiny_longrope_export

SMALL = replace(RANDOM_100M, name="small", layers=2, hidden=64, heads=4, kv_heads=2, head_size=16, ffn=128, rotated=16)
SMALL_PHI = replace(phi4_mini(32), layers=2, hidden=256, heads=2, kv_heads=1, ffn=64, vocab=1024)


@pytest.fixture(scope="module", params=[SMALL, SMALL_PHI], ids=lambda shape: shape.name)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("models"), request.param)


def _generated(directory: Path, text: str, tokens: int) -> list[int]:
    model = og.Model(str(directory))
    prompt = og.Tokenizer(model).encode(text).tolist()
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(prompt) + tokens, min_length=len(prompt) + tokens)
    generator = og.Generator(model, params)
    generator.append_tokens(prompt)
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(prompt) :]]


def test_genai_generates_varied_tokens_with_a_made_model(directory: Path) -> None:
    assert len(set(_generated(directory, "the quick brown fox", 16))) > 8


def test_the_engine_takes_a_made_model(directory: Path) -> None:
    export = Export.load(directory)
    assert export.rope_switch_tokens == (32 if directory.name == SMALL_PHI.name else None)
    assert export.context_tokens == (131072 if directory.name == SMALL_PHI.name else SMALL.context_tokens)


def test_weights_are_four_bits_in_blocks_of_32(directory: Path) -> None:
    graph = onnx.load(directory / "model.onnx", load_external_data=False).graph
    kinds = {node.op_type for node in graph.node}
    assert {"MatMulNBits", "GroupQueryAttention", "GatherBlockQuantized"} <= kinds
    found = [{a.name: a.i for a in node.attribute} for node in graph.node if node.op_type == "MatMulNBits"]
    assert {(one["bits"], one["block_size"], one["accuracy_level"]) for one in found} == {(4, 32, 4)}


def test_genai_takes_the_tiny_longrope_export_across_its_switch(tmp_path: Path) -> None:
    assert len(_generated(tiny_longrope_export(tmp_path / "tiny"), "the user and the system", 60)) == 60


@pytest.mark.parametrize(("shape", "millions"), [(RANDOM_100M, 101), (phi4_mini(), 3836)])
def test_shapes_have_as_many_weights_as_their_models(shape: Shape, millions: int) -> None:
    assert round(shape.parameters / 1e6) == millions


def test_a_model_is_made_once_and_its_gguf_kept_only_if_wanted(tmp_path: Path) -> None:
    directory = made(tmp_path, SMALL)
    assert not gguf_of(directory).exists()
    made_at = (directory / "model.onnx").stat().st_mtime_ns
    assert made(tmp_path, SMALL, keeps_gguf=True) == directory
    assert gguf_of(directory).exists()
    assert (directory / "model.onnx").stat().st_mtime_ns == made_at


def test_a_model_too_large_for_the_disk_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match="free some space"):
        made(tmp_path, replace(SMALL, vocab=1 << 50))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("size", [512, 65_797, 65_798, 70_000])  # pairs end at 65,797, then come triples
def test_no_two_tokens_of_a_vocabulary_are_alike(size: int) -> None:
    tokens, merges = vocabulary(size)
    assert len(set(tokens)) == size
    assert len(merges) == len(set(merges))


def test_text_survives_its_tokens(directory: Path) -> None:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    text = "Grüße, the herring swims at 7:45."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
