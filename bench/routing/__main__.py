"""What learned routing is worth: `python -m bench.routing [--quick] [--tasks N] [--seed N] [--json F] [--plot F]`.

Tasks with known answers (bench/routing/tasks.py) are asked of the bundled model and of a scripted cloud of stated
accuracy and price, both through one service over HTTP. On three fifths of them a predictor is trained, which the
service takes up while it runs; the others are asked again, and it decides. Their frontier of quality and cost compares
the rules that a person would write, the predictor at every threshold, chance, and an oracle that knows both answers.
One training is one draw: many more follow on the same answers, on few tasks and many.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.command import command, ending, keep
from bench.routing.asking import Graded, ask, write_labelled
from bench.routing.service import CLOUD, Running, by_rules, running
from bench.routing.tasks import Task, tasks
from bench.routing.trainings import Labels, Trainings
from bench.routing.trainings import table as trainings_table
from cluster.cli_route_tables import frontier_table, savings_table
from cluster.console import err, out
from cluster.demo.service import ended_by_signals
from cluster.route_cases import cases_in, cloud_quality_in, examples_in, labelled
from cluster.route_plot import draw
from cluster.routing import routing_of
from replicas.bundled import NAME
from router.estimate import Estimate
from router.learned.bootstrap import mean_of
from router.learned.frontier import Cases, Point
from router.learned.live import LOOK_S
from router.learned.model import Model, write_model
from router.learned.scores import Scores, scored
from router.learned.training import train

RESULT = Path("bench/results/routing.json")
ACCURACY, QUALITY = 0.95, 0.95
TRAIN_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it. `by_kind`: the local model's quality on the tasks of each kind. `routed` is what the service
    did with the tasks it was not trained on: the quality, the cost of an answer and the share that stayed here."""

    by_kind: dict[str, float]
    scores: Scores
    threshold: float
    abstained: float
    points: list[Point]
    savings: dict[str, Estimate]
    routed: dict[str, Estimate]
    routed_local: float
    trainings: list[Trainings]
    cloud: dict[str, Estimate]
    time_s: float


def measured(service: Running, made: Sequence[Task]) -> Found:
    """Ask, train, ask again."""
    began_s = time.monotonic()
    split = round(len(made) * TRAIN_SHARE)
    local, cloud = _told(service, made, NAME), _told(service, made, CLOUD)
    model = _trained(service, local[:split], cloud[:split])
    write_model(model, service.model_file)
    time.sleep(LOOK_S)
    ask(service.url, made[split : split + 1], "auto")  # it looks at the file when it is asked, and beside the answer
    routed = _told(service, made[split:], "auto")
    test = service.folder / "test.jsonl"
    write_labelled(local[split:], cloud[split:], test)
    routing = routing_of(by_rules(service.settings))
    cases = Cases(cases_in(labelled(test, routing), routing, test))
    threshold, told = model.threshold_for(QUALITY), model.probabilities(cases.traits)
    opinions = cases.opinions(model, threshold)
    alone = np.array([float(one.pick == "local") for one in opinions])
    return Found(
        by_kind=_by_kind(local),
        scores=scored(told, cases.local),
        threshold=threshold,
        abstained=sum(one.abstains for one in opinions) / len(opinions),
        points=[*cases.points(model, threshold), cases.point("learned", "as set, or the cloud", alone)],
        savings=cases.savings(told, QUALITY),
        routed=_means(routed),
        routed_local=sum(one.cost_usd == 0 for one in routed) / len(routed),
        trainings=_trainings(service, local, cloud),
        cloud=_means(cloud[split:]),
        time_s=time.monotonic() - began_s,
    )


def _told(service: Running, made: Sequence[Task], model: str) -> list[Graded]:
    began_s = time.monotonic()
    graded = ask(service.url, made, model)
    good = sum(one.quality for one in graded) / len(graded)
    err.print(f"{model}: {len(made)} tasks, {good:.0%} right, {time.monotonic() - began_s:.0f} s", highlight=False)
    return graded


def _trained(service: Running, local: Sequence[Graded], cloud: Sequence[Graded]) -> Model:
    path = service.folder / "train.jsonl"
    write_labelled(local, cloud, path)
    requests = labelled(path, routing_of(service.settings))
    return train(examples_in(requests), NAME, cloud_quality_in(requests))


def _trainings(service: Running, local: Sequence[Graded], cloud: Sequence[Graded]) -> list[Trainings]:
    path = service.folder / "all.jsonl"
    write_labelled(local, cloud, path)
    routing = routing_of(by_rules(service.settings))
    requests = labelled(path, routing)
    return list(Labels(requests, cases_in(requests, routing, path), NAME, QUALITY).trainings())


def _by_kind(graded: Sequence[Graded]) -> dict[str, float]:
    kinds = sorted({one.task.kind for one in graded})
    return {kind: float(np.mean([one.quality for one in graded if one.task.kind == kind])) for kind in kinds}


def _means(graded: Sequence[Graded]) -> dict[str, Estimate]:
    qualities, costs = ([one.quality for one in graded], [one.cost_usd for one in graded])
    return {"quality": mean_of(np.array(qualities)), "cost_usd": mean_of(np.array(costs))}


def tell(found: Found) -> None:
    """For people."""
    kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in found.by_kind.items())
    scores, cloud, routed = found.scores, found.cloud, found.routed
    saved = 1 - routed["cost_usd"].value / cloud["cost_usd"].value
    out.print(f"{NAME} alone: {kinds}", highlight=False)
    out.print(
        f"predictor on {scores.examples} tasks it has not seen: Brier {scores.brier:.3f} (the share alone "
        f"{scores.brier_of_share:.3f}), ECE {scores.ece:.3f}, AUC {scores.auc:.3f}; it abstains "
        f"from {found.abstained:.0%}",
        highlight=False,
    )
    out.print(frontier_table(found.points))
    out.print(savings_table(found.savings, QUALITY))
    out.print(trainings_table(found.trainings), highlight=False)
    out.print(
        f"the service itself, at {found.threshold:.2f}: {found.routed_local:.0%} stayed here, quality "
        f"{routed['quality'].value:.3f} ({routed['quality'].low:.3f} - {routed['quality'].high:.3f}) against the "
        f"cloud's {cloud['quality'].value:.3f}, {saved:.1%} saved; {found.time_s:.0f} s",
        highlight=False,
    )


def tree(found: Found, options: argparse.Namespace, count: int) -> dict[str, object]:
    """As JSON keeps it."""
    chosen = {"tasks": count, "seed": options.seed, "accuracy": ACCURACY, "quality": QUALITY}
    return {"command": "python -m bench.routing", **chosen, **asdict(found)}


def main() -> None:
    parser = command("bench.routing", "What learned routing is worth.", RESULT)
    parser.add_argument("--quick", action="store_true", help="a minute: 120 tasks")
    parser.add_argument("--tasks", type=int, default=1200, help="default 1200, which take ten minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="a picture of the frontier; needs the extra `bench`")
    options = parser.parse_args()
    made = tasks(120 if options.quick else options.tasks, options.seed)
    with ended_by_signals(), running(made, ACCURACY, QUALITY) as service:
        found = measured(service, made)
    tell(found)
    keep(tree(found, options, len(made)), options.json)
    if options.plot is not None:
        draw(found.points, f"{NAME} and a cloud that is right in {ACCURACY:.0%}: {len(made)} tasks", options.plot)


if __name__ == "__main__":
    ending(main)
