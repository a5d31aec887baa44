"""The adapters beside a model: what is listed, and how the one that this package ships gets there and stays."""

from pathlib import Path

import pytest

from replicas import adapters as adapters_module
from replicas.adapters import adapters_of, install_shipped, keep_adapters
from replicas.export import Export
from replicas.lora import LoraWeights
from replicas.tools.layout import adapter_layout
from tests.models import bundled_export
from tests.replicas.peft import random_pairs, write_peft


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The directory of a model that has no adapters yet."""
    directory = tmp_path / "models" / "some"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small stand-in for the adapter of this package."""
    folder = write_peft(tmp_path / "tools", random_pairs())
    (folder / "adapter.json").write_text('{"purpose": "tools", "format": "chatml", "release": 2}')
    monkeypatch.setattr(adapters_module, "_SHIPPED", folder)
    return folder


def _own(model: Path, about: str | None = None) -> Path:
    """Somebody's adapter under the name of the shipped one."""
    folder = model / "adapters" / "tools"
    folder.parent.mkdir()
    write_peft(folder, random_pairs(seed=9))
    if about is not None:
        (folder / "adapter.json").write_text(about)
    return folder


def _weights(model: Path) -> bytes:
    return (model / "adapters" / "tools" / "adapter_model.safetensors").read_bytes()


def test_a_model_without_adapters_lists_none(model: Path) -> None:
    assert adapters_of(model) == ()


def test_an_installed_adapter_is_listed_with_its_purpose(model: Path, shipped: Path) -> None:
    install_shipped(model)
    [adapter] = adapters_of(model)
    assert (adapter.name, adapter.purpose, adapter.format) == ("tools", "tools", "chatml")
    assert (adapter.path, adapter.size_bytes) == (model / "adapters" / "tools", _size(shipped))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_a_folder_of_peft_is_an_adapter_and_others_are_not(model: Path) -> None:
    (model / "adapters" / "notes").mkdir(parents=True)
    write_peft(model / "adapters" / "mine", random_pairs())
    write_peft(model / "adapters" / "broken", random_pairs())
    (model / "adapters" / "broken" / "adapter.json").write_text('{"purpose": 5}')
    [adapter] = adapters_of(model)
    assert (adapter.name, adapter.purpose, adapter.format) == ("mine", None, None)


@pytest.mark.parametrize("about", [None, "{}", '{"purpose": "tools", "format": "chatml"}', '{"release": 2}'])
def test_what_is_there_stays(model: Path, shipped: Path, about: str | None) -> None:
    own = (_own(model, about) / "adapter_model.safetensors").read_bytes()
    install_shipped(model)
    assert _weights(model) == own


def test_an_older_release_is_replaced(model: Path, shipped: Path) -> None:
    _own(model, '{"release": 1}')
    install_shipped(model)
    assert _weights(model) == (shipped / "adapter_model.safetensors").read_bytes()
    assert [path.name for path in (model / "adapters").iterdir()] == ["tools"]


def test_a_store_that_cannot_be_written_goes_without(
    tmp_path: Path, shipped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "adapters").write_text("a file where a folder would go")
    install_shipped(tmp_path)
    assert "cannot be put beside the model" in caplog.text


def test_a_newer_export_keeps_the_adapters(model: Path, tmp_path: Path) -> None:
    own = (_own(model) / "adapter_model.safetensors").read_bytes()
    (tmp_path / "new").mkdir()
    keep_adapters(model, tmp_path / "new")
    assert _weights(tmp_path / "new") == own


def test_the_shipped_adapter_fits_the_bundled_model_and_its_layout_is_known(tmp_path: Path) -> None:
    install_shipped(tmp_path)
    [adapter] = adapters_of(tmp_path)
    weights = LoraWeights.read(adapter.path, Export.load(bundled_export()))
    assert sum(array.nbytes for array in weights.arrays.values()) == 4 * 4_884_480
    assert adapter.format is not None
    assert adapter_layout(adapter.format, {})
