"""From nothing to the first token, and the memory of every process: `python -m bench.coldstart [--json FILE]`.

Starts an instance as `shoal up --detach` does, asks it for one token as soon as /ready is 200, and reads the memory of
its processes after that answer. The model is in the store already; the operating system may have its file in memory.
"""

import asyncio
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.command import command, ending, keep
from bench.http_streams import run
from cluster.demo.service import ended_by_signals, temporary_service
from cluster.environment import shoal_home
from cluster.status.report import memory

RESULT = Path("bench/results/coldstart.json")
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `own_mb` would be freed if it ended, `resident_mb` counts what it shares."""

    name: str
    own_mb: float
    resident_mb: float


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Seconds from the command to /ready, and to the first token."""

    ready_s: float
    first_token_s: float
    processes: list[Process]


def bench() -> ColdStart:
    """Start, ask, look, end."""
    began_s = time.perf_counter()
    with ended_by_signals(), temporary_service(shoal_home()) as service:
        ready_s = time.perf_counter() - began_s
        url = urlsplit(service.url)
        asyncio.run(run(url.hostname or "", url.port or 0, streams=1, tokens=1))
        first_token_s = time.perf_counter() - began_s
        rows = memory(service)
        processes = [
            Process(
                label(int(str(row["pid"]))), *(int(str(row[key])) / MB for key in ("unique_bytes", "resident_bytes"))
            )
            for row in rows
        ]
    return ColdStart(ready_s, first_token_s, processes)


def label(pid: int) -> str:
    """A process by what it runs, without this machine's paths."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return "(ended)"
    if not words or words[0].startswith("ray::"):
        return (words or ["?"])[0].strip()
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    scripts = [word for word in words if word.endswith(".py")]
    return Path((scripts or words)[0]).name


def table(found: ColdStart) -> str:
    """For people."""
    lines = [
        f"ready after {found.ready_s:.1f} s, first token after {found.first_token_s:.1f} s ({os.cpu_count()} cores)",
        f"{'own MB':>8} {'resident MB':>12}  process",
    ]
    lines += [f"{p.own_mb:>8.0f} {p.resident_mb:>12.0f}  {p.name}" for p in found.processes]
    lines.append(f"{sum(p.own_mb for p in found.processes):>8.0f} {'':>12}  all {len(found.processes)}")
    return "\n".join(lines)


def main() -> None:
    parser = command("bench.coldstart", "Time to first token, and memory.", RESULT)
    options = parser.parse_args()
    found = bench()
    print(table(found))
    keep({"command": "python -m bench.coldstart", **asdict(found)}, options.json)


if __name__ == "__main__":
    ending(main)
