"""An instance for one piece of work: on a free port, from settings of its own, ended whatever happens.

It shares the model store of SHOAL_HOME and nothing else: ./shoal.yaml is not read, and the folder of its port (log,
job journal) is removed once it has ended. After the first Ctrl-C or SIGTERM further ones are ignored, so that nobody
in a hurry leaves processes behind.
"""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import yaml

from cluster import instance, up
from cluster.settings import Settings
from replicas.errors import ShoalError, Unavailable

PORT_ATTEMPTS = 20
PORT_MAX = 65534  # the settings' own bound
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal asked this process to end; like KeyboardInterrupt no error that anybody should catch."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise Ended at the first signal, ignore the next ones. For the main thread."""

    def end(number: int, _: FrameType | None) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Ended(number)

    with _handled_by(end):
        yield


@contextmanager
def temporary_service(
    home: Path, settings: Settings | None = None, on_stop: Callable[[], None] = lambda: None
) -> Iterator[instance.Instance]:
    """A running instance with `settings`, its port replaced by a free one. Raises Unavailable if it does not start."""
    wanted = settings or Settings()
    port = free_port(home)
    tree = wanted.model_dump(mode="json")
    tree["http"]["port"] = port
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
        config = Path(folder) / "shoal.yaml"
        config.write_text(yaml.safe_dump(tree), "utf-8")
        started = _start(config, home, wanted.http.host, port)
        try:
            yield started
        finally:
            with _handled_by(signal.SIG_IGN):  # a half-ended instance would be left behind for good
                on_stop()
                instance.stop(home, started)
                _remove_folder(home, port)


def free_port(home: Path) -> int:
    """A port that is free and has no folder under `home` yet: one that has holds somebody's jobs."""
    for _ in range(PORT_ATTEMPTS):
        port = instance.free_port()
        if port <= PORT_MAX and not instance.folder(home, port).exists():
            return port
    raise Unavailable("a free port", f"none of {PORT_ATTEMPTS} tries found one")


def _start(config: Path, home: Path, host: str, port: int) -> instance.Instance:
    try:
        return up.run_detached(["--config", str(config)], home, host, port)
    except ShoalError:
        raise  # its words name the log, which stays
    except BaseException:
        _remove_folder(home, port)
        raise


def _remove_folder(home: Path, port: int) -> None:
    shutil.rmtree(instance.folder(home, port), ignore_errors=True)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    earlier = [(number, signal.signal(number, handler)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, before in earlier:
            signal.signal(number, before)
