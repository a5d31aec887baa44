"""From settings to a plan: finds each model in the store, picks its kind of node, fills in what the model says."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cluster.experiments import retention_of
from cluster.rulebook import endpoint_of, rulebook_of
from cluster.settings import ModelSettings, Settings
from deployments.plan import AppPlan, CloudPlan, EnginePlan, HttpPlan, PoolPlan
from replicas.adapters import TOOLS, StoredAdapter, install_shipped
from replicas.bundled import MEMBER_SHA256
from replicas.bundled import NAME as BUNDLED_NAME
from replicas.errors import ModelImportError, NotFound, SettingsError
from replicas.export import Export
from replicas.lora import fitted_adapters
from replicas.paged import PagedExport, is_paged
from replicas.store import ModelStore, StoredModel
from router.store.address import StoreAddress

ECHO_CONTEXT_TOKENS = 8192
DEFAULT_CONTEXT_TOKENS = 4096  # a choice: slots x context is the KV cache


def models_root(home: Path) -> Path:
    """Where the model store of `home` is."""
    return home / "models"


def calibrations_root(home: Path) -> Path:
    """Where the engines of `home` keep what they measured of their machines."""
    return home / "calibrations"


def store_address(settings: Settings, home: Path) -> StoreAddress:
    """Where the keys and the usage of the instances of `home` are."""
    store = settings.store
    return StoreAddress(store.url, store.password_env) if store.url else StoreAddress.of_file(home / "shoal.sqlite")


def plan_of(settings: Settings, home: Path, *, has_gpu: bool) -> AppPlan:
    """The plan. Raises SettingsError naming the model that is missing and the command that brings it."""
    store = ModelStore(models_root(home))
    drain_s = settings.http.request_deadline_s
    calibrations = calibrations_root(home)
    replicas = sum(model.replicas.max for model in settings.models if model.engine.kind != "echo")
    pools = tuple(
        replace(
            _pool(model, store, has_gpu=has_gpu),
            drain_s=drain_s,
            memory_share=1 / max(1, replicas),  # all of them may be on one machine
            calibrations=calibrations if model.engine.calibrate else None,
        )
        for model in settings.models
    )
    http = settings.http
    rules = rulebook_of(settings, {pool.model: pool.context_tokens for pool in pools})
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
            allowed_hosts=tuple(name.lower() for name in http.allowed_hosts),
            allowed_origins=http.allowed_origins,
        ),
        store=store_address(settings, home),
        budgets=rules.budgets,
        baseline=rules.baseline,
        clouds=tuple(CloudPlan(one.kind, endpoint_of(one)) for one in settings.clouds),
        routing=rules.routing,
        experiments=rules.experiments,
        journal=retention_of(settings),
    )


def _pool(model: ModelSettings, store: ModelStore, *, has_gpu: bool) -> PoolPlan:
    pool = PoolPlan(
        model=model.name,
        path=Path(),
        engine=EnginePlan(**model.engine.model_dump(exclude={"calibrate"})),
        display_name=model.display_name,
        context_tokens=model.engine.context_tokens or ECHO_CONTEXT_TOKENS,
        aliases=model.aliases,
        node=("gpu" if has_gpu else "cpu") if model.node == "auto" else model.node,
        min_replicas=model.replicas.min,
        max_replicas=model.replicas.max,
        cpus_per_replica=model.cpus_per_replica,
    )
    return pool if pool.engine.kind == "echo" else _stored(pool, model.engine.context_tokens, store)


def _stored(pool: PoolPlan, wanted_tokens: int | None, store: ModelStore) -> PoolPlan:
    """`pool` with what its model says of itself. A paged one keeps no promise of same bytes, and takes no adapters."""
    path = _find(pool.model, store).path
    engine, export = pool.engine, stock_export(path)
    if export is None:
        engine = replace(engine, kind="paged", determinism="relaxed", speculation=False)
    adapters = () if export is None else _fitting(path, export)
    most_tokens = PagedExport.load(path).context_tokens if export is None else export.context_tokens
    if wanted_tokens is not None and wanted_tokens > most_tokens:
        words = f"{pool.model}: engine.context_tokens {wanted_tokens} is more than the model has: at most {most_tokens}"
        raise SettingsError(words)
    return replace(
        pool,
        path=path,
        engine=engine,
        created_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        context_tokens=min(most_tokens, wanted_tokens or DEFAULT_CONTEXT_TOKENS),
        adapters=tuple(adapter.name for adapter in adapters),
        tool_adapter=next((adapter.name for adapter in adapters if adapter.purpose == TOOLS), None),
    )


def _fitting(path: Path, export: Export) -> tuple[StoredAdapter, ...]:
    """The adapters of the model. Raises SettingsError for one that it cannot use, which would be missed only when it is
    asked for."""
    adapters = fitted_adapters(path, export)
    for adapter in adapters:
        if adapter.problem is not None:
            raise SettingsError(f"adapter {adapter.name}: {adapter.problem}; mend it, or take {adapter.path} away")
    return adapters


def stock_export(path: Path) -> Export | None:
    """A stock export; None if it is one with paged attention. Raises ModelImportError."""
    try:
        return Export.load(path)
    except ModelImportError:
        if is_paged(path):
            return None
        raise


def _find(name: str, store: ModelStore) -> StoredModel:
    try:
        model = store.find(name)
    except NotFound as missing:
        command = "make model" if name == BUNDLED_NAME else "shoal models import FILE.gguf"
        raise SettingsError(f"{missing}; `{command}` brings it") from missing
    if model.source_sha256 == MEMBER_SHA256:
        install_shipped(model.path)  # somebody may have had the model before the adapter came with it
    return model
