"""Runs an export by hand: one row through plain ONNX Runtime, the KV passed along from call to call."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from replicas.gguf.blocks import Floats


class Session:
    """One conversation with an export. `accuracy_level` 1 has the kernels multiply floats, as the reference does."""

    def __init__(self, directory: Path, accuracy_level: int | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        model = directory / "model.onnx"
        if accuracy_level is not None:
            model = directory / f"model-{accuracy_level}.onnx"
            _set_accuracy(directory / "model.onnx", model, accuracy_level)
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        decoder = json.loads((directory / "genai_config.json").read_text())["model"]["decoder"]
        self._empty = np.zeros((1, decoder["num_key_value_heads"], 0, decoder["head_size"]), np.float32)
        self._past = [node.name for node in self._session.get_inputs() if node.name.startswith("past")]
        self.restart()

    def restart(self) -> None:
        self._kv = dict.fromkeys(self._past, self._empty)

    def run(self, ids: list[int]) -> Floats:
        """Logits [tokens, vocabulary] of `ids`, which follow what was run before."""
        total = self._kv[self._past[0]].shape[2] + len(ids)
        feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, total), np.int64), **self._kv}
        logits, *present = self._session.run(None, feeds)
        self._kv = dict(zip(self._past, present, strict=True))
        rows: Floats = logits[0]
        return rows

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The likeliest next tokens after `ids`, one at a time."""
        out = [int(self.run(ids)[-1].argmax())]
        while len(out) < count:
            out.append(int(self.run(out[-1:])[-1].argmax()))
        return out


def _set_accuracy(source: Path, target: Path, accuracy_level: int) -> None:
    model = onnx.load(source, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = accuracy_level
    target.write_bytes(model.SerializeToString())
