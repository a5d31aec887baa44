"""The LoRA adapters that lie beside a model: `MODEL/adapters/NAME/`, each in PEFT format.

`adapter.json` is ours and may be missing: what the adapter is for, and the layout of prompts that it was trained on.
One adapter comes with this package (`tools/`, for the bundled model); it is put beside the model wherever that is made
ready, and replaced when a newer release of it comes along. A folder of that name without a `release` is somebody's
own and is left alone.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from replicas.gguf.staging import PREFIX, remove_abandoned, staged

FOLDER = "adapters"
ABOUT = "adapter.json"
TOOLS = "tools"
"""The purpose of an adapter that answers requests with tools."""
_PEFT = "adapter_config.json"
_SHIPPED = Path(__file__).parent / "tools"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter on disk; `path` is its directory.

    `purpose` is TOOLS or nothing. `format` names the layout of its prompts (replicas/tools/layout).
    `problem`: why it cannot be used, as far as somebody has looked.
    """

    name: str
    path: Path
    size_bytes: int
    purpose: str | None = None
    format: str | None = None
    problem: str | None = None


class _About(BaseModel):
    """The content of adapter.json. `release` counts up with each adapter that this package ships under the name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: str | None = None
    format: str | None = None
    release: int = 0


def adapters_of(model: Path) -> tuple[StoredAdapter, ...]:
    """The adapters of the model in the directory `model`, by name. One that cannot be read is logged and left out."""
    found = everything_of(model)
    for adapter in found:
        if adapter.problem is not None:
            _logger.warning("adapter %s left out of the list: %s", adapter.path, adapter.problem)
    return tuple(adapter for adapter in found if adapter.problem is None)


def everything_of(model: Path) -> tuple[StoredAdapter, ...]:
    """The adapters of the model in the directory `model`, by name, with those that cannot be read."""
    folder = model / FOLDER
    if not folder.is_dir():
        return ()
    found = (_load(directory) for directory in sorted(folder.iterdir()))
    return tuple(adapter for adapter in found if adapter is not None)


def install_shipped(model: Path) -> None:
    """Put the adapter of this package beside the bundled model, unless it is there. A failure is logged."""
    target = model / FOLDER / _SHIPPED.name
    try:
        if target.exists() and not 0 < _about(target).release < _about(_SHIPPED).release:
            return
        remove_abandoned(target.parent)
        with staged(target, is_replacing=target.exists()) as directory:
            shutil.copytree(_SHIPPED, directory, dirs_exist_ok=True)
    except (OSError, ValidationError) as error:
        if not target.exists():  # else another process was faster
            _logger.warning("the adapter %s cannot be put beside the model: %s", target, error)
    else:
        _logger.info("adapter installed", extra={"adapter": str(target)})


def keep_adapters(old: Path, new: Path) -> None:
    """Give the model in the directory `new` what lies beside the one in `old`. Raises OSError."""
    if (old / FOLDER).is_dir():
        shutil.copytree(old / FOLDER, new / FOLDER)


def _load(directory: Path) -> StoredAdapter | None:
    if directory.name.startswith(PREFIX) or not (directory / _PEFT).is_file():
        return None
    try:
        about = _about(directory)
        size_bytes = sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = ": ".join([ABOUT, *(str(part) for part in first["loc"]), first["msg"]])
        return StoredAdapter(directory.name, directory, 0, problem=problem)
    except OSError as error:
        return StoredAdapter(directory.name, directory, 0, problem=f"it cannot be read ({error.strerror})")
    return StoredAdapter(directory.name, directory, size_bytes, about.purpose, about.format)


def _about(directory: Path) -> _About:
    file = directory / ABOUT
    return _About.model_validate_json(file.read_bytes()) if file.is_file() else _About()
