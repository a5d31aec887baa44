"""GGUF file in, ONNX GenAI export out: model.onnx, its data, genai_config.json and the tokenizer's files.

First everything is read that can be wrong (header, sizes, tensors, vocabulary) and the disk space counted; only then is
anything written, tensor by tensor.
"""

import json
import math
import shutil
from pathlib import Path

from replicas.errors import ModelImportError
from replicas.gguf import Export, Progress, unheard
from replicas.gguf.datafile import DataFile
from replicas.gguf.genai import Json, genai_config, tokenizer_config
from replicas.gguf.graph import LlamaGraph
from replicas.gguf.header import Header, read_header
from replicas.gguf.llama import ARCHITECTURE, Llama, read_llama
from replicas.gguf.staging import staged
from replicas.gguf.tokenizer import read_tokenizer
from replicas.gguf.weights import Weights

MODEL, DATA = "model.onnx", "model.onnx.data"


def export(source: Path, destination: Path, progress: Progress = unheard) -> Export:
    """Convert `source` into the new directory `destination`, which appears whole or not at all."""
    with staged(destination) as directory:
        return convert(source, directory, progress)


def convert(source: Path, directory: Path, progress: Progress = unheard) -> Export:
    """Convert `source` into the existing, empty `directory`. Raises ModelImportError before it writes anything."""
    header = read_header(source)
    llama = read_llama(header)
    tokenizer = read_tokenizer(header).to_str()
    configs = {"genai_config.json": genai_config(header, llama, MODEL)}
    configs["tokenizer_config.json"] = tokenizer_config(header, llama)
    try:
        _write_model(header, llama, directory, progress)
        (directory / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        for name, content in configs.items():
            _write_json(directory / name, content)
    except OSError as error:
        raise ModelImportError(str(source), f"its export cannot be written ({error.strerror})") from error
    return _summary(header, llama)


def _write_model(header: Header, llama: Llama, directory: Path, progress: Progress) -> None:
    data = DataFile(DATA)
    model = LlamaGraph(llama, Weights(header, llama, data), data).model()
    free = shutil.disk_usage(directory).free
    if data.size_bytes > free:
        needed = f"its export takes {data.size_bytes >> 20} MB and the disk has {free >> 20} MB left"
        raise ModelImportError(str(header.path), f"{needed}; free some space")
    total = sum(tensor.size_bytes for tensor in header.tensors.values() if len(tensor.shape) == 2)
    done = 0

    def written(source_bytes: int) -> None:
        nonlocal done
        done += source_bytes
        progress("convert", done, total)

    data.write(directory, written)
    (directory / MODEL).write_bytes(model.SerializeToString())


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _summary(header: Header, llama: Llama) -> Export:
    data = header.metadata
    license_name = data.text("general.license") if "general.license" in data else None
    parameters = sum(math.prod(tensor.shape) for tensor in header.tensors.values())
    return Export(ARCHITECTURE, parameters, llama.context_tokens, license_name)
