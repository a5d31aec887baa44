"""A side of the comparison: where it is asked, which processes it is, and how many answers its own log knows of."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from bench.gateway.load import Found, Target, Work, asked_line, read_found
from bench.gateway.upstream import AT_ONCE, PACED

DIRECT, SHOAL, LITELLM = "direct", "Shoal", "LiteLLM"
CHAT = "/v1/chat/completions"
TOKEN_USD = 0.5e-6
"""Of every token, in and out, on both sides: so that budgets have something to count."""
BUDGET_USD = 1000.0


@dataclass(frozen=True, slots=True)
class Side:
    """`pid` is the first of its processes, None for the upstream itself, `logged` its answers that are written down."""

    name: str
    target: Target
    pid: int | None = None
    logged: Callable[[], int] | None = None


class Clients:
    """The callers' process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, side: Side, work: Work) -> Found:
        """Have `work` done at `side`. Raises RuntimeError if the callers end: their words are on stderr."""
        assert self._process.stdin is not None
        self._process.stdin.write(asked_line(side.target, work) + "\n")
        self._process.stdin.flush()
        return read_found(_line(self._process.stdout, f"the callers of {side.name}"))


@contextmanager
def clients() -> Iterator[Clients]:
    """Callers, for the length of a block."""
    with _python("bench.gateway.client") as process:
        yield Clients(process)


@contextmanager
def upstream() -> Iterator[Side]:
    """The upstream, and the way straight to it."""
    with _python("bench.gateway.upstream") as process:
        port = int(json.loads(_line(process.stdout, "the upstream"))["port"])
        yield Side(DIRECT, Target(port, CHAT, (AT_ONCE, PACED)))


@contextmanager
def _python(module: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(source: IO[str] | None, who: str) -> str:
    assert source is not None
    line = source.readline()
    if not line:
        raise RuntimeError(f"{who} ended; the words are above")
    return line
