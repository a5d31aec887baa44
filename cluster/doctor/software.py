"""Python and the packages: what is installed against what this version of Shoal asks for."""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from cluster.doctor.finding import Finding, found

_AREA = "software"
_PYTHON = ((3, 11), (3, 13))
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-webgpu")
# What decides whether a report can be reproduced; the others are checked too, and shown if they are wrong.
_GENAI = ("onnxruntime-genai", "onnxruntime-genai-cuda")
_SHOWN = frozenset({"ray", "onnx", "tokenizers", "llguidance", "numpy", "pydantic", *_GENAI})


def python() -> Iterator[Finding]:
    """The interpreter."""
    least, below = _PYTHON
    is_known = least <= sys.version_info[:2] < below
    words = f"{platform.python_version()} on {platform.platform(terse=True)} {platform.machine()}"
    fix = f"use Python {least[0]}.{least[1]} up to, not including, {below[0]}.{below[1]}"
    yield found(_AREA, "Python", words, "" if is_known else fix)


def packages() -> Iterator[Finding]:
    """Every requirement of this distribution, of its extras what is installed, then the model runtime."""
    for text in metadata.requires("shoal") or ():
        requirement = Requirement(text)
        extras = [extra for extra in ("", "cpu", "gpu") if _is_for(requirement, extra)]
        if "" in extras or (extras and installed(requirement.name) is not None):
            yield from package(requirement)
    yield from runtime()


def runtime() -> Iterator[Finding]:
    """Exactly one build of onnxruntime: two share a folder, and the later one's files win."""
    versions = {name: version for name in _RUNTIMES if (version := installed(name)) is not None}
    words = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none"
    fix = ""
    if not versions:
        fix = "pip install 'shoal[cpu]', or 'shoal[gpu]' on a machine with an NVIDIA GPU"
    elif len(versions) > 1:
        fix = f"pip uninstall {' '.join(versions)}, then install the one that fits this machine"
    yield found(_AREA, "onnxruntime", words, fix)
    if not any(installed(name) for name in _GENAI):
        missing = "not installed: models with paged attention cannot be served"
        yield found(_AREA, "onnxruntime-genai", missing)


def installed(name: str) -> str | None:
    """The version of a distribution, None if it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_for(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def package(requirement: Requirement) -> Iterator[Finding]:
    """A requirement that is not met, or one that is worth showing."""
    version = installed(requirement.name)
    fix = f"pip install '{requirement}'"
    if version is None:
        yield found(_AREA, requirement.name, "not installed", fix)
    elif not requirement.specifier.contains(version, prereleases=True):
        yield found(_AREA, requirement.name, f"{version}, but {requirement.specifier} is needed", fix)
    elif requirement.name in _SHOWN:
        yield found(_AREA, requirement.name, version)
