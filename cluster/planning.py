"""From settings to a plan: finds each model in the store, picks its kind of node, fills in what the model says."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cluster.settings import ModelSettings, Settings
from deployments.plan import EPOCH, AppPlan, EnginePlan, HttpPlan, PoolPlan
from replicas.adapters import StoredAdapter
from replicas.bundled import NAME as BUNDLED_NAME
from replicas.errors import NotFound, SettingsError
from replicas.export import Export
from replicas.store import ModelStore, StoredModel

ECHO_CONTEXT_TOKENS = 8192
TOOLS = "tools"  # the purpose of an adapter that answers requests with tools
DEFAULT_CONTEXT_TOKENS = 4096  # a choice: slots x context is the KV cache


def models_root(home: Path) -> Path:
    """Where the model store of `home` is."""
    return home / "models"


def calibrations_root(home: Path) -> Path:
    """Where the engines of `home` keep what they measured of their machines."""
    return home / "calibrations"


def plan_of(settings: Settings, home: Path, *, has_gpu: bool) -> AppPlan:
    """The plan. Raises SettingsError naming the model that is missing and the command that brings it."""
    store = ModelStore(models_root(home))
    drain_s = settings.http.request_deadline_s
    calibrations = calibrations_root(home)
    pools = tuple(
        replace(
            _pool(model, store, has_gpu=has_gpu),
            drain_s=drain_s,
            calibrations=calibrations if model.engine.calibrate else None,
        )
        for model in settings.models
    )
    http = settings.http
    return AppPlan(
        pools=pools,
        default_model=settings.default_model or pools[0].model,
        http=HttpPlan(
            host=http.host,
            port=http.port,
            body_limit_bytes=http.body_limit_bytes,
            session_limit_bytes=http.session_limit_bytes,
            request_deadline_s=http.request_deadline_s,
            ping_interval_s=http.ping_interval_s,
        ),
    )


def _pool(model: ModelSettings, store: ModelStore, *, has_gpu: bool) -> PoolPlan:
    engine = EnginePlan(**model.engine.model_dump(exclude={"calibrate"}))
    path, created_at, context_tokens = Path(), EPOCH, model.engine.context_tokens or ECHO_CONTEXT_TOKENS
    adapters: tuple[StoredAdapter, ...] = ()
    if engine.kind == "slot":
        stored = _find(model.name, store)
        path, created_at = stored.path, datetime.fromtimestamp(stored.path.stat().st_mtime, UTC)
        adapters = store.adapters(model.name)
        most = Export.load(path).context_tokens
        context_tokens = min(most, model.engine.context_tokens or DEFAULT_CONTEXT_TOKENS)
    node = ("gpu" if has_gpu else "cpu") if model.node == "auto" else model.node
    return PoolPlan(
        model=model.name,
        path=path,
        engine=engine,
        display_name=model.display_name,
        created_at=created_at,
        context_tokens=context_tokens,
        aliases=model.aliases,
        adapters=tuple(adapter.name for adapter in adapters),
        tool_adapter=next((adapter.name for adapter in adapters if adapter.purpose == TOOLS), None),
        node=node,
        min_replicas=model.replicas.min,
        max_replicas=model.replicas.max,
        cpus_per_replica=model.cpus_per_replica,
    )


def _find(name: str, store: ModelStore) -> StoredModel:
    try:
        return store.find(name)
    except NotFound as missing:
        command = "make model" if name == BUNDLED_NAME else "shoal models import FILE.gguf"
        raise SettingsError(f"{missing}; `{command}` brings it") from missing
