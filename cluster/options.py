"""Options that several commands share, declared once, and how a command is told to somebody with them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cluster.settings import Settings

DEFAULT_PORT: int = Settings().http.port

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; default ./shoal.yaml if there.")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port of the instance; default from the settings.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Serve this model of the store, and no other.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

T = TypeVar("T")


def taking(group: Callable[..., T]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command whose first parameter is a `group` the arguments and options that make one, before its own.

    `group` is a dataclass; its fields are declared as the parameters of a command are.
    """
    own = inspect.signature(group).parameters

    def given(command: Callable[..., None]) -> Callable[..., None]:
        _, *rest = inspect.signature(command).parameters.values()

        @functools.wraps(command)
        def run(**values: object) -> None:
            command(group(**{name: values.pop(name) for name in own}), **values)

        vars(run)["__signature__"] = inspect.Signature([*own.values(), *rest])  # what typer makes the options of
        return run

    return given


def port_flag(port: int) -> str:
    """What a command needs after it to mean the instance on `port`."""
    return "" if port == DEFAULT_PORT else f" --port {port}"


def starting(port: int | None) -> str:
    """What to do where nothing answers on `port`."""
    return f"`shoal up --detach{port_flag(port or DEFAULT_PORT)}` starts one"
