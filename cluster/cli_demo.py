"""`shoal demo`: eight or more agents on one local model, over real files, watched live."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli_models import Bar
from cluster.console import err, out, print_json
from cluster.demo.board import Board
from cluster.demo.documents import folder_sources, passages, repository_sources
from cluster.demo.report import report, totals
from cluster.demo.run import run
from cluster.demo.service import Ended, ended_by_signals, temporary_service
from cluster.demo.tally import Tally
from cluster.environment import shoal_home
from cluster.options import JsonOption
from cluster.planning import models_root
from replicas.bundled import ensure_bundled
from replicas.errors import InvalidRequest
from replicas.store import ModelStore

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_REPORT = Path("shoal-demo-report.md")

FolderOption = Annotated[
    Path | None, typer.Option("--dir", help="Folder of text files to read; default this project's own documents.")
]
ReportOption = Annotated[Path, typer.Option("--report", help="Where the report goes.")]
RunningOption = Annotated[
    int | None, typer.Option("--port", help="Use the instance that runs on this port, instead of starting one.")
]


def demo(
    folder: FolderOption = None,
    report_file: ReportOption = DEFAULT_REPORT,
    port: RunningOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a swarm of agents sum up real files on a local model, and report what it took."""
    _check_writable(report_file)
    read = passages(folder_sources(folder) if folder is not None else repository_sources(REPOSITORY))
    console = err if as_json else out
    try:
        with ended_by_signals(), _service(port, console) as url:
            console.print(f"{len(read)} agents read {_from(folder)}; the model answers all of them in shared batches")
            board, tally = run(url, read, console)
    except Ended as ended:
        err.print("interrupted; nothing is left running" if port is None else "interrupted; the job is cancelled")
        sys.exit(ended.exit_status)
    report_file.write_text(report(tally, board.agents, read, datetime.now(UTC)), "utf-8")
    _tell(tally, report_file, as_json)
    if tally.failed:
        err.print(f"{tally.failed} of {tally.agents} agents failed: {_cause(board)}")
        raise typer.Exit(1)


@contextmanager
def _service(port: int | None, console: Console) -> Iterator[str]:
    """The URL of the instance on `port`, or of one that lives as long as this context."""
    if port is not None:
        yield f"http://127.0.0.1:{port}"
        return
    home = shoal_home()
    with Bar() as bar:
        model = ensure_bundled(ModelStore(models_root(home)), progress=bar.show)
    console.print(f"starting a cluster on this machine with {model.name} ...")
    with temporary_service(home, on_stop=lambda: console.print("stopping the cluster ...")) as started:
        console.print(f"it is up at {started.url}")
        yield started.url


def _check_writable(path: Path) -> None:
    """Raises InvalidRequest now rather than after a minute of work."""
    try:
        with path.open("a"):
            pass
    except OSError as error:
        raise InvalidRequest(f"cannot write the report to {path}: {error.strerror}") from error
    if path.stat().st_size == 0:
        path.unlink()


def _tell(tally: Tally, report_file: Path, as_json: bool) -> None:
    if as_json:
        print_json({**tally.tree(), "report": str(report_file)})
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in totals(tally):
        table.add_row(f"[bold]{name}[/]", value)
    out.print()
    out.print(table)
    out.print(f"report: {report_file}", highlight=False)


def _from(folder: Path | None) -> str:
    return "this project's own documents" if folder is None else str(folder)


def _cause(board: Board) -> str:
    return board.error or next((agent.error for agent in board.agents if agent.error), "they have no output")
