"""`shoal adapters`: what a running instance has loaded of a model's LoRA adapters, and a change of that."""

from typing import Annotated
from urllib.parse import quote

import httpx
import typer
from rich.table import Table
from rich.text import Text

from cluster.cli_sessions import HTTP_ERRORS, TIMEOUT, words
from cluster.cli_talk import PortOption, Refused
from cluster.console import out, print_json
from cluster.environment import credentials
from cluster.options import DEFAULT_PORT, JsonOption, starting
from replicas.errors import SettingsError, Unavailable

PATH = "/v1/adapters"
NamedArgument = Annotated[str, typer.Argument(metavar="MODEL:ADAPTER", help="As requests name it.")]

adapters_app = typer.Typer(no_args_is_help=True, help="LoRA adapters of a running instance.")


@adapters_app.command("list")
def list_adapters(
    model: Annotated[str | None, typer.Argument(help="Whose; default the default model's.")] = None,
    port: PortOption = DEFAULT_PORT,
    as_json: JsonOption = False,
) -> None:
    """What lies beside a model, and what of it is loaded."""
    answer = asked("GET", port, PATH, {"model": model} if model else None)
    if as_json:
        print_json(answer.json())
        return
    told = answer.json()
    table = Table("adapter", "loaded", "purpose", "format", "size", box=None)
    for row in told["adapters"]:
        size = "" if row["size_bytes"] is None else f"{row['size_bytes'] / 1e6:.0f} MB"
        name = Text(f"{told['model']}:{row['name']}")
        table.add_row(name, "yes" if row["is_loaded"] else "no", row["purpose"] or "", row["format"] or "", size)
    out.print(table if told["adapters"] else f"{told['model']} has no adapters; put PEFT folders into its adapters/")


@adapters_app.command("load")
def load(named: NamedArgument, port: PortOption = DEFAULT_PORT, as_json: JsonOption = False) -> None:
    """Load an adapter that lies beside the model. At a start all that lie there are loaded."""
    model, name = parts(named)
    told(asked("POST", port, PATH, json={"model": model, "name": name}), as_json)


@adapters_app.command("unload")
def unload(named: NamedArgument, port: PortOption = DEFAULT_PORT, as_json: JsonOption = False) -> None:
    """Unload an adapter, until it is loaded again or the instance is started anew."""
    model, name = parts(named)
    told(asked("DELETE", port, f"{PATH}/{quote(name, safe='')}", {"model": model}), as_json)


def parts(named: str) -> tuple[str, str]:
    """The model and the adapter. Raises SettingsError."""
    model, _, name = named.rpartition(":")
    if not model or not name:
        raise SettingsError(f"{named}: write MODEL:ADAPTER; `shoal adapters list MODEL` shows them")
    return model, name


def asked(
    method: str, port: int, path: str, params: dict[str, str] | None = None, json: dict[str, str] | None = None
) -> httpx.Response:
    """The answer of the instance on `port`. Raises Unavailable, Refused."""
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False, headers=credentials()) as client:
            answer = client.request(method, path, params=params, json=json)
    except httpx.TransportError as error:
        raise Unavailable(f"a service at {url}", starting(port)) from error
    if answer.status_code >= HTTP_ERRORS:
        raise Refused(words(answer))
    return answer


def told(answer: httpx.Response, as_json: bool) -> None:
    """Say what has become of an adapter."""
    changed = answer.json()
    if as_json:
        print_json(changed)
        return
    count = len(changed["replicas"])
    state = f"loaded on {count} replica{'s' if count > 1 else ''}" if changed["is_loaded"] else "unloaded"
    out.print(f"{changed['model']}:{changed['name']}: {state}", highlight=False, markup=False)
