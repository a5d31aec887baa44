"""Which of the adapters beside a model it can use: each is read and fitted, as an engine will do it."""

from dataclasses import replace
from pathlib import Path

from replicas.adapters import StoredAdapter, everything_of
from replicas.errors import ModelImportError
from replicas.export import Export
from replicas.lora.weights import LoraWeights


def fitted_adapters(model: Path, export: Export) -> tuple[StoredAdapter, ...]:
    """Every adapter beside the model `export` in the directory `model`; `problem` says why one cannot be used."""
    return tuple(_fitted(adapter, export) for adapter in everything_of(model))


def _fitted(adapter: StoredAdapter, export: Export) -> StoredAdapter:
    if adapter.problem is not None:
        return adapter
    try:
        LoraWeights.read(adapter.path, export)
    except ModelImportError as error:
        return replace(adapter, problem=error.reason)
    return adapter
