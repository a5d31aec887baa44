"""`shoal upstream`: the scripted upstream as a command."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from cluster.console import out, print_json_line
from cluster.options import JsonOption
from cluster.upstream.script import FaultEntry, Script, load_script, parsed_fault
from cluster.upstream.server import serving

DEFAULT_PORT = 9000


def upstream(
    script: Annotated[Path | None, typer.Option("--script", help="YAML; without it every question is echoed.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0: a free one.")] = DEFAULT_PORT,
    record: Annotated[
        Path | None, typer.Option("--record", help="Append every request to this file, keys and all.")
    ] = None,
    fault: Annotated[str | None, typer.Option("--fault", help="Fail each request so: 529, cut, {kind: ...}.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Play a cloud for tests: both protocols, answers and faults from a script. Ctrl-C ends it."""
    played = load_script(script) if script is not None else Script()
    if fault is not None:
        always = FaultEntry.model_validate(parsed_fault(fault, "--fault").model_dump())
        played = played.model_copy(update={"faults": (*played.faults, always)})
    asyncio.run(_serve(played, host, port, record, as_json))


async def _serve(script: Script, host: str, port: int, record: Path | None, as_json: bool) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(script, host, port, record) as running:
        if as_json:
            print_json_line({"url": running.url, "pid": os.getpid()})
        else:
            out.print(f"[bold green]The upstream is up[/] at [bold]{running.url}[/]")
            out.print(f"  ANTHROPIC_BASE_URL={running.url}   or   OPENAI_BASE_URL={running.url}/v1", highlight=False)
            out.print(f"  as OpenRouter: {running.url}/api/v1", highlight=False)
            out.print(f"  what it received: {running.url}/_upstream/requests", highlight=False)
        await stopped.wait()
