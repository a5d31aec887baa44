"""The documents as tests read them: the guides that users follow, and every Markdown file that is kept."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [
    *GUIDES,
    ROOT / "CHANGELOG.md",
    ROOT / "k8s" / "README.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]


FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    """The fenced blocks of all guides in `language`."""
    found = [block for path in GUIDES for block in FENCE.findall(path.read_text("utf-8"))]
    return [body for said, body in found if said == language]


def prose(document: Path) -> str:
    """`document` without its fenced blocks, in which a `#` begins no heading."""
    return FENCE.sub("", document.read_text("utf-8"))


def chapter(document: str, heading: str) -> str:
    """What stands in `document` below `heading`, such as `## Metrics`, up to the next one that is as high or higher."""
    depth = heading.index(" ")
    below = f"\n{prose(ROOT / document)}".split(f"\n{heading}\n")[1]
    return re.split(rf"^#{{1,{depth}}} ", below, flags=re.MULTILINE)[0]
