"""Adapters into an engine that runs, and out of it: the replica's side.

What is loaded is found by its name in the list of what lies beside the model; no path ever comes from outside. An
engine that takes no adapters refuses with words of its own.
"""

import asyncio
from pathlib import Path
from typing import Protocol, runtime_checkable

from replicas.adapters import adapters_of
from replicas.engine import Engine
from replicas.errors import InvalidRequest, ModelImportError, NotFound


@runtime_checkable
class AdapterEngine(Protocol):
    """An engine whose adapters come and go while it runs. Both calls block, until its next step is over."""

    def load_adapter(self, name: str, path: Path) -> None:
        """Load the adapter in the directory `path` as `name`. Raises ModelImportError, InvalidRequest."""
        ...

    def unload_adapter(self, name: str) -> None:
        """Unload it. Raises NotFound, InvalidRequest while requests for it are under way."""
        ...


class AdapterLoading:
    """The adapters of `engine`; `model` is the directory that they lie beside."""

    def __init__(self, engine: Engine, model: Path) -> None:
        self._engine = engine
        self._model = model

    async def load(self, name: str) -> None:
        """Load an adapter by name. Raises NotFound, InvalidRequest if it does not fit or is loaded already."""
        await asyncio.to_thread(self._load, self._taking(), name)

    async def unload(self, name: str) -> None:
        """Unload an adapter by name. Raises NotFound, InvalidRequest while requests for it are under way."""
        await asyncio.to_thread(self._taking().unload_adapter, name)

    def _load(self, engine: AdapterEngine, name: str) -> None:
        stored = {adapter.name: adapter for adapter in adapters_of(self._model)}
        if name not in stored:
            raise NotFound("adapter", name, f"beside the model: {', '.join(stored) or 'none'}")
        try:
            engine.load_adapter(name, stored[name].path)
        except ModelImportError as error:
            raise InvalidRequest(f"the adapter {name!r} does not fit the model: {error.reason}", "name") from error

    def _taking(self) -> AdapterEngine:
        if not isinstance(self._engine, AdapterEngine):
            raise InvalidRequest(f"the {self._engine.stats().engine} engine takes no adapters", "model")
        return self._engine
