"""What the demo reads."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.demo.documents import (
    AGENTS_MAX,
    AGENTS_MIN,
    PASSAGE_CHARS,
    Source,
    folder_sources,
    passages,
    plain,
    repository_sources,
)
from replicas.errors import InvalidRequest

ROOT = Path(__file__).resolve().parents[2]
PROSE = "The tide turns twice a day. Fish know it. "


def test_markup_is_no_part_of_what_agents_read() -> None:
    text = "# Title\n\n```sh\nrm -rf\n```\n| a | b |\n|---|---|\n> quoted *words* and `code`\n<!-- hidden\n -->end"
    assert plain(text) == "Title a b quoted words and code end"


def test_a_folder_gives_its_text_files_prose_first(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.py", "z.md", "sub/b.txt"):
        (tmp_path / name).write_text(f"text of {name}")
    assert [source.name for source in folder_sources(tmp_path)] == ["sub/b.txt", "z.md", "a.py"]


def test_binary_empty_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "zeros.txt").write_bytes(b"text\0text")
    (tmp_path / "blank.md").write_text(" \n")
    (tmp_path / ".secret").write_text("hidden")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden")
    (tmp_path / "kept.md").write_text("kept")
    assert [source.name for source in folder_sources(tmp_path)] == ["kept.md"]


def test_a_long_file_that_is_cut_inside_a_character_is_still_text(tmp_path: Path) -> None:
    (tmp_path / "long.md").write_text("x" + "é" * 200_000, "utf-8")
    assert folder_sources(tmp_path)[0].text.endswith("é")


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_text_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match=name):
        folder_sources(tmp_path / name)


def test_many_files_give_no_more_than_the_most_agents(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text(PROSE)
    assert len(passages(folder_sources(tmp_path))) == AGENTS_MAX


def test_one_file_is_cut_into_parts_for_eight_agents() -> None:
    made = passages([Source("a.md", PROSE * 100)])
    assert [passage.name for passage in made] == [f"a.md, part {n} of 8" for n in range(1, 9)]
    assert all(passage.text.endswith("it.") or passage.text.endswith("day.") for passage in made)


def test_the_longest_files_are_cut_first() -> None:
    made = passages([Source("long", PROSE * 50), Source("short", PROSE * 2)])
    assert [passage.name for passage in made][-1] == "short"
    assert len(made) == AGENTS_MIN


def test_too_little_text_for_eight_agents_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least 320 characters"):
        passages([Source("note.txt", "three words only")])


@given(st.lists(st.text(st.sampled_from("ab. "), min_size=400, max_size=5000), min_size=1, max_size=12))
def test_passages_are_enough_short_and_cover_their_documents(texts: list[str]) -> None:
    sources = [Source(str(number), text) for number, text in enumerate(texts)]
    made = passages(sources)
    assert len(made) >= AGENTS_MIN
    assert all(len(passage.text) <= PASSAGE_CHARS for passage in made)
    assert sum(passage.chars for passage in made) == sum(map(len, texts))


def test_the_repository_has_documents_and_docstrings_for_every_agent() -> None:
    sources = repository_sources(ROOT)
    names = [source.name for source in sources]
    assert AGENTS_MIN <= len(sources) <= AGENTS_MAX
    assert {"README.md", "replicas/*.py (docstrings)", "cluster/*.py (docstrings)"} <= set(names)
    assert len(passages(sources)) == len(sources)
