"""The ONNX graph of a llama model, in the form that ONNX Runtime GenAI exports have.

Inputs `input_ids[B,S]`, `attention_mask[B,T]` and `past_key_values.N.{key,value}[B,kv,P,head]`; outputs `logits[B,S,V]`
and `present.N.{key,value}`. Residuals are added inside the norms (SkipSimplifiedLayerNormalization), attention, rotary
embedding and KV append are one GroupQueryAttention a layer, and every weight is quantized to 4 or 8 bits unless its
inputs are no multiple of 32. `accuracy_level=4` lets the CPU kernels multiply integers.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from replicas.gguf.blocks import BLOCK, Floats
from replicas.gguf.datafile import DataFile
from replicas.gguf.llama import Llama
from replicas.gguf.rotary import place_rotary
from replicas.gguf.weights import Matrix, Weights

OPSET, IR_VERSION = 21, 10
MICROSOFT = "com.microsoft"


class LlamaGraph:
    """Builds one model's graph; `model()` returns it, its large initializers in `data`."""

    def __init__(self, llama: Llama, weights: Weights, data: DataFile) -> None:
        self._llama = llama
        self._weights = weights
        self._data = data
        self._nodes: list[NodeProto] = []
        self._small: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def model(self) -> ModelProto:
        """The whole model. Declares every weight in the data file on the way."""
        llama = self._llama
        self._declare(self._inputs, "input_ids", TensorProto.INT64, "batch_size", "sequence_length")
        self._declare(self._inputs, "attention_mask", TensorProto.INT64, "batch_size", "total_sequence_length")
        self._declare(self._outputs, "logits", TensorProto.FLOAT, "batch_size", "sequence_length", llama.vocabulary)
        embedding = self._weights.table("token_embd.weight")
        residual = self._embed(embedding)
        self._lengths()
        place_rotary(llama, self._weights.vector("rope_freqs.weight"), self._data)
        hidden = self._node(
            "SimplifiedLayerNormalization",
            [residual, self._norm("blk.0.attn_norm.weight")],
            ["blk.0.attn_norm"],
            axis=-1,
            epsilon=llama.norm_epsilon,
            stash_type=1,
        )
        for layer in range(llama.layers):
            hidden, residual = self._layer(layer, hidden, residual)
        is_tied = "output.weight" not in self._weights
        head = self._weights.table_as_matrix(embedding) if is_tied else self._weights.matrix("output.weight")
        self._multiply(hidden, head, "logits")
        return self._assemble()

    def _assemble(self) -> ModelProto:
        graph: GraphProto = helper.make_graph(
            self._nodes, "llama", self._inputs, self._outputs, [*self._small, *self._data.initializers]
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="shoal")

    def _layer(self, layer: int, hidden: str, residual: str) -> tuple[str, str]:
        """One transformer block on normed `hidden`: the next block's normed input and the residual stream."""
        at = f"blk.{layer}"
        attended = self._project(self._attend(layer, hidden), f"{at}.attn_output")
        hidden, residual = self._add_norm(residual, attended, f"{at}.ffn_norm", is_last=False)
        gate = self._project(hidden, f"{at}.ffn_gate")
        up = self._project(hidden, f"{at}.ffn_up")
        sigmoid = self._node("Sigmoid", [gate], [f"{at}.sigmoid"])
        silu = self._node("Mul", [gate, sigmoid], [f"{at}.silu"])
        active = self._node("Mul", [silu, up], [f"{at}.active"])
        down = self._project(active, f"{at}.ffn_down")
        is_last = layer == self._llama.layers - 1
        return self._add_norm(residual, down, "output_norm" if is_last else f"blk.{layer + 1}.attn_norm", is_last)

    def _attend(self, layer: int, hidden: str) -> str:
        llama, at = self._llama, f"blk.{layer}"
        queries = self._project(hidden, f"{at}.attn_q", llama.heads)
        keys = self._project(hidden, f"{at}.attn_k", llama.kv_heads)
        values = self._project(hidden, f"{at}.attn_v")
        past = [f"past_key_values.{layer}.{side}" for side in ("key", "value")]
        present = [f"present.{layer}.{side}" for side in ("key", "value")]
        for name in past:
            self._declare(
                self._inputs,
                name,
                TensorProto.FLOAT,
                "batch_size",
                llama.kv_heads,
                "past_sequence_length",
                llama.head_size,
            )
        for name in present:
            self._declare(
                self._outputs,
                name,
                TensorProto.FLOAT,
                "batch_size",
                llama.kv_heads,
                "total_sequence_length",
                llama.head_size,
            )
        return self._node(
            "GroupQueryAttention",
            [queries, keys, values, *past, "seqlens_k", "total_length", "cos_cache", "sin_cache"],
            [f"{at}.attention", *present],
            MICROSOFT,
            num_heads=llama.heads,
            kv_num_heads=llama.kv_heads,
            scale=llama.head_size**-0.5,
            do_rotary=1,
            rotary_interleaved=0,
        )

    def _add_norm(self, residual: str, added: str, norm: str, is_last: bool) -> tuple[str, str]:
        outputs = [norm] if is_last else [norm, "", "", f"{norm}.residual"]
        self._node(
            "SkipSimplifiedLayerNormalization",
            [residual, added, self._norm(f"{norm}.weight")],
            outputs,
            MICROSOFT,
            epsilon=self._llama.norm_epsilon,
        )
        return norm, outputs[-1]

    def _project(self, hidden: str, name: str, heads: int = 0) -> str:
        """A projection with its bias if the file has one; `heads` when llama.cpp has reordered its rows."""
        bias = self._weights.vector(f"{name}.bias", heads)
        matrix = self._weights.matrix(f"{name}.weight", heads)
        if bias is None:
            return self._multiply(hidden, matrix, name)
        product = self._multiply(hidden, matrix, f"{name}.product")
        return self._node("Add", [product, self._constant(f"{name}.bias", bias)], [name])

    def _multiply(self, hidden: str, matrix: Matrix, output: str) -> str:
        """hidden @ matrix^T."""
        if matrix.bits == 32:
            return self._node("FusedMatMul", [hidden, matrix.values], [output], MICROSOFT, transB=1)
        return self._node(
            "MatMulNBits",
            [hidden, matrix.values, matrix.scales],
            [output],
            MICROSOFT,
            K=matrix.inputs,
            N=matrix.outputs,
            bits=matrix.bits,
            block_size=BLOCK,
            accuracy_level=4,
        )

    def _embed(self, matrix: Matrix) -> str:
        if matrix.bits == 32:
            return self._node("Gather", [matrix.values, "input_ids"], ["embedding"], axis=0)
        return self._node(
            "GatherBlockQuantized",
            [matrix.values, "input_ids", matrix.scales],
            ["embedding"],
            MICROSOFT,
            gather_axis=0,
            quantize_axis=1,
            block_size=BLOCK,
            bits=matrix.bits,
        )

    def _lengths(self) -> None:
        """What GroupQueryAttention wants of the mask: each row's index of its last token, and the longest row."""
        one = self._constant("one", np.array(1, np.int64))
        axis = self._constant("mask_axis", np.array([1], np.int64))
        count = self._node("ReduceSum", ["attention_mask", axis], ["row_lengths"], keepdims=1)
        last = self._node("Sub", [count, one], ["row_ends"])
        self._node("Cast", [last], ["seqlens_k"], to=TensorProto.INT32)
        shape = self._node("Shape", ["attention_mask"], ["mask_shape"])
        total = self._node("Gather", [shape, one], ["mask_length"], axis=0)
        self._node("Cast", [total], ["total_length"], to=TensorProto.INT32)

    def _norm(self, name: str) -> str:
        values = self._weights.vector(name)
        assert values is not None  # read_llama has checked that every norm is there
        return self._constant(name, values)

    def _constant(self, name: str, values: Floats | NDArray[np.int64]) -> str:
        self._small.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(
        self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: int | float
    ) -> str:
        self._nodes.append(
            helper.make_node(kind, inputs, outputs, name=f"{outputs[0]}/{kind}", domain=domain, **attributes)
        )
        return outputs[0]

    @staticmethod
    def _declare(values: list[ValueInfoProto], name: str, kind: int, *shape: str | int) -> None:
        values.append(helper.make_tensor_value_info(name, kind, shape))
