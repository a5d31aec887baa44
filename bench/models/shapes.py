"""The sizes of the models that are made here, and which factors Phi-4-mini's rotary embedding has."""

from dataclasses import dataclass

from bench.models.longrope import LongRope


@dataclass(frozen=True, slots=True)
class Shape:
    """A llama-like decoder. `rotated` values of each head turn with the position; a tied head is the embedding."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocab: int
    context_tokens: int
    is_tied: bool
    rotated: int
    longrope: LongRope | None = None

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Every quantized tensor by its GGUF name: [outputs, inputs]."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        shapes = {"token_embd.weight": (self.vocab, self.hidden)}
        for layer in range(self.layers):
            at = f"blk.{layer}"
            shapes |= {
                f"{at}.attn_q.weight": (queries, self.hidden),
                f"{at}.attn_k.weight": (keys, self.hidden),
                f"{at}.attn_v.weight": (keys, self.hidden),
                f"{at}.attn_output.weight": (self.hidden, queries),
                f"{at}.ffn_gate.weight": (self.ffn, self.hidden),
                f"{at}.ffn_up.weight": (self.ffn, self.hidden),
                f"{at}.ffn_down.weight": (self.hidden, self.ffn),
            }
        return shapes if self.is_tied else {**shapes, "output.weight": (self.vocab, self.hidden)}

    def norms(self) -> list[str]:
        """The GGUF names of the vectors of `hidden` floats."""
        layers = [f"blk.{layer}.{norm}.weight" for layer in range(self.layers) for norm in ("attn_norm", "ffn_norm")]
        return [*layers, "output_norm.weight"]

    @property
    def parameters(self) -> int:
        """Weights of all tensors; a tied head counts once."""
        return sum(outputs * inputs for outputs, inputs in self.matrices().values()) + len(self.norms()) * self.hidden


RANDOM_100M = Shape(
    name="random-100m",
    layers=12,
    hidden=768,
    heads=12,
    kv_heads=4,
    head_size=64,
    ffn=2048,
    vocab=16384,
    context_tokens=8192,
    is_tied=False,
    rotated=64,
)


def phi4_mini(switch_tokens: int = 4096) -> Shape:
    """Microsoft's Phi-4-mini-instruct: 3.8 B weights, 3/4 of each head rotated, other rotary factors past the switch.

    The long factors here grow by 1.118 a pair up to 32, close to the model's own list. A lower `switch_tokens` than
    the model's 4096 lets a short prompt cross it.
    """
    rotated, context_tokens = 96, 131072
    factors = tuple(min(1.118**pair, 32.0) for pair in range(rotated // 2))
    return Shape(
        name="phi4-mini-shape" if switch_tokens == 4096 else f"phi4-mini-shape-{switch_tokens}",
        layers=32,
        hidden=3072,
        heads=24,
        kv_heads=8,
        head_size=128,
        ffn=8192,
        vocab=200064,
        context_tokens=switch_tokens,
        is_tied=True,
        rotated=rotated,
        longrope=LongRope(switch_tokens, context_tokens, factors),
    )
