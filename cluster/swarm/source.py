"""Files as values: read on the side of whoever submits, as UTF-8 text of bounded size.

In Python `File("a.md")` stands for the file's content; in YAML `{file: a.md}` does, and `{files: "docs/*.md"}` in place
of a whole list stands for every match in sorted order. Paths in YAML are relative to the YAML file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.swarm.spec import INSTANCES_MAX, PROMPT_CHARS_MAX, SwarmSpec, parse_swarm
from replicas.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class File:
    """The content of the file at `path`, UTF-8, read when the swarm is submitted."""

    path: str | Path

    def read(self) -> str:
        """Its text. Raises InvalidRequest that says what is wrong with the file."""
        path = Path(self.path)
        try:
            if not path.is_file():  # a pipe or a device would block or never end
                raise InvalidRequest(f"{path} is a folder, not a file" if path.is_dir() else f"there is no file {path}")
            with path.open("rb") as opened:
                raw = opened.read(PROMPT_CHARS_MAX * 4 + 1)
            text = raw.decode("utf-8")
        except OSError as error:
            raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{path} is not UTF-8 text (byte {error.start}): convert it first") from None
        if len(text) > PROMPT_CHARS_MAX:
            raise InvalidRequest(f"{path} is over {PROMPT_CHARS_MAX} characters: split it")
        return text


def load_swarm(path: Path) -> SwarmSpec:
    """The swarm in the YAML file at `path`, its files read. Raises InvalidRequest."""
    try:
        document = yaml.safe_load(File(path).read())
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"{path} must hold a mapping with `agents` (and `over`)")
    body = dict(document)
    if isinstance(body.get("over"), dict):
        body["over"] = {key: _values(value, f"over.{key}", path.parent) for key, value in body["over"].items()}
    return parse_swarm(body)


def _values(value: object, param: str, folder: Path) -> object:
    if isinstance(value, dict):
        pattern = _only(value, "files", param)
        found = sorted(match for match in folder.glob(pattern) if match.is_file())
        if not found:
            raise InvalidRequest(f"{param}: no file matches {pattern!r} in {folder}", param)
        if len(found) > INSTANCES_MAX:
            raise InvalidRequest(f"{param}: {pattern!r} matches {len(found)} files, at most {INSTANCES_MAX}", param)
        return [File(match).read() for match in found]
    if isinstance(value, list):
        return [_value(entry, f"{param}.{index}", folder) for index, entry in enumerate(value)]
    return value  # whatever it is, the specification words what is wrong with it


def _value(value: object, param: str, folder: Path) -> object:
    return File(folder / _only(value, "file", param)).read() if isinstance(value, dict) else value


def _only(value: Mapping[object, object], key: str, param: str) -> str:
    text = value.get(key)
    if len(value) != 1 or not isinstance(text, str) or not text:
        example = '{files: "docs/*.md"} or a list' if key == "files" else "{file: a.md} or text"
        raise InvalidRequest(f"{param}: must be {example}", param)
    if key == "files" and Path(text).is_absolute():
        raise InvalidRequest(f"{param}: the pattern must be relative to the YAML file", param)
    return text
