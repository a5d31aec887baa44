"""`shoal status`: what runs on this machine, what its engines do, what memory its processes hold."""

from dataclasses import dataclass
from typing import Annotated

import httpx
import psutil
import typer
from rich.table import Table

from cluster import instance
from cluster.console import out, print_json
from cluster.environment import shoal_home
from cluster.options import JsonOption, PortOption
from replicas.errors import Unavailable

HTTP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """One instance: its record, what /status says (None if it does not answer), its processes."""

    instance: instance.Instance
    service: dict[str, object] | None
    processes: list[dict[str, object]]

    def tree(self) -> dict[str, object]:
        """As JSON prints it. `shoal_engine_slots_used` is the sum over every replica."""
        return {
            "url": self.instance.url,
            "port": self.instance.port,
            "pid": self.instance.pid,
            "is_answering": self.service is not None,
            "shoal_engine_slots_used": sum(number(e, "slots_used") for _, e in self.engines()),
            "service": self.service,
            "processes": self.processes,
        }

    def engines(self) -> list[tuple[str, dict[str, object]]]:
        """Model and engine state of each replica."""
        pools = (self.service or {}).get("pools")
        rows: list[tuple[str, dict[str, object]]] = []
        for pool in pools if isinstance(pools, list) else []:
            rows.extend((str(pool["model"]), engine) for engine in pool["replicas"].values())
        return rows


def number(engine: dict[str, object], key: str) -> float:
    """A figure of an engine's state."""
    value = engine.get(key)
    return value if isinstance(value, int | float) else 0


def status(
    port: PortOption = None,
    as_json: JsonOption = False,
    processes: Annotated[bool, typer.Option("--processes", help="Show every process and its memory.")] = False,
) -> None:
    """Show the instances of this machine; exit status 1 if there is none."""
    found = [i for i in instance.running(shoal_home()) if port in (None, i.port)]
    reports = [report(i) for i in found]
    if as_json:
        print_json([r.tree() for r in reports])
    elif not reports:
        where = "" if port is None else f" on port {port}"
        out.print(f"no Shoal instance is running{where}; `shoal up` starts one")
    for r in [] if as_json else reports:
        _print(r, processes)
    if not reports:
        raise typer.Exit(1)


def report(found: instance.Instance) -> Report:
    """Ask `found` what it is doing."""
    try:
        answer = httpx.get(f"{found.url}/status", timeout=HTTP_TIMEOUT_S, trust_env=False)
        service = answer.json() if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError):
        service = None
    return Report(found, service, memory(found))


def memory(found: instance.Instance) -> list[dict[str, object]]:
    """Every process of an instance with its memory, the largest first.

    `unique_bytes` is what would be freed if it ended (USS); `resident_bytes` counts shared pages too.
    """
    process = found.process()
    if process is None:
        raise Unavailable(f"the instance on port {found.port}")
    rows: list[dict[str, object]] = []
    for member in [process, *process.children(recursive=True)]:
        try:
            usage = member.memory_full_info()
            name = " ".join(member.cmdline())[:60] or member.name()
        except psutil.Error:
            continue
        rows.append({"pid": member.pid, "name": name, "unique_bytes": usage.uss, "resident_bytes": usage.rss})
    return sorted(rows, key=lambda row: -int(str(row["unique_bytes"])))


def _print(r: Report, with_processes: bool) -> None:
    state = "" if r.service is not None else "  [yellow]not answering[/]"
    total_mb = sum(int(str(p["unique_bytes"])) for p in r.processes) / 1e6
    out.print(f"[bold]{r.instance.url}[/]  process {r.instance.pid}, {total_mb:.0f} MB in all{state}")
    table = Table("model", "engine", "provider", "slots used", "queued", "KV", "tokens out", box=None)
    for model, e in r.engines():
        slots = f"{number(e, 'slots_used'):.0f} of {number(e, 'slots'):.0f}"
        kv = f"{number(e, 'kv_used_ratio'):.0%}"
        tokens = f"{number(e, 'generated_tokens_total'):.0f}"
        queued = f"{number(e, 'queued'):.0f}"
        table.add_row(model, str(e.get("engine")), str(e.get("provider")), slots, queued, kv, tokens)
    out.print(table)
    if with_processes:
        listing = Table("pid", "process", "own MB", "resident MB", box=None)
        for p in r.processes:
            own, resident = (f"{int(str(p[key])) / 1e6:.0f}" for key in ("unique_bytes", "resident_bytes"))
            listing.add_row(str(p["pid"]), str(p["name"]), own, resident)
        out.print(listing)
