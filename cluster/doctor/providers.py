"""Which providers of this onnxruntime work on this machine: each is tried for real, in a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.doctor.finding import Finding, found
from replicas.slot.place import PREFERENCE, Provider
from replicas.slot.start.providers import available

_AREA = "providers"
DEADLINE_S = 60.0
"""A GPU's first session compiles kernels, which takes some seconds; a driver that hangs takes for ever."""


def providers(model: Path | None, deadline_s: float = DEADLINE_S) -> Iterator[Finding]:
    """Every provider in the build that an engine can use, tried with `model`, or with one node without it."""
    listed = available()
    for provider in PREFERENCE:
        if provider.ort_name in listed:
            command = [
                sys.executable,
                "-m",
                "replicas.slot.start.probe",
                provider.name,
                *([str(model)] if model else []),
            ]
            yield tried(provider, command, deadline_s, "a model" if model else "one node")


def tried(provider: Provider, command: Sequence[str], deadline_s: float, what: str) -> Finding:
    """How `command`, which probes `provider`, ended."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)  # noqa: S603 - our own words
    except subprocess.TimeoutExpired:
        return found(_AREA, provider.name, f"no answer within {deadline_s:g} s", _fix(provider))
    if ended.returncode < 0:
        words = f"its process was killed by {signal.Signals(-ended.returncode).name}"
        return found(_AREA, provider.name, words, _fix(provider))
    try:
        answer = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = ended.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        return found(_AREA, provider.name, f"its process ended with {ended.returncode}: {last[0]}", _fix(provider))
    if "reason" in answer:
        return found(_AREA, provider.name, str(answer["reason"]), _fix(provider))
    free = answer.get("free_bytes")
    memory = f", {free / (1 << 30):.1f} GiB free" if isinstance(free, int) else ""
    return found(_AREA, provider.name, f"works: ran {what} in {answer['seconds']:.1f} s{memory}")


def _fix(provider: Provider) -> str:
    if provider.is_host:
        return "install onnxruntime again: pip install --force-reinstall 'shoal[cpu]'"
    return f"mend the driver, or set `provider: cpu` of the models to stop trying {provider.name}"
