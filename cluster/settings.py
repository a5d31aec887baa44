"""The settings: one frozen tree, read once from `shoal.yaml`, printed by `shoal config show`.

An unknown key is an error that names the nearest known one. Defaults are measured or said to be a choice.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from cluster.experiments_settings import ExperimentSettings, JournalSettings
from cluster.money_settings import BudgetSettings, CostSettings
from cluster.routing_settings import CloudSettings, RoutingSettings
from cluster.section import Section
from replicas.bundled import NAME as BUNDLED_NAME
from replicas.engine import Determinism
from replicas.errors import SettingsError
from router.store.address import StoreAddress

DEFAULT_FILE = Path("shoal.yaml")


class HttpSettings(Section):
    """The edge. `body_limit_bytes`: an Agent SDK request is about 43 kB (facts), documents are larger.
    `session_limit_bytes`: 4096 tokens of Phi-4-mini's KV are 1 GiB in single precision, and there is a header."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65534)
    body_limit_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    session_limit_bytes: int = Field(1025 * 1024 * 1024, ge=1024)
    request_deadline_s: float = Field(600.0, gt=0)
    ping_interval_s: float = Field(10.0, gt=0)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class EngineSettings(Section):
    """One engine. Null leaves the choice to the engine, which measures or asks the machine; `provider` set: no
    fallback. Speculation guesses with KV that decoding wrote, so only relaxed answers may have it."""

    kind: Literal["slot", "echo"] = "slot"
    slots: int | None = Field(None, ge=1, le=1024)
    context_tokens: int | None = Field(None, ge=16)
    threads: int | None = Field(None, ge=1)
    prefill_chunk_tokens: int | None = Field(None, ge=4)
    queue_limit: int = Field(64, ge=1)
    provider: Literal["cpu", "cuda", "dml", "webgpu"] | None = None
    echo_delay_s: float = Field(0.0, ge=0)
    is_spinning: bool = True
    determinism: Determinism = "strict"
    speculation: bool = False
    cache_bytes: int | None = Field(None, ge=0)
    stall_ratio: float = Field(1.8, gt=1)
    calibrate: bool = True

    @model_validator(mode="after")
    def _speculates_only_when_relaxed(self) -> "EngineSettings":
        if self.speculation and self.determinism == "strict":
            raise ValueError("speculation needs `determinism: relaxed`; strict answers are decoded token by token")
        return self


class ReplicaSettings(Section):
    """How many replicas; Serve scales between the two on generations under way."""

    min: int = Field(1, ge=1)
    max: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _is_ordered(self) -> "ReplicaSettings":
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class ModelSettings(Section):
    """One pool: a model of the store (or the echo engine), on one kind of node."""

    name: str
    display_name: str = ""
    aliases: tuple[str, ...] = ()
    node: Literal["auto", "cpu", "gpu"] = "auto"
    cpus_per_replica: float = Field(1.0, gt=0)
    replicas: ReplicaSettings = ReplicaSettings()
    engine: EngineSettings = EngineSettings()


class RaySettings(Section):
    """The cluster under the service. `address` null: start one of our own on this machine."""

    address: str | None = None
    object_store_bytes: int = Field(128 * 1024 * 1024, ge=80 * 1024 * 1024)


class StoreSettings(Section):
    """Keys and usage. `url` null: a SQLite file in SHOAL_HOME. The password is never here, only its variable's name."""

    url: str | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _can_be_reached(self) -> "StoreSettings":
        if self.url is not None:
            StoreAddress(self.url, self.password_env).checked()
        elif self.password_env is not None:
            raise ValueError("password_env goes with url")
        return self


class Settings(Section):
    """Everything. `default_model` null: the first of `models`."""

    http: HttpSettings = HttpSettings()
    models: tuple[ModelSettings, ...] = (ModelSettings(name=BUNDLED_NAME),)
    default_model: str | None = None
    clouds: tuple[CloudSettings, ...] = ()
    routing: RoutingSettings = RoutingSettings()
    budgets: tuple[BudgetSettings, ...] = ()
    costs: CostSettings = CostSettings()
    ray: RaySettings = RaySettings()
    store: StoreSettings = StoreSettings()
    journal: JournalSettings = JournalSettings()
    experiments: tuple[ExperimentSettings, ...] = ()

    @model_validator(mode="after")
    def _models_are_distinct(self) -> "Settings":
        names = [name for model in self.models for name in (model.name, *model.aliases)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise ValueError("models is empty: name at least one")
        if twice:
            raise ValueError(f"two models answer to {twice[0]!r}")
        if self.default_model is not None and self.default_model not in names:
            raise ValueError(f"default_model {self.default_model!r} is none of {', '.join(names)}")
        return self


def load_settings(path: Path | None) -> Settings:
    """Read `path`; without one, ./shoal.yaml if it is there, else the defaults. Raises SettingsError."""
    if path is None and not DEFAULT_FILE.exists():
        return Settings()
    source = path or DEFAULT_FILE
    try:
        tree = yaml.safe_load(source.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {source}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source} is not YAML: {error}") from error
    return validated({} if tree is None else tree, str(source))


def validated(tree: object, source: str) -> Settings:
    """The settings that `tree` holds. Raises SettingsError in the words of `source`."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_words(source, error)) from error


def _words(source: str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{source}: unknown key {path!r}{_nearest(problem['loc'])}")
        else:
            lines.append(f"{source}: {path or 'settings'}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _nearest(location: tuple[int | str, ...]) -> str:
    known = sorted(_section(location[:-1]).model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _section(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The section that a path of keys and list indexes leads to."""
    section: type[BaseModel] = Settings
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = next(_sections(section.model_fields[part].annotation), section)
    return section


def _sections(annotation: object) -> Iterator[type[Section]]:
    """The sections in the type of a field: its own, of its items, or beside null."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
