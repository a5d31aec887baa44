"""Makes a model's folder: a random GGUF file, the importer's export of it, then LongRoPE where the shape has it.

The GGUF stays beside the export if asked for, so that llama.cpp runs the very same weights. Either is made once.
"""

import shutil
from pathlib import Path

from bench.models.longrope import add_longrope
from bench.models.random_gguf import write_random_gguf
from bench.models.shapes import Shape
from replicas.errors import ModelImportError
from replicas.gguf.export import convert
from replicas.gguf.staging import staged

GGUF_BITS, EXPORT_BITS = 4.5, 5.0  # a weight, with its share of a scale: half floats there, floats here


def gguf_of(directory: Path) -> Path:
    """Where the GGUF file of the model in `directory` is, if it was kept."""
    return directory.with_name(f"{directory.name}.gguf")


def made(root: Path, shape: Shape, *, keeps_gguf: bool = False) -> Path:
    """The export of `shape` as the folder `root / name`, made if it is not there. Raises ModelImportError."""
    directory = root / shape.name
    source = gguf_of(directory)
    if not source.exists() and (keeps_gguf or not directory.exists()):
        _check_disk(root, shape)
        unfinished = source.with_suffix(".unfinished")
        write_random_gguf(unfinished, shape).rename(source)
    if not directory.exists():
        with staged(directory) as folder:
            convert(source, folder)
            if shape.longrope is not None:
                add_longrope(folder, shape.longrope)
    if not keeps_gguf:
        source.unlink(missing_ok=True)
    return directory


def _check_disk(root: Path, shape: Shape) -> None:
    root.mkdir(parents=True, exist_ok=True)
    needed, free = int(shape.parameters * (GGUF_BITS + EXPORT_BITS) / 8), shutil.disk_usage(root).free
    if needed > free:
        reason = f"making it takes {needed >> 20} MB and the disk has {free >> 20} MB left; free some space"
        raise ModelImportError(str(root / shape.name), reason)
