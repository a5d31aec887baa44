"""A GenAI export on disk: what `genai_config.json` and the graph's inputs say, checked before a session is opened.

Opening a session reads gigabytes; the graph file alone (its weights lie beside it) is read in milliseconds. An
export that `SlotEngine` cannot drive is refused here, with what would work.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
from onnx import TensorProto
from pydantic import BaseModel, Field, ValidationError

from replicas.errors import ModelImportError
from replicas.longrope import rope_switch

CONFIG = "genai_config.json"
Element: TypeAlias = Literal["float32", "float16"]

_ELEMENTS: dict[int, Element] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
_PAGED = frozenset({"block_table", "slot_mapping", "cumulative_sequence_lengths", "past_sequence_lengths"})


class _Inputs(BaseModel):
    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    position_ids: str = "position_ids"
    past_key_names: str = "past_key_values.%d.key"
    past_value_names: str = "past_key_values.%d.value"


class _Outputs(BaseModel):
    logits: str = "logits"
    present_key_names: str = "present.%d.key"
    present_value_names: str = "present.%d.value"


class _Decoder(BaseModel):
    filename: str
    head_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    inputs: _Inputs = _Inputs()
    outputs: _Outputs = _Outputs()


class _Model(BaseModel):
    type: str
    context_length: int = Field(gt=1)
    vocab_size: int = Field(gt=0)
    eos_token_id: int | list[int]
    decoder: _Decoder


class _Config(BaseModel):
    model: _Model


@dataclass(frozen=True, slots=True)
class Names:
    """What the graph calls its inputs and outputs. The KV patterns hold `%d` for the layer."""

    input_ids: str
    attention_mask: str
    position_ids: str | None
    past: tuple[str, str]
    present: tuple[str, str]
    logits: str


@dataclass(frozen=True, slots=True)
class Export:
    """A checked export. `max_mask_tokens` is the longest mask that the graph can take: the model's context.

    `rope_switch_tokens` is the longest mask that takes the short rotary cache of a graph with LongRoPE, else None.
    Longer masks take the long cache for the whole call: KV of the two regimes never goes together.
    """

    directory: Path
    model_file: Path
    layers: int
    kv_heads: int
    head_size: int
    context_tokens: int
    max_mask_tokens: int
    rope_switch_tokens: int | None
    vocab: int
    eos_ids: tuple[int, ...]
    kv_element: Element
    names: Names

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def kv_token_bytes(self) -> int:
        """Bytes of KV cache for one token, all layers, keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_size * (4 if self.kv_element == "float32" else 2)

    @classmethod
    def load(cls, path: Path) -> "Export":
        """Read and check the export in the directory `path`. Raises ModelImportError."""
        model = _config(path).model
        decoder = model.decoder
        # The real folder: onnxruntime refuses weights that a link leads out of the folder it was given.
        model_file = (path / decoder.filename).resolve()
        graph = _graph(path, model_file)
        inputs = {value.name: value for value in graph.input}
        names = _names(path, decoder, frozenset(inputs), frozenset(value.name for value in graph.output))
        past = inputs[names.past[0] % 0].type.tensor_type
        _check_shape(path, decoder, past)
        eos = model.eos_token_id
        return cls(
            directory=path,
            model_file=model_file,
            layers=decoder.num_hidden_layers,
            kv_heads=decoder.num_key_value_heads,
            head_size=decoder.head_size,
            context_tokens=model.context_length,
            max_mask_tokens=model.context_length,
            rope_switch_tokens=rope_switch(graph, names.attention_mask, model_file.parent),
            vocab=_width(graph, names.logits) or model.vocab_size,
            eos_ids=tuple(eos) if isinstance(eos, list) else (eos,),
            kv_element=_element(path, past.elem_type),
            names=names,
        )


def _config(path: Path) -> _Config:
    try:
        return _Config.model_validate_json((path / CONFIG).read_bytes())
    except OSError as error:
        reason = f"{CONFIG} cannot be read ({error.strerror}); a GenAI export is a folder with that file"
        raise ModelImportError(str(path), reason) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or CONFIG
        raise ModelImportError(str(path), f"{CONFIG}: {where}: {first['msg']}") from error


def _graph(path: Path, model_file: Path) -> onnx.GraphProto:
    try:
        return onnx.load(model_file, load_external_data=False).graph
    except OSError as error:
        raise ModelImportError(str(path), f"{model_file.name} cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's own DecodeError lives in a module that differs between its versions
        raise ModelImportError(str(path), f"{model_file.name} is not an ONNX graph ({error})") from error


def _names(path: Path, decoder: _Decoder, inputs: frozenset[str], outputs: frozenset[str]) -> Names:
    ins, outs = decoder.inputs, decoder.outputs
    if _PAGED & inputs:
        reason = "it was exported with paged attention, which needs its own engine; export without use_paged_attention"
        raise ModelImportError(str(path), reason)
    past = (ins.past_key_names, ins.past_value_names)
    present = (outs.present_key_names, outs.present_value_names)
    if any(pattern.count("%d") != 1 or pattern.count("%") != 1 for pattern in past + present):
        raise ModelImportError(str(path), f"{CONFIG}: a past or present name has no %d for the layer")
    layers = range(decoder.num_hidden_layers)
    needed = {ins.input_ids, ins.attention_mask, *(name % n for name in past for n in layers)}
    made = {outs.logits, *(name % n for name in present for n in layers)}
    optional = {ins.position_ids}
    if missing := sorted((needed - inputs) | (made - outputs)):
        raise ModelImportError(str(path), f"the graph has no {missing[0]!r}, which {CONFIG} promises")
    if unknown := sorted(inputs - needed - optional):
        reason = f"the graph wants {unknown[0]!r}, which this engine cannot give; export a plain text decoder"
        raise ModelImportError(str(path), reason)
    positions = ins.position_ids if ins.position_ids in inputs else None
    return Names(ins.input_ids, ins.attention_mask, positions, past, present, outs.logits)


def _check_shape(path: Path, decoder: _Decoder, past: onnx.TypeProto.Tensor) -> None:
    sizes = [dimension.dim_value for dimension in past.shape.dim]
    if len(sizes) != 4 or sizes[1] != decoder.num_key_value_heads or sizes[3] != decoder.head_size:
        reason = (
            f"the KV input has shape {sizes} and not "
            f"[batch, {decoder.num_key_value_heads}, past, {decoder.head_size}] as {CONFIG} says"
        )
        raise ModelImportError(str(path), reason)


def _element(path: Path, element: int) -> Element:
    if element not in _ELEMENTS:
        kind = TensorProto.DataType.Name(element).lower()
        raise ModelImportError(str(path), f"its KV cache is {kind}; export with float32 or float16")
    return _ELEMENTS[element]


def _width(graph: onnx.GraphProto, logits: str) -> int:
    """The last dimension of the logits, 0 if the graph does not fix it."""
    output = next(value for value in graph.output if value.name == logits)
    return int(output.type.tensor_type.shape.dim[-1].dim_value)
