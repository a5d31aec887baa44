"""Calibrations on disk: one JSON file each, named by a hash of what it is of, readable for people.

Losing one costs a measurement, so nothing here fails a start: what cannot be read is measured again, what cannot be
written is logged.
"""

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter, ValidationError

from replicas.slot.start.calibration import Calibration

if sys.platform != "win32":
    import fcntl

_logger = logging.getLogger(__name__)

WAIT_S = 120.0
"""For another process to have measured, which takes it seconds; opening a large model on a busy disk takes longer."""
_POLL_S = 0.1

Identity = dict[str, str | int]
"""What a calibration is of: model, processor, runtime, versions. Any difference is another one."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A calibration and what it is of."""

    of: Identity
    calibration: Calibration


_ADAPTER = TypeAdapter(Kept)


def load(folder: Path, of: Identity) -> Calibration | None:
    """The calibration of exactly `of`, None if there is none."""
    kept = _read(_file(folder, of))
    return kept.calibration if kept is not None and kept.of == of else None


def save(folder: Path, kept: Kept) -> None:
    """Keep it. Two processes may: each writes a file of its own and renames it."""
    file = _file(folder, kept.of)
    draft = file.with_suffix(f".{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(asdict(kept), indent=2) + "\n", "utf-8")
        draft.replace(file)
    except OSError as error:
        _logger.warning("the calibration cannot be kept in %s: %s", folder, error)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until nobody else on this machine is in here: two that measure at once would measure each other.

    After WAIT_S the wait is over: a process that hangs in here, or a file system that cannot lock, costs a measurement
    that is disturbed, not the start.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError:
        yield  # what is measured cannot be kept there either
        return
    with lock:
        if sys.platform != "win32" and not _is_locked(lock, time.monotonic() + WAIT_S):
            _logger.warning("%s is locked by another process that measures; this one no longer waits for it", folder)
        yield


def every(folder: Path) -> tuple[Kept, ...]:
    """All of `folder`, which need not exist; unreadable files are left out."""
    found = (_read(file) for file in sorted(folder.glob("*.json")))
    return tuple(kept for kept in found if kept is not None)


def _is_locked(lock: TextIO, ends_at_s: float) -> bool:
    """Lock the file until it is closed or the process ends; False if that was not possible in time."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_at_s:
                return False
            time.sleep(_POLL_S)
        except OSError:  # this file system knows no locks
            return False
        else:
            return True


def _file(folder: Path, of: Identity) -> Path:
    digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:16]}.json"


def _read(file: Path) -> Kept | None:
    try:
        return _ADAPTER.validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _logger.warning("the calibration %s cannot be read and is measured again: %s", file, error)
        return None
