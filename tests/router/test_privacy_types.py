"""Privacy is held by type: nobody but the guard signs a Clearance, nobody but `release` makes a Releasable."""

import ast
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.cloud.release import Clearance, Draft, Releasable, release

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("replicas", "router", "deployments", "cluster", "bench")
MADE_BY = {"Clearance": "router/privacy/guard.py", "Releasable": "replicas/cloud/release.py"}
FORGERS = {"__new__", "__setattr__"}
COPIERS = {"replace", "copy", "deepcopy"}  # a Releasable checks itself when it is copied, a Clearance cannot


def uses(tree: ast.AST) -> Iterator[str]:
    """The guarded names that `tree` uses other than in annotations and imports."""
    notes = [getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns")]
    allowed = {id(part) for note in notes if isinstance(note, ast.AST) for part in ast.walk(note)}
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in MADE_BY and id(node) not in allowed:
            yield name
        if isinstance(node, ast.alias) and node.name in MADE_BY and node.asname not in (None, node.name):
            yield node.name


def forgeries(source: str, path: str) -> list[str]:
    """What in a module could make a guarded value that it must not make."""
    tree = ast.parse(source)
    found = [name for name in uses(tree) if MADE_BY[name] != path]
    if path in MADE_BY.values():
        return found
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {
        f.attr if isinstance(f, ast.Attribute) else f.id for f in called if isinstance(f, ast.Attribute | ast.Name)
    }
    if "learance" in source:
        found += names & (FORGERS | COPIERS)
    elif "Releasable" in source:
        found += names & FORGERS
    return found


def test_only_the_guard_and_release_make_what_lets_a_request_out() -> None:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 100
    told = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}
    assert {path: found for path, text in told.items() if (found := forgeries(text, path))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from replicas.cloud.release import Clearance\nx = Clearance('a', 'b')",
        "from replicas.cloud import release\nx = release.Releasable(d, c)",
        "from replicas.cloud.release import Clearance as C\nx = C('a', 'b')",
        "from replicas.cloud.release import Clearance\nmake = Clearance",
        "from dataclasses import replace\ndef f(x: object) -> object:\n    return replace(x.clearance, digest='1')",
        "def f(x: 'Releasable') -> None:\n    object.__setattr__(x, 'draft', 1)",
    ],
)
def test_a_forgery_would_be_found(source: str) -> None:
    assert forgeries(source, "replicas/cloud/anthropic.py")


def test_a_client_may_name_the_type_it_takes() -> None:
    source = (
        "from replicas.cloud.release import Releasable\ndef ask(sent: Releasable) -> bytes:\n    return sent.draft.body"
    )
    assert forgeries(source, "replicas/cloud/anthropic.py") == []


def test_neither_leaves_its_process() -> None:
    draft = Draft("a", "openai", b"{}")
    releasable = release(draft, Clearance("a", draft.digest))
    assert isinstance(releasable, Releasable)
    for value in (releasable, releasable.clearance):
        with pytest.raises(TypeError, match="stays in its process"):
            pickle.dumps(value)
        with pytest.raises(TypeError, match="stays in its process"):
            copy.copy(value)
