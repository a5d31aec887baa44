"""A llama forward pass in plain numpy, straight from a GGUF file: what the exports are held against.

It shares no code with the importer: the gguf package reads and dequantizes, rotary embedding works on llama.cpp's
interleaved pairs as they lie in the file, attention is a softmax over a full mask. 32-bit floats, no cache.

`python -m tests.replicas.reference FILE.gguf > tests/replicas/smollm2_reference.json` makes the golden file.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from replicas.gguf.blocks import Floats

TEXT = (
    "<|im_start|>user\nWhich river runs through Paris?<|im_end|>\n<|im_start|>assistant\nThe Seine runs through Paris. "
    "It rises in Burgundy, 777 km from the sea, and reaches the English Channel at Le Havre."
)
TOP = 32


@dataclass(frozen=True)
class Reference:
    """The weights and sizes of one GGUF file."""

    weights: dict[str, Floats]
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    rope_size: int
    rope_base: float
    rope_scale: float
    epsilon: float

    @classmethod
    def read(cls, path: Path) -> "Reference":
        reader = GGUFReader(path)
        weights = {t.name: dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in reader.tensors}

        def number(key: str, default: float) -> float:
            field = reader.fields.get(f"llama.{key}")
            return default if field is None else float(field.contents())

        heads = int(number("attention.head_count", 0))
        head_size = int(number("attention.key_length", number("embedding_length", 0) // heads))
        return cls(
            weights=weights,
            layers=int(number("block_count", 0)),
            heads=heads,
            kv_heads=int(number("attention.head_count_kv", heads)),
            head_size=head_size,
            rope_size=int(number("rope.dimension_count", head_size)),
            rope_base=number("rope.freq_base", 10000.0),
            rope_scale=number("rope.scaling.factor", 1.0),
            epsilon=number("attention.layer_norm_rms_epsilon", 0.0),
        )

    def logits(self, ids: list[int]) -> Floats:
        """Logits [tokens, vocabulary] of a whole prompt."""
        x = self.weights["token_embd.weight"][ids]
        for layer in range(self.layers):
            at = f"blk.{layer}"
            x = x + self._linear(self._attention(self._norm(x, f"{at}.attn_norm"), at), f"{at}.attn_output")
            h = self._norm(x, f"{at}.ffn_norm")
            gate = self._linear(h, f"{at}.ffn_gate")
            x = x + self._linear(gate / (1 + np.exp(-gate)) * self._linear(h, f"{at}.ffn_up"), f"{at}.ffn_down")
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        logits: Floats = self._norm(x, "output_norm") @ head.T
        return logits

    def _norm(self, x: Floats, name: str) -> Floats:
        scaled: Floats = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * self.weights[f"{name}.weight"]
        return scaled

    def _linear(self, x: Floats, name: str) -> Floats:
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", np.float32(0))

    def _attention(self, h: Floats, at: str) -> Floats:
        tokens, group = len(h), self.heads // self.kv_heads
        q = self._rotate(self._linear(h, f"{at}.attn_q").reshape(tokens, self.heads, self.head_size))
        k = self._rotate(self._linear(h, f"{at}.attn_k").reshape(tokens, self.kv_heads, self.head_size))
        v = self._linear(h, f"{at}.attn_v").reshape(tokens, self.kv_heads, self.head_size)
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(self.head_size)
        scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed: Floats = np.einsum("hqk,khd->qhd", shares, v).reshape(tokens, -1).astype(np.float32)
        return mixed

    def _rotate(self, x: Floats) -> Floats:
        """Rotate pair (2i, 2i+1) of every head by position * frequency i."""
        half = self.rope_size // 2
        frequencies = self.rope_base ** -(np.arange(half) / half) / self.rope_scale
        if "rope_freqs.weight" in self.weights:
            frequencies = frequencies / self.weights["rope_freqs.weight"]
        angles = np.outer(np.arange(len(x)), frequencies)[:, None]
        even, odd = x[..., 0 : self.rope_size : 2], x[..., 1 : self.rope_size : 2]
        rotated = x.copy()
        rotated[..., 0 : self.rope_size : 2] = even * np.cos(angles) - odd * np.sin(angles)
        rotated[..., 1 : self.rope_size : 2] = even * np.sin(angles) + odd * np.cos(angles)
        return rotated


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logs


def golden(path: Path) -> str:
    """Token ids of TEXT and, for every position, the likeliest tokens with their log-probabilities, as JSON."""
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(line.split(" ")) for line in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    ids = tokenizer.encode(TEXT).ids
    logs = log_softmax(Reference.read(path).logits(ids))
    top = np.argsort(-logs, axis=-1)[:, :TOP]
    rounded = np.take_along_axis(logs, top, -1).round(4)
    return json.dumps({"text": TEXT, "ids": ids, "top": top.tolist(), "logprobs": rounded.tolist()})


if __name__ == "__main__":
    sys.stdout.write(golden(Path(sys.argv[1])) + "\n")
