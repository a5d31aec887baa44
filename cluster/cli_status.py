"""`shoal status`: what runs on this machine, what its engines do, what memory its processes hold.

With `--watch` it looks again and again and tells what happened in between, until Ctrl-C.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live

from cluster import instance
from cluster.console import out, print_json, print_json_line
from cluster.environment import shoal_home
from cluster.options import JsonOption, PortOption, starting
from cluster.status.rates import RatesByReplica, rates_between
from cluster.status.report import Report, report
from cluster.status.view import view

WATCH_S = 2.0


def status(
    seconds: Annotated[float, typer.Argument(min=0.1, help="With --watch: how often to look.")] = WATCH_S,
    port: PortOption = None,
    as_json: JsonOption = False,
    processes: Annotated[bool, typer.Option("--processes", help="Show every process and its memory.")] = False,
    is_watched: Annotated[bool, typer.Option("--watch", help="Look again every SECONDS, with rates.")] = False,
) -> None:
    """Show the instances of this machine; exit status 1 if there is none."""
    reports = look(port)
    if is_watched and reports:
        watch(reports, port, seconds, as_json=as_json, with_processes=processes)
        return
    if as_json:
        print_json([r.tree() for r in reports])
    elif reports:
        out.print(view(reports, {}, with_processes=processes))
    else:
        where = "" if port is None else f" on port {port}"
        out.print(f"no Shoal instance is running{where}; {starting(port)}")
    if not reports:
        raise typer.Exit(1)


def look(port: int | None) -> list[Report]:
    """Every instance, or the one on `port`."""
    return [report(i) for i in instance.running(shoal_home()) if port in (None, i.port)]


def watch(first: list[Report], port: int | None, every_s: float, *, as_json: bool, with_processes: bool) -> None:
    """Show what happens after `first` until Ctrl-C, or until no instance is left."""
    try:
        if as_json:
            for reports, rates in changes(first, port, every_s):
                print_json_line(line(reports, rates))
            return
        with Live(view(first, {}, with_processes=with_processes), console=out, auto_refresh=False) as live:
            for reports, rates in changes(first, port, every_s):
                live.update(view(reports, rates, with_processes=with_processes), refresh=True)
    except KeyboardInterrupt:
        return


def changes(before: list[Report], port: int | None, every_s: float) -> Iterator[tuple[list[Report], RatesByReplica]]:
    """A look every `every_s`, and what happened since the one before; ends when no instance is left."""
    while before:
        time.sleep(every_s)
        now = look(port)
        yield now, rates_between(before, now)
        before = now


def line(reports: Sequence[Report], rates: RatesByReplica) -> dict[str, object]:
    """One look as JSON."""
    told = [{"model": model, "replica": replica, **asdict(r)} for (model, replica), r in rates.items()]
    return {"instances": [r.tree() for r in reports], "rates": told}
