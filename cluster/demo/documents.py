"""What the demo reads: text files of a folder, or this repository's own documents, cut into passages for agents.

A folder with fewer files than agents has its longest files cut into parts until there are enough. Text is stripped of
markup first and each agent gets the beginning of its part: a small model does better on a short, plain passage, and
the whole run stays within a minute on two cores.
"""

import ast
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from replicas.errors import InvalidRequest

AGENTS_MIN = 8
AGENTS_MAX = 12
PASSAGE_CHARS = 800  # about 220 tokens
PASSAGE_CHARS_LEAST = 40  # below this there is nothing to sum up
FILE_BYTES_MAX = 256 * 1024  # of a file is read
ENTRIES_MAX = 5000  # of a folder are looked at
PROSE = {".md", ".txt", ".rst", ".adoc", ".org", ".tex"}  # before code and data, if there are more files than agents
PACKAGES = ("replicas", "router", "deployments", "cluster")

_MARKUP = re.compile(r"^```.*?^```|^ *\|[-| :]+\|$|<!--.*?-->|[*`#>|]+", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """A document, without markup."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What one agent reads: `text` is the beginning of `chars` characters under `name`."""

    name: str
    text: str
    chars: int


def plain(text: str) -> str:
    """`text` without Markdown's marks, on one line."""
    return " ".join(_MARKUP.sub(" ", text).split())


def folder_sources(folder: Path) -> list[Source]:
    """The text files under `folder`: prose first, then by path. Raises InvalidRequest if there are none."""
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a folder: give one that holds text files")
    found = itertools.islice(_files(folder), ENTRIES_MAX)
    ordered = sorted(found, key=lambda path: (path.suffix.lower() not in PROSE, path))
    read = (Source(str(path.relative_to(folder)), text) for path in ordered if (text := _read(path)))
    sources = list(itertools.islice(read, AGENTS_MAX))
    if not sources:
        raise InvalidRequest(f"{folder} holds no text files (UTF-8, not empty, not hidden): give another folder")
    return sources


def repository_sources(root: Path) -> list[Source]:
    """Shoal's own documents: Markdown files, and the module docstrings of each package."""
    markdown = [root / "README.md", *sorted((root / "docs").rglob("*.md")), root / "CHANGELOG.md"]
    files = [Source(str(path.relative_to(root)), text) for path in markdown if path.is_file() and (text := _read(path))]
    modules = [Source(f"{name}/*.py (docstrings)", plain(_docstrings(root / name))) for name in PACKAGES]
    kept = files[: AGENTS_MAX - len(modules)]
    return [*kept, *(source for source in modules if source.text)]


def passages(sources: Iterable[Source]) -> list[Passage]:
    """One for each agent. Raises InvalidRequest if there is too little text for AGENTS_MIN of them."""
    documents = list(sources)
    parts = [1] * len(documents)
    while sum(parts) < AGENTS_MIN:
        longest = max(range(len(parts)), key=lambda place: len(documents[place].text) / parts[place])
        parts[longest] += 1
        if len(documents[longest].text) / parts[longest] < PASSAGE_CHARS_LEAST:
            least = AGENTS_MIN * PASSAGE_CHARS_LEAST
            raise InvalidRequest(f"too little text for {AGENTS_MIN} agents: give at least {least} characters")
    return [passage for document, count in zip(documents, parts, strict=True) for passage in _passages(document, count)]


def _passages(document: Source, count: int) -> Iterator[Passage]:
    ends = [0]
    for part in range(1, count):
        ends.append(_boundary(document.text, ends[-1], len(document.text) * part // count))
    ends.append(len(document.text))
    for part, (start, end) in enumerate(itertools.pairwise(ends), 1):
        name = document.name if count == 1 else f"{document.name}, part {part} of {count}"
        stop = end if end - start <= PASSAGE_CHARS else _boundary(document.text, start, start + PASSAGE_CHARS)
        yield Passage(name, document.text[start:stop].strip(), end - start)


def _boundary(text: str, start: int, end: int) -> int:
    """The last place in the second half of `text[start:end]` where a sentence, or else a word, ends."""
    half = (start + end) // 2
    for mark in (". ", " "):
        found = text.rfind(mark, half, end)
        if found >= 0:
            return found + len(mark)
    return end


def _files(folder: Path) -> Iterator[Path]:
    """Every regular file under `folder` that is not hidden; links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _read(path: Path) -> str:
    """The text of a file, "" if it is binary or cannot be read."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX)
        # A character that the bound cut in two is no sign of a binary file.
        text = raw.decode("utf-8", errors="ignore" if len(raw) == FILE_BYTES_MAX else "strict")
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if "\0" in text else plain(text)


def _docstrings(package: Path) -> str:
    texts = [ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in sorted(package.glob("*.py"))]
    return "\n".join(text for text in texts if text)
