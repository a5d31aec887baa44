"""The engine against what else runs the same weights on this machine: `python -m bench.engine [--quick]`.

Sides: a bare loop over the same forward passes, ONNX Runtime GenAI's Generator (static batches) and Engine, llama.cpp
on the GGUF of the same weights. Models: the bundled one and a random one of 100 M weights, INT4. Then the engine by
itself: a long prompt beside running streams, and the tenth turn of a conversation with and without its cache.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.engine.conversation import talks
from bench.engine.models import Contestant, bundled, random_100m
from bench.engine.peer import Peer, environment, peers
from bench.engine.race import race
from bench.engine.report import Found, table, tree
from bench.engine.side import Place
from bench.engine.stalls import STREAMS, stall
from bench.engine.work import Sizes, at_once, work
from bench.engine.worker import LLAMA, NAMES, REPACKED
from cluster.environment import shoal_home
from replicas.errors import ShoalError
from replicas.export import Export

RESULT, PLOT = Path("bench/results/engine.json"), Path("bench/results/engine.png")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    streams: tuple[int, ...]
    rounds: int
    prompt_tokens: int
    answer_tokens: int
    longest_prompt: int
    calm_s: float


QUICK = Size((1, 8), rounds=1, prompt_tokens=32, answer_tokens=64, longest_prompt=512, calm_s=1.0)
FULL = Size((1, 2, 4, 8, 16), rounds=3, prompt_tokens=64, answer_tokens=128, longest_prompt=4096, calm_s=4.0)


@dataclass(frozen=True, slots=True)
class Llama:
    """Under which interpreter llama.cpp runs, and which sides it gives."""

    python: Path
    names: tuple[str, ...]


def measure(contestant: Contestant, size: Size, threads: int, llama: Llama) -> Found:
    """Everything on one model."""
    export = Export.load(contestant.export)
    max_len = size.prompt_tokens + size.answer_tokens + 16
    here, there = (Place(model, threads, max(size.streams), max_len) for model in (contestant.export, contestant.gguf))
    places = dict.fromkeys(NAMES, (here, Path(sys.executable))) | dict.fromkeys(llama.names, (there, llama.python))
    sizes = Sizes(size.prompt_tokens, size.answer_tokens, export.vocab)
    missing: dict[str, str] = {}

    @contextmanager
    def opened() -> Iterator[list[Peer]]:
        with peers(places, work(sizes, at_once(2), seed=0)) as (sides, without):
            missing.update(without)
            yield sides

    return Found(
        contestant.name,
        race(opened, size.streams, sizes, size.rounds),
        missing,
        talks(contestant.export, threads, size.rounds),
        [
            stall(contestant.export, threads, streams, size.rounds, size.calm_s, size.longest_prompt)
            for streams in STREAMS
        ],
        is_comparable=contestant.name != "random-100m",
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description="Engines on the same weights.")
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--only", choices=("bundled", "random"), help="one of the two models")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every side")
    parser.add_argument("--gguf", type=Path, help="the bundled model's GGUF, else it is fetched")
    parser.add_argument(
        "--llama-python", type=Path, default=Path(sys.executable), help="an interpreter with the extra `bench`"
    )
    parser.add_argument("--llama-repack", action="store_true", help="also with weights repacked for the CPU")
    parser.add_argument("--json", type=Path, default=RESULT, help=f"where the figures go, default {RESULT}")
    parser.add_argument("--png", type=Path, default=PLOT, help=f"where the plot goes, default {PLOT}")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    size, home = QUICK if chosen.quick else FULL, shoal_home()
    contestants = [bundled(home, chosen.gguf)] if chosen.only != "random" else []
    contestants += [random_100m(home)] if chosen.only != "bundled" else []
    print(f"{chosen.threads} threads, prompts of {size.prompt_tokens}, answers of {size.answer_tokens} tokens")
    llama = Llama(chosen.llama_python, (LLAMA, REPACKED) if chosen.llama_repack else (LLAMA,))
    trees = []
    for contestant in contestants:
        found = measure(contestant, size, chosen.threads, llama)
        print(table(found), flush=True)
        trees.append(tree(found))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    head = {"command": "python -m bench.engine", "threads": chosen.threads, "rounds": size.rounds}
    chosen.json.write_text(json.dumps({**head, "models": trees}, indent=2) + "\n")
    command = [str(chosen.llama_python), "-m", "bench.engine.plot", str(chosen.json), str(chosen.png)]
    if subprocess.run(command, capture_output=True, check=False, env=environment()).returncode:
        print(f"no plot: {chosen.llama_python} has no matplotlib (pip install '.[bench]')")


if __name__ == "__main__":
    try:
        main()
    except ShoalError as error:
        sys.exit(f"error: {error}")
