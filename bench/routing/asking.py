"""Asks the service the tasks over HTTP, several at once, and grades the answers."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.routing.service import INPUT_USD, OUTPUT_USD
from bench.routing.tasks import Said, Task

AT_ONCE = 16
DEADLINE_S = 300.0
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Graded:
    """An answer to a task, 1 for a right one, and what it cost at the cloud's price."""

    task: Task
    said: Said
    quality: float
    cost_usd: float


def ask(url: str, tasks: Sequence[Task], model: str) -> list[Graded]:
    """The answers of `model` (`auto`: of whoever is chosen), in the order of `tasks`. Raises RuntimeError."""
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda task: _asked(client, task, model), tasks))


def _asked(client: httpx.Client, task: Task, model: str) -> Graded:
    response = client.post("/v1/chat/completions", json=task.body(model))
    if response.status_code != httpx.codes.OK:
        raise RuntimeError(f"{task.prompt!r}: {response.status_code} {response.text[:300]}")
    told = response.json()
    message, usage = told["choices"][0]["message"], told["usage"]
    calls = tuple((one["function"]["name"], one["function"]["arguments"]) for one in message.get("tool_calls") or ())
    by = told["model"]
    said = Said(message.get("content") or "", calls, by, usage["prompt_tokens"], usage["completion_tokens"])
    is_cloud = response.headers.get("x-shoal-model", "").startswith("cloud/")
    paid = (said.prompt_tokens * INPUT_USD + said.answer_tokens * OUTPUT_USD) / MILLION
    return Graded(task, said, float(task.is_right(said)), paid if is_cloud else 0.0)


def write_labelled(local: Sequence[Graded], cloud: Sequence[Graded], path: Path) -> None:
    """Both answers to each task as `shoal route train --data` and `report --data` read them."""
    lines = [
        json.dumps(
            {
                "request": here.task.body("auto"),
                "local": here.quality,
                "cloud": there.quality,
                "cost_usd": there.cost_usd,
            }
        )
        for here, there in zip(local, cloud, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
