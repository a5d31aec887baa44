"""The adapters of a model over HTTP: GET lists, POST loads one that lies beside the model, DELETE unloads it.

For operators: where there are keys, the scope `admin` is wanted. A change is on every replica when it is answered.
"""

import asyncio
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.answering import Answerer
from deployments.desk import read_body
from deployments.pool_adapters import PoolAdapters
from replicas.adapters import adapters_of
from replicas.errors import InvalidRequest
from router.body import Wire, read

NAME_CHARS = 255  # of a folder


class Wanted(Wire):
    """The body of a POST. Without `model` the default model is meant."""

    name: Annotated[str, Field(strict=True, min_length=1, max_length=NAME_CHARS)]
    model: Annotated[str, Field(strict=True)] | None = None


class AdapterDesk:
    """Handlers for /v1/adapters."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    async def show(self, request: Request) -> Response:
        """What lies beside the model and what is loaded. Raises NotFound, InvalidRequest, Unavailable."""
        model, keeper = self._asked(request.query_params.get("model"))
        loaded = await keeper.loaded()
        path = self._answerer.plan.pool(model).path
        stored = {one.name: one for one in await asyncio.to_thread(adapters_of, path)}
        rows = [
            {
                "name": name,
                "is_loaded": name in loaded,
                "replicas": loaded.get(name, ()),
                "purpose": stored[name].purpose if name in stored else None,
                "format": stored[name].format if name in stored else None,
                "size_bytes": stored[name].size_bytes if name in stored else None,
            }
            for name in sorted({*stored, *loaded})
        ]
        return JSONResponse({"model": model, "adapters": rows})

    async def load(self, request: Request) -> Response:
        """Load one on every replica. Raises NotFound, InvalidRequest, Unavailable."""
        wanted = read(Wanted, await read_body(request, self._answerer.plan.http.body_limit_bytes))
        model, keeper = self._asked(wanted.model)
        await keeper.load(wanted.name)
        return await _changed(model, wanted.name, keeper)

    async def unload(self, request: Request) -> Response:
        """Unload one from every replica. Raises NotFound, InvalidRequest while it is in use, Unavailable."""
        model, keeper = self._asked(request.query_params.get("model"))
        name = str(request.path_params["name"])
        await keeper.unload(name)
        return await _changed(model, name, keeper)

    def _asked(self, name: str | None) -> tuple[str, PoolAdapters]:
        model = self._answerer.catalog.resolve(name).id
        keeper = self._answerer.adapters.get(model)
        if keeper is None:
            raise InvalidRequest(f"the engine of {model!r} takes no adapters", "model")
        return model, keeper


async def _changed(model: str, name: str, keeper: PoolAdapters) -> Response:
    replicas = (await keeper.loaded()).get(name, ())
    return JSONResponse({"model": model, "name": name, "is_loaded": bool(replicas), "replicas": replicas})
