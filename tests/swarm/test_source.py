import os
from pathlib import Path

import pytest

from cluster.swarm.source import File, load_swarm
from replicas.errors import InvalidRequest

HEAD = "agents: [{role: r, prompt: '{text}'}]\n"


def swarm_file(folder: Path, over: str) -> Path:
    path = folder / "swarm.yaml"
    path.write_text(f"{HEAD}over: {over}\n")
    return path


def test_files_are_read_relative_to_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("ä")
    spec = load_swarm(swarm_file(tmp_path, "{text: [{file: a.md}, plain]}"))
    assert spec.over == {"text": ["ä", "plain"]}


def test_a_pattern_stands_for_its_matches_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("b.md", "a.md", "c.txt"):
        (tmp_path / "docs" / name).write_text(name)
    spec = load_swarm(swarm_file(tmp_path, '{text: {files: "docs/*.md"}}'))
    assert spec.over == {"text": ["a.md", "b.md"]}


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ("{text: [{file: none.md}]}", "there is no file"),
        ("{text: [{file: .}]}", "is a folder"),
        ("{text: {files: '*.none'}}", "no file matches"),
        ("{text: {files: '/*'}}", "relative"),
        ("{text: [{fil: a}]}", "over.text.0: must be {file: a.md}"),
        ("{text: {file: a}}", "over.text: must be {files:"),
        ("{text: [{file: latin.md}]}", "not UTF-8 text (byte 1)"),
        ("{text: [{file: pipe}]}", "there is no file"),
        ("{text: one}", "over.text"),
        ("{text: [", "is not YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, over: str, words: str) -> None:
    (tmp_path / "latin.md").write_bytes(b"a\xe4")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest) as caught:
        load_swarm(swarm_file(tmp_path, over))
    assert words in str(caught.value)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_text("x" * 1_000_001)
    with pytest.raises(InvalidRequest, match="split it"):
        File(path).read()


def test_a_yaml_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- a\n")
    with pytest.raises(InvalidRequest, match="must hold a mapping"):
        load_swarm(path)


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.yaml")), ids=str)
def test_the_examples_load(path: Path) -> None:
    assert load_swarm(path).instances >= 2
