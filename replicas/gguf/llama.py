"""The llama architecture as a GGUF file declares it: its sizes, the tensors it must hold and their shapes.

Everything is checked here, before a byte is written. A tensor that a plain llama has no place for is refused too:
leaving it out would give a model that loads and answers nonsense.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from replicas.errors import ModelImportError
from replicas.gguf.blocks import SUPPORTED
from replicas.gguf.header import Header, Tensor

ARCHITECTURE = "llama"
PROJECTIONS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
MAX_SIZE = 1 << 20  # the longest contexts of llama models have this many tokens; everything else is smaller
NORMS = ("attn_norm", "ffn_norm")
IGNORED = ("rope_freqs.weight", "attn_rot_embd.weight")  # the first is read apart, the second is a relic


@dataclass(frozen=True, slots=True)
class Llama:
    """Sizes of one model. `rope_scale` divides positions (linear scaling); `rope_size` values of a head are rotated."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    context_tokens: int
    rope_size: int
    rope_base: float
    rope_scale: float
    norm_epsilon: float

    def projection(self, name: str) -> tuple[int, int]:
        """Shape of a projection's weight: (outputs, inputs)."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "attn_q": (queries, self.hidden),
            "attn_k": (keys, self.hidden),
            "attn_v": (keys, self.hidden),
            "attn_output": (self.hidden, queries),
            "ffn_gate": (self.ffn, self.hidden),
            "ffn_up": (self.ffn, self.hidden),
            "ffn_down": (self.hidden, self.ffn),
        }[name]


def read_llama(header: Header) -> Llama:
    """The sizes in the metadata, checked against each other and against the tensors. Raises ModelImportError."""
    data = header.metadata
    architecture = data.text("general.architecture")
    if architecture != ARCHITECTURE:
        _refuse(
            header, f"its architecture is {architecture!r}; only {ARCHITECTURE!r} can be imported (Llama, SmolLM, ...)"
        )
    if data.integer("split.count", 1) > 1:
        _refuse(header, "it is one part of several; join them first with `llama-gguf-split --merge`")
    if data.integer("llama.expert_count", 0):
        _refuse(header, "it is a mixture of experts; only dense llama models can be imported")
    hidden, heads = data.integer("llama.embedding_length"), data.integer("llama.attention.head_count")
    head_size = data.integer("llama.attention.key_length", hidden // max(heads, 1))
    model = Llama(
        layers=data.integer("llama.block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=data.integer("llama.attention.head_count_kv", heads),
        head_size=head_size,
        ffn=data.integer("llama.feed_forward_length"),
        vocabulary=len(data.texts("tokenizer.ggml.tokens")),
        context_tokens=data.integer("llama.context_length"),
        rope_size=data.integer("llama.rope.dimension_count", head_size),
        rope_base=data.number("llama.rope.freq_base", 10000.0),
        rope_scale=_rope_scale(header),
        norm_epsilon=data.number("llama.attention.layer_norm_rms_epsilon"),
    )
    _check_sizes(header, model)
    _check_tensors(header, model)
    return model


def _refuse(header: Header, reason: str) -> None:
    raise ModelImportError(str(header.path), reason)


def _rope_scale(header: Header) -> float:
    kind = header.metadata.text("llama.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        _refuse(header, f"its rotary scaling is {kind!r}; none, linear and Llama 3's factors can be imported")
    return header.metadata.number("llama.rope.scaling.factor", 1.0) if kind == "linear" else 1.0


def _check_sizes(header: Header, model: Llama) -> None:
    sizes = (model.layers, model.hidden, model.heads, model.kv_heads, model.ffn, model.vocabulary, model.context_tokens)
    if min(sizes) < 1 or max(sizes) > MAX_SIZE or model.heads % model.kv_heads:
        _refuse(header, f"its sizes cannot be those of a llama model ({model})")
    if header.metadata.integer("llama.attention.value_length", model.head_size) != model.head_size:
        _refuse(header, "its keys and values differ in size, which the attention kernel cannot do")
    if model.head_size % 16 or model.rope_size % 16 or not 0 < model.rope_size <= model.head_size:
        _refuse(
            header,
            f"its heads have {model.head_size} values of which {model.rope_size} are rotated; "
            "ONNX Runtime's attention kernel needs multiples of 16",
        )
    if not all(0 < number < math.inf for number in (model.rope_base, model.rope_scale, model.norm_epsilon)):
        _refuse(header, "its rotary base, rotary scale and norm epsilon must be above 0")


def shapes(model: Llama) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Every tensor that a llama model may hold: name, shape, and whether it must."""
    yield "token_embd.weight", (model.vocabulary, model.hidden), True
    yield "output_norm.weight", (model.hidden,), True
    yield "output.weight", (model.vocabulary, model.hidden), False
    yield "rope_freqs.weight", (model.rope_size // 2,), False
    for layer in range(model.layers):
        for norm in NORMS:
            yield f"blk.{layer}.{norm}.weight", (model.hidden,), True
        for projection in PROJECTIONS:
            shape = model.projection(projection)
            yield f"blk.{layer}.{projection}.weight", shape, True
            yield f"blk.{layer}.{projection}.bias", shape[:1], False


def _check_tensors(header: Header, model: Llama) -> None:
    known = set()
    for name, shape, is_needed in shapes(model):
        known.add(name)
        tensor = header.tensors.get(name)
        if tensor is not None:
            _check_tensor(header, tensor, shape)
        elif is_needed:
            _refuse(header, f"tensor {name} is missing; fetch or convert the model again")
    strange = sorted(name for name in header.tensors if name not in known and not name.endswith(IGNORED))
    if strange:
        _refuse(header, f"a plain llama model has no tensor {strange[0]}; this variant cannot be imported")


def _check_tensor(header: Header, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        _refuse(header, f"tensor {tensor.name} has shape {tensor.shape} where its metadata says {shape}")
    allowed = SUPPORTED if len(shape) == 2 else ("F32", "F16")
    if tensor.type not in allowed:
        _refuse(
            header,
            f"tensor {tensor.name} has type {tensor.type}; {', '.join(allowed)} can be imported: "
            "get the Q8_0 or Q4_0 file of this model, or make it with `llama-quantize`",
        )
