"""`shoal doctor`: what is wrong with this machine, its packages, models and instances, and what mends it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import typer
from rich.table import Column, Table
from rich.text import Text

from cluster.console import err, out, print_json
from cluster.doctor import hardware, models, service, software
from cluster.doctor.finding import Check, Finding, State, examined, found
from cluster.doctor.providers import providers
from cluster.environment import shoal_home
from cluster.options import ConfigOption, JsonOption, PortOption
from cluster.planning import calibrations_root, models_root
from cluster.settings import Settings, load_settings
from replicas.bundled import NAME as BUNDLED_NAME
from replicas.errors import SettingsError
from replicas.host import Host
from replicas.slot.start.providers import available

_MARKS = {State.OK: ("ok", "green"), State.NOTE: ("note", "yellow"), State.PROBLEM: ("problem", "bold red")}


def doctor(config: ConfigOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Check this machine and say what mends it; exit status 1 if something is broken."""
    with err.status("looking ..."):
        findings = list(diagnosis(config, port))
    problems = [finding for finding in findings if finding.state is State.PROBLEM]
    if as_json:
        print_json({"is_sound": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    if problems:
        raise typer.Exit(1)


def diagnosis(config: Path | None, port: int | None) -> Iterator[Finding]:
    """Every finding, in the order of an installation: machine, software, providers, models, service."""
    settings = Settings()
    try:
        settings = load_settings(config)
    except SettingsError as error:
        yield found("software", "settings", str(error), "mend the file, `shoal config show` prints what it says")
    if port is not None:
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})
    yield from examined(checks(shoal_home(), settings))


def checks(home: Path, settings: Settings) -> tuple[Check, ...]:
    """All checks. Providers are tried with the bundled model where the store has it."""
    host = Host()
    bundled = models_root(home) / BUNDLED_NAME
    return (
        partial(hardware.cores, host),
        partial(hardware.instructions, host),
        partial(hardware.memory, host),
        partial(hardware.shared_memory, settings.ray.object_store_bytes),
        partial(hardware.disk, home),
        partial(hardware.gpu, frozenset(available())),
        software.python,
        software.packages,
        partial(providers, bundled if bundled.is_dir() else None),
        partial(models.models, home, settings),
        partial(models.calibrations, calibrations_root(home)),
        partial(service.port, home, settings),
        partial(service.instances, home),
    )


def _print(findings: list[Finding]) -> None:
    table = Table(*(Column(overflow="fold") for _ in range(4)), box=None, show_header=False)
    area = ""
    for finding in findings:
        word, style = _MARKS[finding.state]
        words = Text(finding.detail)
        if finding.fix:
            words.append(f"\n-> {finding.fix}", style)
        table.add_row(finding.area if finding.area != area else "", finding.name, Text(word, style), words)
        area = finding.area
    out.print(table)
    counts = Counter(finding.state for finding in findings)
    problems, notes = counts[State.PROBLEM], counts[State.NOTE]
    verdict = "everything works" if not problems else f"{problems} to mend"
    out.print(f"[bold]{verdict}[/]" + (f", {notes} worth knowing" if notes else ""))
