"""Makes the models of the benchmarks: `python -m bench.models FOLDER [--only NAME] [--switch-tokens N]`."""

import argparse
import sys
import time
from pathlib import Path

from bench.models.making import made
from bench.models.shapes import RANDOM_100M, phi4_mini
from replicas.errors import ShoalError

LARGE = "phi4-mini-shape"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description="Random models in real formats.")
    parser.add_argument("folder", type=Path, help="where they go, each as a folder with its name")
    parser.add_argument(
        "--only", choices=(RANDOM_100M.name, LARGE), help=f"{LARGE} takes 2.4 GB, and 4.5 GB for a time"
    )
    parser.add_argument("--switch-tokens", type=int, default=4096, help=f"where {LARGE} changes its rotary cache")
    parser.add_argument("--keep-gguf", action="store_true", help="leave the GGUF files, for llama.cpp")
    options = parser.parse_args()
    for shape in (RANDOM_100M, phi4_mini(options.switch_tokens)):
        if options.only is None or shape.name.startswith(options.only):
            began_s = time.perf_counter()
            directory = made(options.folder, shape, keeps_gguf=options.keep_gguf)
            size = sum(file.stat().st_size for file in directory.iterdir())
            took_s = time.perf_counter() - began_s
            print(f"{directory}: {shape.parameters / 1e6:.0f} M weights, {size / 1e6:.0f} MB, {took_s:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except ShoalError as error:
        sys.exit(f"error: {error}")
