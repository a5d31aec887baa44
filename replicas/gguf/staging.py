"""A directory that appears whole or not at all.

It is filled under a hidden name beside its destination, in the same file system, and renamed at the end. Whatever ends
the work before that, an error or Ctrl-C, takes the unfinished directory with it; what a killed process left behind goes
a day later.
"""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".unfinished-"
ABANDONED_S = 24 * 3600


@contextmanager
def staged(destination: Path, is_replacing: bool = False) -> Iterator[Path]:
    """Yield an empty directory that becomes `destination` at the end of the block.

    With `is_replacing` what is there now makes way; processes that have its files open keep them. Otherwise raises
    OSError when `destination` has come to exist and is not empty.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    directory, old = _hidden(destination), _hidden(destination)
    directory.mkdir()
    try:
        yield directory
        if is_replacing:
            with suppress(FileNotFoundError):
                destination.rename(old)
        directory.rename(destination)
    finally:
        if old.exists() and not destination.exists():
            old.rename(destination)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Delete what killed processes have left unfinished in `parent` for more than a day."""
    for directory in parent.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):
            if time.time() - directory.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(directory, ignore_errors=True)


def _hidden(destination: Path) -> Path:
    return destination.parent / f"{PREFIX}{destination.name}-{secrets.token_hex(4)}"
