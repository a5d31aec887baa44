"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; default ./shoal.yaml if there.")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port of the instance; default from the settings.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Serve this model of the store, and no other.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
