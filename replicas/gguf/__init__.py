"""Turns llama-architecture GGUF files into ONNX GenAI exports, without torch or transformers.

This file is what others need to know of it and costs nothing to import; the work begins in `replicas.gguf.export`,
which brings in onnx and gguf (25 MB and 0.2 s that a serving process has no use for).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

CONVERTER_VERSION = 1
"""Raised when the same file would give another export: what was imported before is then converted again."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Hears the stage, the bytes of it that are done, and all of its bytes."""


def unheard(stage: str, done_bytes: int, total_bytes: int) -> None:
    """The Progress that nobody listens to."""


@dataclass(frozen=True, slots=True)
class Export:
    """What a GGUF file says of its model."""

    architecture: str
    parameters: int
    context_tokens: int
    license: str | None
