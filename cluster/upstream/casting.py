"""Which answer and which fault a request gets: the first entry of the script that matches. Counts are kept here."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from cluster.upstream.asked import Asked
from cluster.upstream.chance import drawn
from cluster.upstream.script import AnswerEntry, Entry, Fault, FaultEntry, Script, When


@dataclass(frozen=True, slots=True)
class Scene:
    """What entries are matched against. `is_inference`: a message or a chat completion, not a token count."""

    path: str
    is_inference: bool
    headers: Mapping[str, str]
    asked: Asked


_E = TypeVar("_E", bound=Entry)


class Casting:
    """Picks entries of one script. Not for several threads."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._seen: Counter[str] = Counter()

    def answer(self, scene: Scene) -> AnswerEntry | None:
        """The answer of the script, or None: the default."""
        return self._first("answers", self._script.answers, scene)

    def fault(self, scene: Scene) -> Fault | None:
        """The fault of the script, or None."""
        return self._first("faults", self._script.faults, scene)

    def _first(self, group: str, entries: Sequence[_E], scene: Scene) -> _E | None:
        for at, entry in enumerate(entries):
            if matches(entry.when, scene) and self._is_due(f"{group}.{at}", entry):
                return entry
        return None

    def _is_due(self, name: str, entry: Entry) -> bool:
        self._seen[name] += 1
        tried = self._seen[name]
        if isinstance(entry, FaultEntry) and drawn(self._script.seed, name, tried) >= entry.probability:
            return False
        name = f"{name} drawn"
        self._seen[name] += 1
        past = self._seen[name] - entry.skip
        return past > 0 and (entry.times is None or past <= entry.times)


def matches(when: When, scene: Scene) -> bool:
    """Whether all that `when` asks for holds."""
    asked = scene.asked
    facts: tuple[tuple[object, object], ...] = (
        (when.dialect, asked.dialect),
        (when.has_tools, bool(asked.tools)),
        (when.is_stream, asked.is_stream),
        (when.is_after_tool, asked.is_after_tool),
    )
    return (
        all(wanted is None or wanted == is_so for wanted, is_so in facts)
        and _is_path(when.path, scene)
        and (when.model is None or fnmatchcase(asked.model, when.model))
        and all(fnmatchcase(scene.headers.get(name.lower(), ""), value) for name, value in when.headers.items())
        and (when.contains is None or when.contains in asked.question)
        and (when.pattern is None or re.search(when.pattern, asked.prompt) is not None)
    )


def _is_path(path: str | None, scene: Scene) -> bool:
    return scene.is_inference if path is None else fnmatchcase(scene.path, path)
