"""The model store: imports are cached by content, named safely, and whole or not there at all."""

import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from replicas import store as store_module
from replicas.errors import ModelImportError, NotFound
from replicas.gguf import Export, Progress
from replicas.store import RECORD, ModelStore, StoredModel
from tests.models import Tiny, tiny_export, tiny_gguf


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "some.gguf")


def names(store: ModelStore) -> list[str]:
    """What lies in the store's directory, hidden or not."""
    return sorted(path.name for path in store.root.iterdir())


def test_an_import_is_found_by_the_name_in_the_file(store: ModelStore, gguf: Path) -> None:
    model = store.import_gguf(gguf)
    assert (model.name, model.is_new, model.path) == ("tiny-llama", True, store.root / "tiny-llama")
    assert (model.architecture, model.context_tokens, model.license) == ("llama", 512, "apache-2.0")
    assert model.parameters == 110_272
    assert model.size_bytes == sum(file.stat().st_size for file in model.path.iterdir())
    assert store.find("tiny-llama") == store.list()[0] == as_stored(model)
    assert names(store) == ["tiny-llama"]


def test_a_file_without_a_name_is_called_after_itself(store: ModelStore, tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "My Model (Q8).gguf", Tiny(without=("general.name",)))
    assert store.import_gguf(path).name == "my-model-q8"


def test_the_same_file_again_is_not_converted(store: ModelStore, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.import_gguf(gguf, "a")
    monkeypatch.setattr("replicas.gguf.export.convert", refuse_to_convert)
    assert store.import_gguf(gguf, "a") == as_stored(first)
    assert store.import_gguf(gguf) == as_stored(first)


def test_the_same_file_under_another_name_shares_its_bytes(
    store: ModelStore, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.import_gguf(gguf, "a")
    monkeypatch.setattr("replicas.gguf.export.convert", refuse_to_convert)
    second = store.import_gguf(gguf, "b")
    assert (second.name, second.is_new, second.source_sha256) == ("b", True, first.source_sha256)
    assert (second.path / "model.onnx.data").samefile(first.path / "model.onnx.data")


def test_a_newer_converter_converts_again(store: ModelStore, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = store.import_gguf(gguf)
    (old.path / "left-over").write_text("of the old converter")
    monkeypatch.setattr(store_module, "CONVERTER_VERSION", 1000)
    assert not store.find(old.name).is_current
    new = store.import_gguf(gguf)
    assert (new.name, new.is_new, new.is_current) == (old.name, True, True)
    assert not (new.path / "left-over").exists()
    assert names(store) == [old.name]


def test_a_name_that_holds_another_model_is_refused(store: ModelStore, gguf: Path, tmp_path: Path) -> None:
    first = store.import_gguf(gguf, "a")
    other = tiny_gguf(tmp_path / "other.gguf", Tiny(seed=1))
    with pytest.raises(ModelImportError, match="the name 'a' holds another model already: choose another name"):
        store.import_gguf(other, "a")
    assert store.list() == [as_stored(first)]


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", ".hidden", "-x", "a b", "é", "x" * 101])
def test_a_name_that_is_no_name_is_refused(store: ModelStore, gguf: Path, name: str) -> None:
    with pytest.raises(ModelImportError, match="is not a model name"):
        store.import_gguf(gguf, name)
    with pytest.raises(NotFound):
        store.find(name)
    assert not store.root.exists()


def test_an_unknown_name_is_answered_with_the_nearest_and_all(store: ModelStore, gguf: Path) -> None:
    with pytest.raises(NotFound, match="there are no models yet"):
        store.find("tiny-lama")
    store.import_gguf(gguf)
    store.import_gguf(gguf, "zebra")
    with pytest.raises(NotFound, match=r"did you mean .tiny-llama.\? there are tiny-llama, zebra"):
        store.find("tiny-lama")


def test_an_export_without_a_record_is_a_model_and_rubbish_is_not(
    store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.root.mkdir()
    tiny_export(store.root / "mine")
    shutil.copytree(store.root / "mine", store.root / "broken")
    (store.root / "broken" / "genai_config.json").write_text("{")
    (store.root / "notes.txt").write_text("not a model")
    assert [(model.name, model.parameters, model.source_sha256) for model in store.list()] == [("mine", None, None)]
    assert "broken left out of the list" in caplog.text


def test_a_refused_file_leaves_nothing_behind(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match=r"tensor output_norm\.weight is missing"):
        store.import_gguf(tiny_gguf(tmp_path / "bad.gguf", Tiny(without=("output_norm.weight",))))
    assert names(store) == []


def test_ctrl_c_in_the_middle_leaves_nothing_behind(store: ModelStore, gguf: Path) -> None:
    def interrupt(stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage == "convert" and done_bytes > total_bytes // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.import_gguf(gguf, progress=interrupt)
    assert names(store) == []


def test_what_a_killed_process_left_a_day_ago_is_cleared_away(store: ModelStore, gguf: Path) -> None:
    for name in ("old", "new"):
        (store.root / f".unfinished-{name}").mkdir(parents=True)
    os.utime(store.root / ".unfinished-old", (0, 0))
    store.import_gguf(gguf)
    assert names(store) == [".unfinished-new", "tiny-llama"]


def test_progress_counts_every_byte_of_both_stages(store: ModelStore, gguf: Path) -> None:
    heard: dict[str, list[tuple[int, int]]] = {}
    store.import_gguf(gguf, progress=lambda stage, done, total: heard.setdefault(stage, []).append((done, total)))
    assert list(heard) == ["hash", "convert"]
    for steps in heard.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1] > 0


def test_two_processes_importing_at_once_both_get_the_model(store: ModelStore, gguf: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    found = context.SimpleQueue()
    workers = [context.Process(target=import_at_barrier, args=(store, gguf, barrier, found)) for _ in range(2)]
    for worker in workers:
        worker.start()
    models: list[StoredModel] = [found.get() for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(model.is_new for model in models) == [False, True]
    assert {model.source_sha256 for model in models} == {store.find("tiny-llama").source_sha256}
    assert names(store) == ["tiny-llama"]


def test_the_record_says_where_the_model_comes_from(store: ModelStore, gguf: Path) -> None:
    model = store.import_gguf(gguf)
    record = json.loads((model.path / RECORD).read_text())
    assert record["source_sha256"] == model.source_sha256
    assert record["license"] == "apache-2.0"


def as_stored(model: StoredModel) -> StoredModel:
    """The same model once it is no news."""
    return replace(model, is_new=False)


def refuse_to_convert(path: Path, directory: Path, progress: Progress) -> Export:
    raise AssertionError("converted although it was there")


def import_at_barrier(
    store: ModelStore, gguf: Path, barrier: Barrier, found: "multiprocessing.SimpleQueue[StoredModel]"
) -> None:
    """Import, but begin to convert only when the other process does too."""
    is_waiting = True

    def wait(stage: str, done_bytes: int, total_bytes: int) -> None:
        nonlocal is_waiting
        if stage == "convert" and is_waiting:
            is_waiting = False
            barrier.wait(60)

    found.put(store.import_gguf(gguf, progress=wait))
