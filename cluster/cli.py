"""The `shoal` command. Each command is a few lines round a function that a test can call.

Commands print for people, or JSON with `--json`; a ShoalError becomes one line on stderr and exit status 1.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cluster import cli_costs, cli_demo, cli_doctor, cli_status, cli_talk, cli_upstream, instance, up
from cluster.cli_adapters import adapters_app
from cluster.cli_experiments import experiments_app
from cluster.cli_keys import keys_app
from cluster.cli_models import models_app
from cluster.cli_route import route_app
from cluster.cli_sessions import sessions_app
from cluster.cli_swarm import swarm_app
from cluster.console import err, out, print_json
from cluster.environment import shoal_home
from cluster.options import ConfigOption, JsonOption, ModelOption, PortOption, port_flag
from cluster.rulebook import rulebook_of
from cluster.settings import ModelSettings, Settings, load_settings, validated
from replicas.errors import ShoalError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="One hybrid LLM service over any set of machines, and swarms of agents on it.",
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(no_args_is_help=True, help="The settings.")
app.command()(cli_talk.run)
app.command()(cli_talk.chat)
app.command()(cli_status.status)
app.command()(cli_doctor.doctor)
app.command()(cli_costs.costs)
app.command()(cli_demo.demo)
app.command()(cli_upstream.upstream)
app.add_typer(adapters_app, name="adapters")
app.add_typer(config_app, name="config")
app.add_typer(experiments_app, name="experiments")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(route_app, name="route")
app.add_typer(sessions_app, name="sessions")
app.add_typer(swarm_app, name="swarm")


def effective_settings(config: Path | None, port: int | None, model: str | None) -> Settings:
    """The settings of a file with the command line's choices on top. Raises SettingsError."""
    settings = load_settings(config)
    changes: dict[str, object] = {}
    if port is not None:
        changes["http"] = {**settings.http.model_dump(), "port": port}
    if model is not None:
        known = [m for m in settings.models if m.name == model]
        changes["models"] = [m.model_dump() for m in known or [ModelSettings(name=model)]]
        changes["default_model"] = None
    return validated({**settings.model_dump(), **changes}, "command line")


@app.command("up")
def up_command(
    config: ConfigOption = None,
    port: PortOption = None,
    model: ModelOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when /ready is 200.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let other machines in without a key.")] = False,
) -> None:
    """Start the service here. Ctrl-C ends it."""
    settings = effective_settings(config, port, model)
    home = shoal_home()
    if not insecure:
        up.require_keys(settings, home)
    if not detach:
        err.print("starting ...")
        up.run_foreground(settings, home, greet)
        err.print("stopped")
        return
    given = {"--config": config, "--port": settings.http.port, "--model": model}
    arguments = [part for flag, value in given.items() if value is not None for part in (flag, str(value))]
    arguments += ["--insecure"] if insecure else []
    with err.status("starting ..."):
        started = up.run_detached(arguments, home, settings.http.host, settings.http.port)
    greet(started)


def greet(started: instance.Instance) -> None:
    """Say where the service is and what to try."""
    url, port = started.url, started.port
    flag = port_flag(port)
    out.print(f"[bold green]Shoal is up[/] at [bold]{url}[/]  (process {started.pid})")
    out.print(f'  shoal run{flag} "Tell me the capital of France."')
    out.print(f"  shoal chat{flag}")
    out.print(f"  shoal status{flag}")
    out.print(f"  ANTHROPIC_BASE_URL={url}   or   OPENAI_BASE_URL={url}/v1", highlight=False)
    out.print(f"  shoal down{flag}")


@app.command()
def down(port: PortOption = None, config: ConfigOption = None) -> None:
    """End the instance on a port, and only that one."""
    home = shoal_home()
    wanted = effective_settings(config, port, None).http.port
    found = instance.find(home, wanted)
    if found is None:
        others = ", ".join(str(i.port) for i in instance.running(home))
        err.print(f"no Shoal instance on port {wanted}" + (f"; running on: {others}" if others else ""))
        raise typer.Exit(1)
    with err.status("stopping ..."):
        was_clean = instance.stop(home, found)
    out.print(f"stopped the instance on port {wanted}" + ("" if was_clean else " (it had to be killed)"))


@config_app.command("show")
def config_show(
    config: ConfigOption = None, port: PortOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Print the settings that `up` with the same options would use, if it would take them."""
    import yaml

    settings = effective_settings(config, port, model)
    rulebook_of(settings)
    tree = settings.model_dump(mode="json")
    if as_json:
        print_json(tree)
    else:
        sys.stdout.write(yaml.safe_dump(tree, sort_keys=False))


def main() -> None:
    """The entry point: errors that we raise on purpose are told in one line."""
    try:
        app()
    except ShoalError as error:
        err.print(Text.assemble(("error: ", "bold red"), str(error)))  # a message is no markup
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
