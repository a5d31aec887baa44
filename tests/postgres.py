"""A real PostgreSQL of our own: a cluster in a temporary folder, reached by a socket in it, gone with the tests.

PostgreSQL refuses to run as root, so root starts it as another user.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

START_WAIT_S = 60
USERS = ("postgres", "nobody")
MISSING = "no PostgreSQL server on this machine: install the Debian package postgresql"


def programs() -> Path | None:
    """The folder that holds initdb and pg_ctl; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def require_programs() -> Path:
    """The same. Without a server the tests are skipped, where CI runs they fail."""
    found = programs()
    if found is None and os.environ.get("CI"):
        pytest.fail(MISSING)
    if found is None:
        pytest.skip(MISSING)
    return found


@contextmanager
def postgres() -> Iterator[Path]:
    """A running server; the folder is its `host`, the user `shoal`, trusted."""
    bin_, user = require_programs(), _user()
    with tempfile.TemporaryDirectory(prefix="shoal-pg-", dir="/tmp") as folder:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = f"{folder}/data"
        _run(user, bin_ / "initdb", "-D", data, "-U", "shoal", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=50"
        control = ("-D", data, "-w", "-t", str(START_WAIT_S))
        _run(user, bin_ / "pg_ctl", *control, "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield Path(folder)
        finally:
            _run(user, bin_ / "pg_ctl", *control, "-m", "immediate", "stop")


def new_database(server: Path, name: str) -> str:
    """The URL of a new and empty database."""
    with psycopg.connect(host=str(server), user="shoal", dbname="postgres", autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return f"postgresql://shoal@/{name}?host={server}"


def _user() -> str:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(user for user in USERS if user in known)


def _run(user: str, program: Path, *arguments: str) -> None:
    done = subprocess.run(
        [program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        user=user if os.geteuid() == 0 else None,
        check=False,
    )
    assert done.returncode == 0, done.stdout
