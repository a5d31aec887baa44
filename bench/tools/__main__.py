"""How well a model uses tools over HTTP: `python -m bench.tools [--cases N] [--seed N] [--url URL] [--json FILE]`.

OpenAI's SDK asks a `shoal up` of its own, or the instance at `--url`, greedily and in three ways (bench/tools/ways.py).
Counted are the right tool, all arguments exactly (in number, names, types and letters), and no call where no tool fits.
"""

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import openai

from bench.aim import Aim
from bench.aim import tree as aims_tree
from bench.command import command, ending, keep
from bench.tools.cases import Case, cases
from bench.tools.ways import Said, Way, by_choice, free_text, required
from cluster.demo.service import ended_by_signals, temporary_service
from cluster.environment import shoal_home
from cluster.settings import Settings
from replicas.tools.tool import object_of

RESULT = Path("bench/results/tools.json")
AT_ONCE = 4
DEADLINE_S = 300.0
RIGHT_AIM, EXACT_AIM = 0.90, 0.75
FREE, CHOICE = "free text, no grammar", "own choice, grammar"
WAYS: tuple[tuple[str, Way], ...] = (
    (FREE, free_text),
    (CHOICE, by_choice),
    ("call required, grammar", required),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case."""

    case: Case
    said: Said

    @property
    def is_right(self) -> bool:
        """The right tool, or none where none fits."""
        return (self.said.calls[0].name if self.said.calls else None) == self.case.tool

    @property
    def is_exact(self) -> bool:
        """The right tool once, with exactly the arguments that the text names; or none where none fits."""
        if not self.is_right or len(self.said.calls) > 1:
            return False
        return not self.said.calls or json.dumps(object_of(self.said.calls[0].arguments), sort_keys=True) == json.dumps(
            dict(self.case.arguments), sort_keys=True
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One way: shares of the `calls` cases that need a call, and of those that need none (None: not asked)."""

    way: str
    calls: int
    right: float
    exact: float
    no_tool: float | None
    time_s: float


def measure(client: openai.OpenAI, model: str, way: tuple[str, Way], asked: list[Case]) -> tuple[Row, list[Outcome]]:
    """Ask everything one way, AT_ONCE at a time. Where a call is required only what needs one is asked."""
    name, ask = way
    asked = [case for case in asked if case.tool is not None or ask is not required]
    began_s = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = list(pool.map(partial(ask, client, model), asked))
    outcomes = [Outcome(case, one) for case, one in zip(asked, said, strict=True)]
    calls = [one for one in outcomes if one.case.tool is not None]
    others = [one for one in outcomes if one.case.tool is None]
    row = Row(
        name,
        len(calls),
        right=sum(one.is_right for one in calls) / len(calls),
        exact=sum(one.is_exact for one in calls) / len(calls),
        no_tool=sum(one.is_right for one in others) / len(others) if others else None,
        time_s=time.monotonic() - began_s,
    )
    return row, outcomes


def table(rows: list[Row]) -> str:
    """For people."""
    lines = [f"{'':24} {'right tool':>10} {'arguments exact':>16} {'no tool seen':>13} {'s':>6}"]
    for row in rows:
        seen = "-" if row.no_tool is None else f"{row.no_tool:.0%}"
        lines.append(f"{row.way:24} {row.right:>10.0%} {row.exact:>16.0%} {seen:>13} {row.time_s:>6.0f}")
    return "\n".join([*lines, *map(str, aims(rows))])


def aims(rows: list[Row]) -> list[Aim]:
    """One for each claim: the model's own choice under its grammar is good, and better than what it says without one.

    "Better" is counted in cases, for at least one has to be gained.
    """
    by_way = {row.way: row for row in rows}
    free, choice = by_way[FREE], by_way[CHOICE]
    gained = round(choice.exact * choice.calls) - round(free.exact * free.calls)
    return [
        Aim(f"right tool, {CHOICE}", choice.right, RIGHT_AIM),
        Aim(f"arguments exact, {CHOICE}", choice.exact, EXACT_AIM),
        Aim(f"cases with exact arguments that the grammar gains, of {choice.calls}", gained, 1),
    ]


def tree(rows: list[Row], failures: dict[str, list[Outcome]], options: argparse.Namespace) -> dict[str, object]:
    """As JSON keeps it, with what went wrong."""
    return {
        "command": "python -m bench.tools",
        "cases": options.cases,
        "seed": options.seed,
        "rows": [asdict(row) for row in rows],
        "aims": aims_tree(aims(rows)),
        "failures": {
            way: [
                {
                    "request": one.case.request,
                    "offered": [tool.name for tool in one.case.tools],
                    "wanted": {"tool": one.case.tool, "arguments": dict(one.case.arguments)},
                    "said": asdict(one.said),
                }
                for one in outcomes
            ]
            for way, outcomes in failures.items()
        },
    }


@contextmanager
def service(url: str | None) -> Iterator[str]:
    """The instance to ask: the one at `url`, or one for the length of the block."""
    if url is not None:
        yield url
        return
    with ended_by_signals(), temporary_service(shoal_home(), Settings()) as own:
        yield own.url


def main() -> None:
    parser = command("bench.tools", "How well a model uses tools.", RESULT)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", help="a running instance; without it one is started")
    parser.add_argument("--model", help="default: the instance's first")
    options = parser.parse_args()
    asked, rows, failures = cases(options.cases, options.seed), [], {}
    with (
        service(options.url) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="local", timeout=DEADLINE_S) as client,
    ):
        model = options.model or client.models.list().data[0].id
        for way in WAYS:
            row, outcomes = measure(client, model, way, asked)
            rows.append(row)
            failures[way[0]] = [one for one in outcomes if not one.is_exact]
    print(f"{model}, {options.cases} cases, seed {options.seed}")
    print(table(rows))
    keep(tree(rows, failures, options), options.json)


if __name__ == "__main__":
    ending(main)
