"""The models on this machine: one directory each, under its name, as a GenAI export with a record of its origin.

The record (shoal.json) holds the hash of the file that a model was imported from and the converter's version, so
importing the same file again costs one reading of it, and a newer converter converts again. A model's directory appears
by a rename: two processes may import at once, the first to finish wins and the other takes its result. A GenAI export
that someone has put here without a record is a model too.
"""

import difflib
import hashlib
import logging
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from replicas.adapters import FOLDER, keep_adapters
from replicas.errors import ModelImportError, NotFound
from replicas.gguf import CONVERTER_VERSION, Progress, unheard
from replicas.gguf.staging import PREFIX, remove_abandoned, staged

RECORD = "shoal.json"
CONFIG = "genai_config.json"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
HASH_PIECE_BYTES = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in the store; `path` is its directory. Fields are None where nothing on disk says.

    `is_new` is true only on what an import has just converted, false on what was there already.
    """

    name: str
    path: Path
    size_bytes: int
    architecture: str
    context_tokens: int
    parameters: int | None = None
    license: str | None = None
    source_sha256: str | None = None
    is_current: bool = True
    is_new: bool = False


class Record(BaseModel):
    """The content of shoal.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_sha256: str
    converter: int
    parameters: int
    license: str | None


class _Decoder(BaseModel):
    type: str
    context_length: int


class _Config(BaseModel):
    """As much of genai_config.json as the store shows."""

    model: _Decoder


class ModelStore:
    """The models under `root`, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self) -> list[StoredModel]:
        """Every model, by name. A directory that cannot be read is logged and left out."""
        if not self.root.is_dir():
            return []
        found = (self._load(directory) for directory in sorted(self.root.iterdir()))
        return [model for model in found if model is not None]

    def find(self, name: str) -> StoredModel:
        """The model called `name`. Raises NotFound with the nearest name and all there are."""
        model = self._load(self.root / name) if NAME.fullmatch(name) else None
        if model is None:
            raise NotFound("model", name, _hint(name, [stored.name for stored in self.list()]))
        return model

    def import_gguf(self, path: Path, name: str | None = None, progress: Progress = unheard) -> StoredModel:
        """Convert the GGUF file `path` unless that is done already. Raises ModelImportError.

        Without `name` the model takes the one in the file's metadata, or of the file. A name that holds another model
        is refused, not replaced.
        """
        # Here and below: only an import needs the converter's libraries, and every replica has a store.
        from replicas.gguf.header import read_header

        title = read_header(path).metadata.text("general.name", "")
        if name is not None and not NAME.fullmatch(name):
            raise ModelImportError(
                str(path), f"{name!r} is not a model name: lower-case letters, digits, '.', '_', '-'"
            )
        remove_abandoned(self.root)
        sha256 = _sha256(path, progress)
        twins = [model for model in self.list() if model.source_sha256 == sha256 and model.is_current]
        wanted = name or (twins[0].name if twins else default_name(title or path.stem))
        stored = next((model for model in twins if model.name == wanted), None)
        if stored is not None:
            return stored
        is_replacing = self._check_free(path, wanted, sha256)
        try:
            with staged(self.root / wanted, is_replacing) as directory:
                _fill(path, directory, sha256, twins, progress)
                if is_replacing:
                    keep_adapters(self.root / wanted, directory)
        except OSError as error:
            return self._winner(path, wanted, sha256, error)
        return replace(self.find(wanted), is_new=True)

    def _check_free(self, path: Path, name: str, sha256: str) -> bool:
        """Whether `name` holds this same file's export by an older converter; refuses when it holds anything else."""
        if not (self.root / name).exists():
            return False
        there = self._load(self.root / name)
        if there is None or there.source_sha256 != sha256:
            fix = f"choose another name, or delete {self.root / name}"
            raise ModelImportError(str(path), f"the name {name!r} holds another model already: {fix}")
        return True

    def _winner(self, path: Path, name: str, sha256: str, error: OSError) -> StoredModel:
        """What another process has imported under `name` in the meantime, if it is the same."""
        there = self._load(self.root / name) if (self.root / name).is_dir() else None
        if there is None or there.source_sha256 != sha256 or not there.is_current:
            reason = f"its export cannot be put into {self.root} ({error.strerror or error})"
            raise ModelImportError(str(path), reason) from error
        return there

    def _load(self, directory: Path) -> StoredModel | None:
        if directory.name.startswith(PREFIX) or not (directory / CONFIG).is_file():
            return None
        try:
            config = _Config.model_validate_json((directory / CONFIG).read_bytes()).model
            record = _record(directory)
            size_bytes = sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
        except (OSError, ValidationError) as error:
            logger.warning("model %s left out of the list: %s", directory, error)
            return None
        model = StoredModel(directory.name, directory, size_bytes, config.type, config.context_length)
        if record is None:
            return model
        return replace(
            model,
            parameters=record.parameters,
            license=record.license,
            source_sha256=record.source_sha256,
            is_current=record.converter == CONVERTER_VERSION,
        )


def default_name(title: str) -> str:
    """A model name from a model's or a file's title."""
    return re.sub(r"[^a-z0-9._]+", "-", title.lower()).strip("-._")[:100] or "model"


def _fill(path: Path, directory: Path, sha256: str, twins: list[StoredModel], progress: Progress) -> None:
    """Put the export into `directory`: linked from a model of the same file if there is one, or converted."""
    from replicas.gguf.export import convert

    if twins:
        others = shutil.ignore_patterns(FOLDER)
        shutil.copytree(twins[0].path, directory, copy_function=_link, ignore=others, dirs_exist_ok=True)
        return
    made = convert(path, directory, progress)
    record = Record(source_sha256=sha256, converter=CONVERTER_VERSION, parameters=made.parameters, license=made.license)
    (directory / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _link(source: str, destination: str) -> str:
    """A second name for the same bytes, or a copy where the file system has no such thing."""
    try:
        Path(destination).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, destination)
    return destination


def _record(directory: Path) -> Record | None:
    file = directory / RECORD
    return Record.model_validate_json(file.read_bytes()) if file.is_file() else None


def _hint(name: str, names: list[str]) -> str:
    if not names:
        return "there are no models yet; import one with `shoal models import FILE.gguf`"
    nearest = difflib.get_close_matches(name, names, 1)
    return (f"did you mean {nearest[0]!r}? " if nearest else "") + f"there are {', '.join(names)}"


def _sha256(path: Path, progress: Progress) -> str:
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as stream:
        while piece := stream.read(HASH_PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            progress("hash", done, total)
    return digest.hexdigest()
