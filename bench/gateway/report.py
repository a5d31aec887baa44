"""The results as a table for people and as a tree for JSON, each with what was aimed at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.aim import Aim
from bench.aim import tree as aims_tree
from bench.gateway.measure import LATENCIES, RATES, Figures, added, medians
from bench.gateway.side import DIRECT, LITELLM, SHOAL

ADDED_AIM, RATE_AIM = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of every side by round, what each is by name and version, and why one is missing."""

    rounds: Mapping[str, Sequence[Figures]]
    versions: Mapping[str, str]
    notes: Sequence[str] = field(default=())

    @property
    def medians(self) -> dict[str, Figures]:
        """Of each side."""
        return {name: medians(rounds) for name, rounds in self.rounds.items()}

    @property
    def added(self) -> dict[str, Figures]:
        """Of each gateway."""
        return {name: added(self.rounds, name) for name in self.rounds if name != DIRECT}

    @property
    def unmeasured(self) -> list[str]:
        """What has an aim and could not be told from noise, in words."""
        theirs = self.added.get(LITELLM, {})
        return [f"added {name}: not measurable, LiteLLM adds none" for name, ms in theirs.items() if ms <= 0]

    def aims(self) -> Iterator[Aim]:
        """Those whose figures were measured: where LiteLLM adds nothing that noise does not hide there is no ratio."""
        if LITELLM not in self.rounds:
            return
        ours, theirs = self.added[SHOAL], self.added[LITELLM]
        for name in [name for name in ours if theirs[name] > 0]:
            yield Aim(f"added {name}, Shoal / LiteLLM", ours[name] / theirs[name], ADDED_AIM, is_ceiling=True)
        here, there = self.medians[SHOAL], self.medians[LITELLM]
        for name in [name for name in here if name.startswith(RATES)]:
            yield Aim(f"{name}, Shoal / LiteLLM", here[name] / there[name], RATE_AIM)


def table(result: Result) -> str:
    """For people. Of latencies also what a gateway adds."""
    medians_, added_, sides = result.medians, result.added, list(result.rounds)
    lines = [f"{'':32}" + "".join(f"{name:>12}" for name in sides)]
    for name in medians_[sides[-1]]:
        lines.append(f"{name:32}" + "".join(_cell(medians_[side].get(name)) for side in sides))
        if name.startswith(LATENCIES):
            cells = (_cell(added_[side][name]) if side in added_ else " " * 12 for side in sides)
            lines.append(f"{'  added':32}" + "".join(cells))
    lines += [f"{name}: {version}" for name, version in result.versions.items()]
    return "\n".join([*lines, *result.notes, *result.unmeasured, *map(str, result.aims())])


def tree(result: Result) -> dict[str, object]:
    """For JSON."""
    return {
        "versions": dict(result.versions),
        "notes": [*result.notes, *result.unmeasured],
        "medians": result.medians,
        "added": result.added,
        "rounds": {name: list(rounds) for name, rounds in result.rounds.items()},
        "aims": aims_tree(result.aims()),
    }


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:,.2f}':>12}"
