"""`shoal route explain`: who would answer a request, by the settings alone; nothing has to run, no model is loaded.

It decides with the code that the service decides with, and by the keys of clouds in its own environment. What only
the running service knows it does not: how fast models have been, and by how many tokens exactly a prompt is too long
for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, time
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from cluster import cli_route_learn
from cluster.console import out, print_json
from cluster.options import ConfigOption, JsonOption
from cluster.route_request import call_of_body, call_of_prompt
from cluster.rulebook import rulebook_of, without_keys
from cluster.settings import load_settings
from replicas.errors import SettingsError
from router.call import Call
from router.origin import origin_of
from router.policy.condition import BUDGETS
from router.policy.decide import Policy
from router.policy.decision import Decision
from router.policy.explain import lines, tree

route_app = typer.Typer(no_args_is_help=True, help="Who answers a request, and why.")
route_app.command("train")(cli_route_learn.train)
route_app.command("evaluate")(cli_route_learn.evaluate)
route_app.command("report")(cli_route_learn.report)
HeaderOption = Annotated[list[str] | None, typer.Option("--header", help="NAME: VALUE, as the request would have it.")]
GivenOption = Annotated[
    list[str] | None,
    typer.Option("--given", help="NAME=VALUE: model, max_tokens, image (yes), budget (ok, low, spent), time (HH:MM)."),
]
BodyOption = Annotated[Path | None, typer.Option("--body", help="A request's JSON body, of either protocol.")]


@route_app.command("explain")
def explain(
    prompt: Annotated[str, typer.Argument(help="What the user says.")] = "",
    header: HeaderOption = None,
    given: GivenOption = None,
    body: BodyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which rule decides, what it sees, who answers, who loses and why; exit status 1 if nobody answers."""
    settings = load_settings(config)
    rules = rulebook_of(settings)
    scene = Scene.of(given or [])
    headers = _headers(header or [])
    call = scene.applied(call_of_prompt(prompt) if body is None else _read(body, headers))
    policy = Policy(rules.routing, without_keys(settings), scene.now, rules.is_limited, sees_all=True)
    decision = policy.decide(replace(call, origin=origin_of(headers)), scene.budget)
    _tell(decision, as_json=as_json)
    if not decision.route:
        raise typer.Exit(1)


def _tell(decision: Decision, *, as_json: bool) -> None:
    if as_json:
        print_json(tree(decision))
        return
    for line in lines(decision):
        out.print(line, markup=False, highlight=False)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is assumed of the request and of the moment."""

    model: str | None = None
    max_tokens: int | None = None
    has_image: bool = False
    budget: str = "ok"
    at: time | None = None

    @classmethod
    def of(cls, given: list[str]) -> "Scene":
        """Read `NAME=VALUE`s. Raises SettingsError."""
        told = dict(_pair(one, "=") for one in given)
        try:
            found = cls(
                model=told.pop("model", None),
                max_tokens=int(told.pop("max_tokens")) if "max_tokens" in told else None,
                has_image=told.pop("image", "no") == "yes",
                budget=told.pop("budget", "ok"),
                at=time.fromisoformat(told.pop("time")) if "time" in told else None,
            )
        except ValueError as error:
            raise SettingsError(f"--given: {error}") from error
        if told or found.budget not in BUDGETS:
            raise SettingsError(f"--given: {next(iter(told), 'budget')!r} is none of what `--help` names")
        return found

    def applied(self, call: Call) -> Call:
        """`call` as this has it."""
        max_tokens = call.sampling.max_tokens if self.max_tokens is None else self.max_tokens
        return replace(
            call,
            model=self.model or call.model,
            sampling=replace(call.sampling, max_tokens=max_tokens),
            has_image=self.has_image or call.has_image,
        )

    def now(self, zone: ZoneInfo) -> datetime:
        """The moment of the decision."""
        now = datetime.now(zone)
        return now if self.at is None else datetime.combine(now.date(), self.at, zone)


def _read(path: Path, headers: Mapping[str, str]) -> Call:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    return call_of_body(body, headers, str(path))


def _headers(written: list[str]) -> dict[str, str]:
    return {name.lower(): value for name, value in (_pair(one, ":") for one in written)}


def _pair(written: str, between: str) -> tuple[str, str]:
    name, found, value = written.partition(between)
    if not found or not name.strip():
        raise SettingsError(f"{written!r} is not NAME{between}VALUE")
    return name.strip(), value.strip()
