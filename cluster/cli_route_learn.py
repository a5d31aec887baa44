"""`shoal route train | evaluate | report`: learn who will do, and see what that is worth. No instance has to run.

What is learned from is the journal of decisions with the scores that callers gave, or a file of labelled requests
(cluster/route_cases.py).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cluster.cli_route_tables import frontier_table, savings_table, values_table
from cluster.console import err, out, print_json
from cluster.environment import shoal_home
from cluster.options import ConfigOption, JsonOption
from cluster.planning import store_address
from cluster.route_cases import cases_in, cloud_quality_in, examples_in, labelled
from cluster.route_plot import draw
from cluster.routing import routing_of
from cluster.settings import Settings, load_settings
from replicas.errors import SettingsError
from router.learned.cloud_quality import CloudBy, cloud_quality
from router.learned.examples import Heard, examples_of, logged_of, most_scored
from router.learned.frontier import Cases, estimated, served
from router.learned.model import Model, read_model, write_model
from router.learned.offpolicy import Log
from router.learned.scores import scored
from router.learned.training import train as trained
from router.policy.rule import Routing
from router.store import open_store

DataOption = Annotated[Path | None, typer.Option("--data", help="Labelled requests (JSON lines), not the journal.")]
SinceOption = Annotated[
    datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="First day of the journal, UTC; default all.")
]
FileOption = Annotated[
    Path | None, typer.Option("--model-file", help="The trained model; default `routing.learned.model_file`.")
]
ThresholdOption = Annotated[float | None, typer.Option("--threshold", min=0, max=1, help="Default as in the settings.")]

CLOUD_BY: Mapping[CloudBy, str] = {
    "labels": "on the same requests",
    "odds": "on requests like those that the local model was scored on, by the odds in the journal",
    "mean": "the plain mean of what was sent there, which may be harder than what the local model was scored on: "
    "routing.learned.explore would tell",
    "assumed": "taken for granted: none of its answers was scored",
}
OF_CLOUD = {"cloud_quality", "cloud_by"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a command learns from: the settings, and the part of the journal."""

    settings: Settings
    routing: Routing
    since: datetime | None

    @classmethod
    def of(cls, config: Path | None, since: datetime | None) -> "Source":
        """Raises SettingsError."""
        settings = load_settings(config)
        return cls(settings, routing_of(settings), since)

    def heard(self) -> Heard:
        """What the journal says of how good answers were. Raises Unavailable, SettingsError."""
        at = 0.0 if self.since is None else self.since.replace(tzinfo=UTC).timestamp()
        store = open_store(store_address(self.settings, shoal_home()))
        try:
            return Heard.of(store.decisions.since(at))
        finally:
            store.close()

    def log(self, model: Model) -> tuple[Log, int]:
        """What of the journal says how policies compare that `model` did not learn from; and how much it may have
        learned from. Raises Unavailable, SettingsError."""
        entries = self.heard().entries
        later = [one for one in entries if one.at > model.file.until]
        try:
            return Log.of(list(logged_of(later, self.is_cloud))), len(entries) - len(later)
        except SettingsError as error:
            learned = f"{len(entries) - len(later)} decisions that the model may have learned from are left out"
            raise SettingsError(f"{learned}; of later ones {error}") from error

    def is_cloud(self, name: str) -> bool:
        """A name that is not known any more is a cloud's if it looks like one."""
        known = self.routing.candidate(name)
        return "/" in name if known is None else not known.is_local

    def model(self, file: Path | None) -> Model:
        """The trained model. Raises SettingsError."""
        return read_model(file or self.model_file("--model-file"))

    def model_file(self, option: str) -> Path:
        """Where the settings say it is. Raises SettingsError."""
        if self.routing.learning is None:
            raise SettingsError(f"which file? give {option}, or set routing.learned.model_file")
        return self.routing.learning.model_file

    def threshold(self, model: Model, wanted: float | None) -> float:
        """Where local begins: as asked for, else as a service with these settings has it."""
        learned = self.settings.routing.learned
        set_to = learned.threshold if wanted is None else wanted
        return model.threshold_for(learned.quality) if set_to is None else set_to


def train(
    out_file: Annotated[Path | None, typer.Option("--out", help="Default `routing.learned.model_file`.")] = None,
    data: DataOption = None,
    local: Annotated[str | None, typer.Option("--local", help="The local model; default: who was scored most.")] = None,
    since: SinceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn from scores which requests the local model will do. A running service takes the new file up by itself."""
    source = Source.of(config, since)
    target = out_file or source.model_file("--out")
    model = _trained(source, data, local)
    write_model(model, target)
    threshold = model.threshold_for(source.settings.routing.learned.quality)
    name, summary = model.file.local, model.file.summary
    if as_json:
        told = {"file": str(target), "local": name, "hash": model.file.digest, "threshold": threshold}
        print_json({**told, **summary.model_dump()})
        return
    out.print(
        f"{target}: will {name} do? From {summary.examples} examples, of which it did {summary.good_share:.0%}\n"
        f"held out: Brier {summary.brier:.3f} (the share alone {summary.brier_of_share:.3f}), ECE {summary.ece:.3f}, "
        f"AUC {summary.auc:.3f}\n{of_cloud(model)}",
        highlight=False,
        markup=False,
    )
    if threshold > 1:
        err.print("no threshold keeps routing.learned.quality: nothing would go to the local model", markup=False)


def of_cloud(model: Model) -> str:
    """What a model takes the cloud's quality to be, and how that is known."""
    summary = model.file.summary
    told = f"{summary.cloud_quality:.3f}, {CLOUD_BY[summary.cloud_by]}"
    return f"the cloud's quality, which the threshold for routing.learned.quality goes by: {told}"


def _trained(source: Source, data: Path | None, local: str | None) -> Model:
    first = next(one.name for one in source.routing.candidates if one.is_local)
    if data is not None:
        requests = labelled(data, source.routing)
        return trained(examples_in(requests), local or first, cloud_quality_in(requests))
    heard = source.heard()
    name = local or most_scored(heard.entries, source.is_cloud) or first
    until = max((one.at for one in heard.entries), default=0.0)
    return trained(list(examples_of(heard, name)), name, cloud_quality(heard.entries, source.is_cloud), until)


def evaluate(
    model_file: FileOption = None,
    data: DataOption = None,
    threshold: ThresholdOption = None,
    since: SinceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the learned policy would get: on labelled requests, or estimated from what the journal left to chance."""
    source = Source.of(config, since)
    model = source.model(model_file)
    at = source.threshold(model, threshold)
    if data is None:
        _from_journal(source, model, at, as_json=as_json)
        return
    cases = Cases(cases_in(labelled(data, source.routing), source.routing, data))
    told = model.probabilities(cases.traits)
    scores, opinions = scored(told, cases.local), cases.opinions(model, at)
    abstained = sum(one.abstains for one in opinions) / len(opinions)
    savings = cases.savings(told, source.settings.routing.learned.quality)
    if as_json:
        by_name = {name: asdict(one) for name, one in savings.items()}
        print_json({"threshold": at, "abstained": abstained, **asdict(scores), "savings": by_name})
        return
    out.print(
        f"{scores.examples} requests, of which the local model did {scores.good_share:.0%}: Brier {scores.brier:.3f} "
        f"(the share alone {scores.brier_of_share:.3f}), ECE {scores.ece:.3f}, AUC {scores.auc:.3f}; at {at:.2f} it "
        f"abstains from {abstained:.0%}",
        highlight=False,
        markup=False,
    )
    out.print(savings_table(savings, source.settings.routing.learned.quality))


def _from_journal(source: Source, model: Model, threshold: float, *, as_json: bool) -> None:
    log, learned_from = source.log(model)
    quality, cost = log.expected_quality(), log.expected_cost()
    told = model.probabilities(log.traits)
    policies = {
        f"learned, p >= {threshold:.2f}": (told >= threshold).astype(float),
        "learned, as set, or as logged": served(log, model, threshold),
        "all local": np.ones(len(told)),
        "all cloud": np.zeros(len(told)),
    }
    values = {
        name: (log.value(picks, log.quality, quality), log.value(picks, log.cost_usd, cost))
        for name, picks in policies.items()
    }
    if as_json:
        by_name = {name: {"quality": asdict(good), "cost_usd": asdict(usd)} for name, (good, usd) in values.items()}
        numbers = {"decisions": len(told), "left_out": log.left_out, "learned_from": learned_from}
        print_json({**numbers, **model.file.summary.model_dump(include=OF_CLOUD), "policies": by_name})
        return
    out.print(
        f"{len(told)} scored decisions that could have gone otherwise; {log.left_out} others are left out, and "
        f"{learned_from} that the model may have learned from",
        highlight=False,
    )
    out.print(of_cloud(model), highlight=False, markup=False)
    out.print(values_table(values))


def report(
    model_file: FileOption = None,
    data: DataOption = None,
    since: SinceOption = None,
    config: ConfigOption = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="A picture (PNG); needs the extra `bench`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Quality against cost: the rules, the predictor at each threshold, chance, and who knows all answers."""
    source = Source.of(config, since)
    model = source.model(model_file)
    if data is not None:
        cases = Cases(cases_in(labelled(data, source.routing), source.routing, data))
        points = list(cases.points(model, source.threshold(model, None)))
    else:
        points = list(estimated(source.log(model)[0], model, source.threshold(model, None)))
    if plot is not None:
        draw(points, f"{model.file.local}: quality against cost", plot)
    if as_json:
        print_json({"points": [asdict(one) for one in points], **model.file.summary.model_dump(include=OF_CLOUD)})
        return
    out.print(frontier_table(points))
    out.print(of_cloud(model), highlight=False, markup=False)
