"""Options that several commands share, declared once, and how a command is told to somebody with them."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.settings import Settings

DEFAULT_PORT: int = Settings().http.port

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; default ./shoal.yaml if there.")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port of the instance; default from the settings.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Serve this model of the store, and no other.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def port_flag(port: int) -> str:
    """What a command needs after it to mean the instance on `port`."""
    return "" if port == DEFAULT_PORT else f" --port {port}"


def starting(port: int | None) -> str:
    """What to do where nothing answers on `port`."""
    return f"`shoal up --detach{port_flag(port or DEFAULT_PORT)}` starts one"
