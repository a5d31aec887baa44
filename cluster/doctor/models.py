"""The model store: whether each model is whole, whether those that the settings name are there, what was measured."""

from collections.abc import Iterator
from pathlib import Path

from cluster.doctor.finding import Finding, found, noted
from cluster.planning import models_root
from cluster.settings import Settings
from replicas.bundled import NAME as BUNDLED_NAME
from replicas.completeness import require_complete
from replicas.errors import ModelImportError
from replicas.export import Export
from replicas.lora import fitted_adapters
from replicas.slot.start import kept
from replicas.store import CONFIG, ModelStore

_AREA = "models"


def models(home: Path, settings: Settings) -> Iterator[Finding]:
    """Every model of the store, and those that are missing."""
    root = models_root(home)
    names = {folder.name for folder in root.iterdir() if (folder / CONFIG).is_file()} if root.is_dir() else set()
    for name in sorted(names):
        yield from _model(root / name)
    for model in settings.models:
        if model.engine.kind != "echo" and model.name not in names:
            fix = "shoal models fetch" if model.name == BUNDLED_NAME else "shoal models import FILE.gguf"
            yield found(_AREA, model.name, "named in the settings, but not in the store", fix)
    stale = [model.name for model in ModelStore(root).list() if not model.is_current]
    for name in stale:
        advice = "`shoal models import` of the same file converts it again"
        yield noted(_AREA, name, "made by another version of the converter", advice)


def calibrations(folder: Path) -> Iterator[Finding]:
    """What was measured here, by model."""
    for entry in kept.every(folder):
        measured = entry.calibration
        rates = ", ".join(f"{rows / step_s:.0f} at {rows}" for rows, step_s in measured.decode_s)
        words = f"{measured.threads} threads, up to {measured.batch_ceiling} rows a step; tokens/s by rows: {rates}"
        yield found("calibration", f"{entry.of.get('model', '?')} on {entry.of.get('provider', '?')}", words)


def _model(folder: Path) -> Iterator[Finding]:
    try:
        export = require_complete(folder)
    except ModelImportError as error:
        yield found(_AREA, folder.name, error.reason, f"delete {folder} and import the model again")
        return
    size_mb = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6
    kind = "paged attention"
    if isinstance(export, Export):
        kind = f"{export.kv_token_bytes / 1024:.0f} KiB of KV cache a token"
    words = f"whole, {size_mb:.0f} MB, context {export.context_tokens} tokens, {kind}"
    yield found(_AREA, folder.name, words)
    if isinstance(export, Export):
        yield from _adapters(folder, export)


def _adapters(folder: Path, export: Export) -> Iterator[Finding]:
    for adapter in fitted_adapters(folder, export):
        name = f"{folder.name}:{adapter.name}"
        words = adapter.problem or f"an adapter of {adapter.size_bytes / 1e6:.0f} MB, fits"
        yield found(_AREA, name, words, f"mend it, or take {adapter.path} away" if adapter.problem else "")
