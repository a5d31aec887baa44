"""A LoRA adapter in PEFT format: `adapter_config.json` and `adapter_model.safetensors` of one directory.

Only plain LoRA is read: A and B of linear layers, one rank and one scale for all of them. What PEFT (0.21) has besides
(DoRA, biases, ranks by pattern, whole layers, activation by a token) changes the arithmetic, and some ways to begin
(PiSSA, OLoRA, CorDA, LoftQ) change the weights of the model: that is refused by name instead of ignored.
"""

import re
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, deserialize

from replicas.errors import ModelImportError

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"

_KEY = re.compile(r"(?:.*\.)?layers\.(\d+)\.(?:\w+\.)*(\w+)\.lora_([AB])(?:\.\w+)?\.weight")
_NUMBERS = {"F16": np.float16, "F32": np.float32}


class _Config(BaseModel):
    """As much of adapter_config.json as changes the arithmetic. Other values than these are refused."""

    peft_type: Literal["LORA"]
    r: int = Field(gt=0)
    lora_alpha: float = Field(allow_inf_nan=False)
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    fan_in_fan_out: Literal[False] = False
    use_dora: Literal[False] = False
    rank_pattern: dict[str, int] = Field(default={}, max_length=0)
    alpha_pattern: dict[str, float] = Field(default={}, max_length=0)
    modules_to_save: list[str] | None = Field(default=None, max_length=0)
    init_lora_weights: Literal[True, False, "gaussian", "eva", "orthogonal"] = True
    lora_bias: Literal[False] = False
    use_qalora: Literal[False] = False
    layer_replication: None = None
    alora_invocation_tokens: None = None
    trainable_token_indices: None = None
    target_parameters: list[str] | None = Field(default=None, max_length=0)
    lora_ga_config: None = None
    monteclora_config: None = None
    use_bdlora: None = None
    arrow_config: None = None
    kasa_config: None = None

    @property
    def scale(self) -> float:
        """alpha / r, or alpha / sqrt(r) for a rank-stabilized one (arXiv:2312.03732)."""
        return self.lora_alpha / (self.r**0.5 if self.use_rslora else self.r)


@dataclass(frozen=True, slots=True)
class Factors:
    """What an adapter adds to one linear layer: `x @ a.T @ b.T`; the scale is in `b`. float32."""

    a: NDArray[np.float32]  # [rank, inputs]
    b: NDArray[np.float32]  # [outputs, rank]


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter as read. `modules` is keyed by layer and by Hugging Face's name of the linear layer in it."""

    path: Path
    modules: dict[tuple[int, str], Factors]


def read_peft(path: Path) -> PeftAdapter:
    """The adapter in the directory `path`. Raises ModelImportError, which says what is not supported or broken."""
    config = _config(path)
    sides: dict[tuple[int, str], dict[str, NDArray[np.float32]]] = {}
    for key, values in _tensors(path).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ModelImportError(str(path), f"{TENSORS} holds {key!r}, which is not LoRA of a layer's projection")
        sides.setdefault((int(match[1]), match[2]), {})[match[3]] = values
    if not sides:
        raise ModelImportError(str(path), f"{TENSORS} holds no tensors")
    return PeftAdapter(path, {place: _factors(path, place, pair, config) for place, pair in sides.items()})


def _factors(path: Path, place: tuple[int, str], pair: dict[str, NDArray[np.float32]], config: _Config) -> Factors:
    where = f"layer {place[0]}, {place[1]}"
    if len(pair) != 2:
        raise ModelImportError(str(path), f"{where}: lora_A or lora_B is missing")
    a, b = pair["A"], pair["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != config.r or b.shape[1] != config.r:
        shapes = f"lora_A {list(a.shape)}, lora_B {list(b.shape)}"
        raise ModelImportError(str(path), f"{where}: {shapes} are not of rank {config.r}, as {CONFIG} says")
    return Factors(a, b * np.float32(config.scale))


def _config(path: Path) -> _Config:
    try:
        return _Config.model_validate_json((path / CONFIG).read_bytes())
    except OSError as error:
        reason = f"{CONFIG} cannot be read ({error.strerror}); an adapter is a folder with that file and {TENSORS}"
        raise ModelImportError(str(path), reason) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        reason = f"{CONFIG}: {where}: {first['msg']}; only plain LoRA is supported"
        raise ModelImportError(str(path), reason) from error


def _tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        read: list[tuple[str, dict[str, object]]] = deserialize((path / TENSORS).read_bytes())  # type: ignore[no-untyped-call]  # of safetensors, which has no types
    except OSError as error:
        raise ModelImportError(str(path), f"{TENSORS} cannot be read ({error.strerror})") from error
    except SafetensorError as error:
        raise ModelImportError(str(path), f"{TENSORS} is not a safetensors file ({error})") from error
    return {key: _float32(path, key, tensor) for key, tensor in sorted(read, key=itemgetter(0))}


def _float32(path: Path, key: str, tensor: dict[str, object]) -> NDArray[np.float32]:
    kind, shape, data = tensor["dtype"], tensor["shape"], tensor["data"]
    assert isinstance(shape, list)
    assert isinstance(data, bytes | bytearray)
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if kind not in _NUMBERS:
        raise ModelImportError(str(path), f"{key} is {kind}; save the adapter as F16, BF16 or F32")
    return np.frombuffer(data, _NUMBERS[kind]).astype(np.float32).reshape(shape)
