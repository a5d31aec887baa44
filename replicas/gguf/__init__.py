"""Turns llama-architecture GGUF files into ONNX GenAI exports, without torch or transformers."""

from replicas.gguf.export import CONVERTER_VERSION, Export, Progress, convert, export, unheard

__all__ = ["CONVERTER_VERSION", "Export", "Progress", "convert", "export", "unheard"]
