"""`shoal sessions`: a conversation's KV to a file, and from a file into a running instance."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO
from urllib.parse import quote

import httpx
import typer

from cluster.cli_talk import PortOption, Refused
from cluster.console import out, print_json
from cluster.environment import credentials
from cluster.options import DEFAULT_PORT, JsonOption, starting
from replicas.errors import SettingsError, Unavailable

TIMEOUT = httpx.Timeout(120.0, connect=5.0)
PIECE_BYTES = 1 << 20
HTTP_ERRORS = 400

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The session's id, as requests name it.")]
ServedModelOption = Annotated[str | None, typer.Option("--model", help="Which model's; default the default model.")]

sessions_app = typer.Typer(no_args_is_help=True, help="Conversations' KV, saved and loaded.")


@sessions_app.command("save")
def save(
    session_id: IdArgument,
    file: Annotated[Path, typer.Argument(help="Where to write it; replaced if it is there.")],
    port: PortOption = DEFAULT_PORT,
    model: ServedModelOption = None,
) -> None:
    """Write what is kept of a session to FILE."""
    part = file.with_name(file.name + ".part")
    try:
        with asked("GET", port, session_id, model) as answer, part.open("wb") as stream:
            for piece in answer.iter_bytes(PIECE_BYTES):
                stream.write(piece)
        part.replace(file)
    except OSError as error:
        raise SettingsError(f"cannot write {file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    out.print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


@sessions_app.command("load")
def load(
    session_id: IdArgument,
    file: Annotated[Path, typer.Argument(help="What `save` has written, here or elsewhere.")],
    port: PortOption = DEFAULT_PORT,
    model: ServedModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load FILE as session ID: its next turn goes on from there. The model must be the same one."""
    try:
        with file.open("rb") as stream, asked("PUT", port, session_id, model, pieces(stream)) as answer:
            loaded = answer.json()
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    if as_json:
        print_json(loaded)
    else:
        out.print(f"{session_id}: {loaded['tokens']} tokens")


@contextmanager
def asked(
    method: str, port: int, session_id: str, model: str | None, content: Iterator[bytes] | None = None
) -> Iterator[httpx.Response]:
    """The answer of the instance on `port`, its body not read yet if it is a GET. Raises Unavailable, Refused."""
    url = f"http://127.0.0.1:{port}"
    path = f"{url}/v1/sessions/{quote(session_id, safe='')}/kv"
    try:
        with (
            httpx.Client(timeout=TIMEOUT, trust_env=False, headers=credentials()) as client,
            client.stream(method, path, params={"model": model} if model else None, content=content) as answer,
        ):
            if answer.status_code >= HTTP_ERRORS or method != "GET":
                answer.read()
            if answer.status_code >= HTTP_ERRORS:
                raise Refused(words(answer))
            yield answer
    except httpx.TransportError as error:
        raise Unavailable(f"a service at {url}", starting(port)) from error


def words(answer: httpx.Response) -> str:
    """The service's own message."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}: {answer.text[:500]}"


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """What is left in `stream`, piece by piece."""
    while piece := stream.read(PIECE_BYTES):
        yield piece
