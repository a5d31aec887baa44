"""Why the application did not start, in one line: Serve tells it as a traceback of several processes.

An error of ours is in there as `replicas.errors.CLASS: words`; the last one is the cause. The traceback goes to a file
beside the instance's log.
"""

import re
from pathlib import Path

from replicas.errors import Unavailable

FILE = "failed-start.log"
_OURS = re.compile(r"^\S*replicas\.errors\.\w+: (.+)$", re.MULTILINE)
_THEIRS = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt): .+$", re.MULTILINE)


def told(words: str, place: Path) -> Unavailable:
    """The error to raise after Serve said `words`, which are written into the folder `place`."""
    place.mkdir(parents=True, exist_ok=True)
    (place / FILE).write_text(words + "\n", "utf-8")
    return Unavailable("the service", f"{reason(words)} (all of it: {place / FILE})")


def reason(words: str) -> str:
    """The line of `words` that says why: of our own errors the last, else of any error, else the last line."""
    for kind in (_OURS, _THEIRS):
        lines = kind.findall(words)
        if lines:
            return str(lines[-1]).strip()
    return words.strip().rpartition("\n")[2]
