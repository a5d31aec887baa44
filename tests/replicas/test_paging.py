"""Pages that were only read go back to the system; pages that were written stay."""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.slot.model.paging import release_pages

SIZE = 1 << 20
SMAPS = Path("/proc/self/smaps")

pytestmark = pytest.mark.skipif(not SMAPS.exists(), reason="there is no /proc/self/smaps")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights (of a model).data"
    path.write_bytes(b"w" * SIZE)
    return path


@pytest.fixture
def mapped(file: Path) -> Iterator[mmap.mmap]:
    """The file mapped as onnxruntime does it: private, readable and writable."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), SIZE, access=mmap.ACCESS_COPY) as memory:
        assert memory[::4096].count(b"w") == SIZE // 4096  # every page has been read
        yield memory


def _resident_kb(file: Path) -> int:
    """Of all maps of `file` in this process."""
    found = re.findall(rf"{re.escape(str(file))}\n.*?^Rss: +(\d+) kB", SMAPS.read_text(), re.MULTILINE | re.DOTALL)
    return sum(map(int, found))


def test_pages_that_were_only_read_are_given_back(file: Path, mapped: mmap.mmap) -> None:
    assert _resident_kb(file) == SIZE // 1024
    release_pages(file)
    assert _resident_kb(file) == 0
    assert mapped[: SIZE // 2] == b"w" * (SIZE // 2)


def test_pages_that_were_written_keep_what_they_hold(file: Path, mapped: mmap.mmap) -> None:
    mapped[5000:5003] = b"new"
    release_pages(file)
    assert mapped[4999:5004] == b"wneww"


def test_other_files_keep_their_pages(file: Path, mapped: mmap.mmap) -> None:
    release_pages(file.with_name("other.data"))
    assert _resident_kb(file) == SIZE // 1024
