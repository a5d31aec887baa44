"""A directory that appears whole or not at all.

It is filled under a hidden name beside its destination, in the same file system, and renamed at the end. Whatever ends
the work before that, an error or Ctrl-C, takes the unfinished directory with it; what a killed process left behind goes
a day later.
"""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".unfinished-"
ABANDONED_S = 24 * 3600


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `destination` at the end of the block.

    Raises OSError when `destination` has come to exist and is not empty.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    directory = destination.parent / f"{PREFIX}{destination.name}-{secrets.token_hex(4)}"
    directory.mkdir()
    try:
        yield directory
        directory.rename(destination)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Delete what killed processes have left unfinished in `parent` for more than a day."""
    for directory in parent.glob(f"{PREFIX}*"):
        if time.time() - directory.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(directory, ignore_errors=True)
