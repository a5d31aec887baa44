"""The paged engine: ONNX Runtime GenAI's own continuous batching, for models exported with paged attention."""

from replicas.paged.export import PagedExport, is_paged  # the engine itself imports GenAI, so it is asked for by name

__all__ = ["PagedExport", "is_paged"]
