"""`shoal swarm ...`: run swarms from YAML files and look after their jobs, on a service that is up."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.client import Client, Job
from cluster.console import err, out
from cluster.swarm.job_view import JobStatus, JobView
from cluster.swarm.progress import Progress
from cluster.swarm.source import load_swarm
from cluster.swarm.wire import EVENT, JOB
from replicas.errors import ShoalError

DEFAULT_PORT = 8000
INTERRUPTED = 130  # what shells report for Ctrl-C

swarm_app = typer.Typer(no_args_is_help=True, help="Swarms of agents as jobs.")

UrlOption = Annotated[str | None, typer.Option("--url", help="The service; default the instance on --port.")]
PortOption = Annotated[int, typer.Option("--port", help="Port of the instance on this machine.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


@swarm_app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The swarm.")],
    url: UrlOption = None,
    port: PortOption = DEFAULT_PORT,
    as_json: JsonOption = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Follow the job to its end.")] = True,
) -> None:
    """Submit a swarm and follow it. Ctrl-C cancels the job. Exit 1 if it does not succeed."""
    spec = load_swarm(file)
    with _client(url, port) as client:
        job = client.submit(spec)
        if not follow:
            _print_view(job.view(), as_json)
            return
        with _cancelled_by_interrupt(job):
            view = _follow(job, as_json)
        _print_view(view, as_json)
        if view.status is not JobStatus.SUCCEEDED:
            raise typer.Exit(1)


@swarm_app.command()
def status(
    job_id: IdArgument, url: UrlOption = None, port: PortOption = DEFAULT_PORT, as_json: JsonOption = False
) -> None:
    """Show a job, and its outputs once it is over."""
    with _client(url, port) as client:
        _print_view(client.job(job_id).view(), as_json)


@swarm_app.command()
def events(
    job_id: IdArgument, url: UrlOption = None, port: PortOption = DEFAULT_PORT, as_json: JsonOption = False
) -> None:
    """Follow a job to its end. Ctrl-C stops looking; the job goes on."""
    with _client(url, port) as client:
        view = _follow(client.job(job_id), as_json)
        if not as_json:
            _print_view(view, as_json, outputs=False)


@swarm_app.command()
def cancel(
    job_id: IdArgument, url: UrlOption = None, port: PortOption = DEFAULT_PORT, as_json: JsonOption = False
) -> None:
    """End a job. What its agents have finished stays."""
    with _client(url, port) as client:
        job = client.job(job_id)
        job.cancel()
        _print_view(job.view(), as_json, outputs=False)


@swarm_app.command("list")
def list_jobs(url: UrlOption = None, port: PortOption = DEFAULT_PORT, as_json: JsonOption = False) -> None:
    """The latest jobs, newest first."""
    with _client(url, port) as client:
        views = client.jobs()
    if as_json:
        for view in views:
            _print_line(JOB.dump_json(view))
        return
    table = Table("id", "name", "status", "done", "errors", "tokens", box=None)
    for view in views:
        done = f"{view.counts.succeeded + view.counts.failed}/{view.total}"
        errors, tokens = str(view.counts.failed), str(view.usage.generated)
        table.add_row(view.id, Text(view.name or ""), view.status.value, done, errors, tokens)
    out.print(table)


def _client(url: str | None, port: int) -> Client:
    return Client(url or f"http://127.0.0.1:{port}")


@contextmanager
def _cancelled_by_interrupt(job: Job) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"interrupted: cancelling {job.id} ...")
        try:
            job.cancel()
            counts = job.view().counts
        except ShoalError as error:
            err.print(f"it may still run: {error}; `shoal swarm cancel {job.id}` ends it", markup=False)
        else:
            err.print(f"{job.id} is over: {counts.succeeded} agents had finished")
        raise typer.Exit(INTERRUPTED) from None


def _follow(job: Job, as_json: bool) -> JobView:
    view = job.view()
    progress = Progress(job.id, view.roles, view.total)
    if as_json:
        for event in job.events():
            _print_line(EVENT.dump_json(event))
    else:
        with Live(progress, console=err, refresh_per_second=8, transient=True):
            for event in job.events():
                progress.note(event)
    return job.view()


def _print_view(view: JobView, as_json: bool, *, outputs: bool = True) -> None:
    if as_json:
        _print_line(JOB.dump_json(view))
        return
    for output in view.outputs if outputs else ():
        out.print(Text(f"── {output.role} on item {output.item}", style="bold"))
        out.print(Text(output.text if output.error is None else f"error: {output.error}"))
    done = view.counts.succeeded + view.counts.failed
    reason = f" ({view.error})" if view.error and view.error != view.status else ""
    words = f"{view.id} {view.status}{reason}: {done} of {view.total} done, {view.counts.failed} with an error, "
    err.print(words + f"{view.usage.generated} tokens", markup=False, highlight=False)


def _print_line(document: bytes) -> None:
    typer.echo(document.decode())
