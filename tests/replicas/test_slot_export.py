"""What cannot be driven is refused before anything is opened, with what would work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from replicas.errors import EngineFailed, ModelImportError, SettingsError
from replicas.export import CONFIG, Export
from replicas.slot import SlotConfig, SlotEngine
from tests.models import vocabulary
from tests.replicas.engines import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny().directory, tmp_path / "model"))


def _graph(folder: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model.graph)
    onnx.save(model, folder / "model.onnx")


def test_an_export_says_what_it_is(folder: Path) -> None:
    export = Export.load(folder)
    assert (export.layers, export.kv_heads, export.head_size, export.vocab) == (2, 2, 16, len(vocabulary()[0]))
    assert (export.context_tokens, export.eos_ids, export.name) == (512, (2, 0), "model")
    assert export.kv_token_bytes == 2 * 2 * 2 * 16 * 4


def test_paged_exports_are_refused(folder: Path) -> None:
    table = helper.make_tensor_value_info("block_table", TensorProto.INT32, ["batch", "blocks"])
    _graph(folder, lambda graph: graph.input.append(table))
    with pytest.raises(ModelImportError, match="paged attention"):
        Export.load(folder)


def test_an_input_that_nobody_can_give_is_refused(folder: Path) -> None:
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n"])
    _graph(folder, lambda graph: graph.input.append(image))
    with pytest.raises(ModelImportError, match="pixel_values"):
        Export.load(folder)


def test_a_kv_type_without_numpy_is_refused(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        for value in graph.input:
            if value.name.startswith("past"):
                value.type.tensor_type.elem_type = TensorProto.BFLOAT16

    _graph(folder, change)
    with pytest.raises(ModelImportError, match="bfloat16; export with float32 or float16"):
        Export.load(folder)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("num_hidden_layers",), 3, "past_key_values.2.key"),
        (("head_size",), 8, "not .batch, 2, past, 8."),
        (("filename",), "other.onnx", "other.onnx cannot be read"),
        (("head_size",), "x", "model.decoder.head_size"),
        (("inputs", "past_key_names"), "past.%s", "no %d for the layer"),
        (("outputs", "logits"), "scores", "no 'scores'"),
    ],
)
def test_a_config_that_does_not_fit_the_graph_is_refused(
    folder: Path, path: tuple[str, ...], value: object, words: str
) -> None:
    config = json.loads((folder / CONFIG).read_text())
    place = config["model"]["decoder"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelImportError, match=words):
        Export.load(folder)


@pytest.mark.parametrize(("name", "words"), [(CONFIG, "cannot be read"), ("model.onnx", "cannot be read")])
def test_a_missing_file_is_named(folder: Path, name: str, words: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelImportError, match=f"{name} {words}"):
        Export.load(folder)


def test_a_file_that_is_no_graph_is_named(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ModelImportError, match=r"model.onnx is not an ONNX graph"):
        Export.load(folder)


def test_missing_weights_fail_the_start_and_say_so(folder: Path) -> None:
    export = Export.load(folder)
    (folder / "model.onnx.data").unlink()
    with pytest.raises(EngineFailed, match="no provider can run the model; cpu: "):
        SlotEngine(export, SlotConfig(slots=1, threads=1))


@pytest.mark.parametrize("sizes", [{"slots": 0}, {"threads": 0}, {"prefill_chunk": 3}, {"max_len": 1}])
def test_sizes_that_cannot_work_name_the_setting(sizes: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(sizes))):
        SlotConfig(**sizes)  # type: ignore[arg-type]  # fields by name
