"""The service that `bench.routing` asks: `shoal up` with the bundled model, and a scripted cloud behind it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.routing.tasks import Task
from cluster.demo.service import temporary_service
from cluster.environment import shoal_home
from cluster.settings import Settings, validated
from replicas.bundled import NAME

CLOUD = "cloud/large"
KEY = "SHOAL_BENCH_KEY"
INPUT_USD, OUTPUT_USD = 1.0, 5.0
"""A million tokens of the cloud; about what the cheapest models of the large vendors cost."""

FEW_TOKENS = 16
RULES = (
    {"name": "private stays", "when": {"private": True}, "to": "local-only"},
    {"name": "tools", "when": {"tools": {"min": 1}}, "to": [NAME, CLOUD]},
    {"name": "short", "when": {"tokens_in": {"max": FEW_TOKENS}}, "to": [NAME, CLOUD]},
)
"""As somebody would write them who knows the bundled model: tools, which it is tuned for, and short questions."""


@dataclass(frozen=True, slots=True)
class Running:
    """The service, its settings, and the model file that it looks at."""

    url: str
    settings: Settings
    model_file: Path
    folder: Path


@contextmanager
def running(tasks: Sequence[Task], accuracy: float, quality: float) -> Iterator[Running]:
    """Both for the length of the block, on free ports, in a home of their own with the models of the real one."""
    with tempfile.TemporaryDirectory(prefix="shoal-routing-") as made:
        folder = Path(made)
        for shared in ("models", "calibrations"):
            (shoal_home() / shared).mkdir(parents=True, exist_ok=True)
            (folder / shared).symlink_to(shoal_home() / shared)
        os.environ |= {KEY: "bench", "SHOAL_HOME": str(folder)}
        with _upstream(folder, script(tasks, accuracy)) as cloud:
            settings = validated(_settings(cloud, folder / "route.json", quality), "bench.routing")
            with temporary_service(folder, settings) as service:
                yield Running(service.url, settings, folder / "route.json", folder)


def script(tasks: Sequence[Task], accuracy: float) -> dict[str, object]:
    """What the cloud says: the right answer to the share `accuracy` of the tasks, else that it does not know."""
    answers = [
        {
            "when": {"contains": task.prompt},
            "text": task.right or None,
            "calls": [{"name": name, "input": arguments} for name, arguments in task.calls],
            "wrong": {"text": "I do not know."},
        }
        for task in tasks
    ]
    price = {"input": INPUT_USD, "output": OUTPUT_USD}
    return {"models": [{"id": "large", "accuracy": accuracy, "price": price}], "answers": answers}


def _settings(cloud: str, model_file: Path, quality: float) -> dict[str, object]:
    models = [{"name": "large", "price": "bench-large"}]
    price = {"name": "bench-large", "input": INPUT_USD, "output": OUTPUT_USD}
    return {
        "models": [{"name": NAME, "engine": {"queue_limit": 256}}],
        "clouds": [
            {"name": "cloud", "kind": "openai", "base_url": f"{cloud}/v1", "key_env": KEY, "models": models},
        ],
        "costs": {"prices": [price], "baseline": "bench-large"},
        "routing": {
            "policy": "learned",
            "learned": {"model_file": str(model_file), "quality": quality},
            "privacy": {"detectors": []},  # numbers that are made up may look like somebody's
        },
    }


def by_rules(settings: Settings) -> Settings:
    """The same service, whose requests go by RULES."""
    tree = settings.model_dump(mode="json")
    tree["routing"] |= {"policy": "prefer-cloud", "rules": RULES}
    return validated(tree, "bench.routing")


@contextmanager
def _upstream(folder: Path, told: dict[str, object]) -> Iterator[str]:
    path = folder / "script.json"
    path.write_text(json.dumps(told))
    command = [sys.executable, "-m", "cluster.cli", "upstream", "--script", str(path), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cloud:
        try:
            assert cloud.stdout is not None
            line = cloud.stdout.readline()
            if not line:
                raise RuntimeError("`shoal upstream` ended; its words are above")
            yield str(json.loads(line)["url"])
        finally:
            cloud.terminate()
