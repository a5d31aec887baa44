"""What the whole stack keeps of an engine's speed: `python -m bench.stack [--quick] [--json FILE]`.

For 1, 2, 4, 8 and 16 streams it alternates runs over HTTP (a real `shoal up --detach`, clients in their own process on
raw sockets) with runs straight on an engine of this process, both from the same plan, and takes medians of tokens per
second, prompts included. Whichever side rests uses no CPU: engines sleep between requests, and the threads of
onnxruntime that wait actively (SlotConfig.is_spinning, the same on both sides) do so only between two steps of a run.
"""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

from bench.command import command, ending, keep
from bench.http_streams import Run
from bench.sides import EngineSide, Side, http_side
from cluster.demo.service import ended_by_signals, temporary_service
from cluster.environment import shoal_home
from cluster.planning import plan_of
from cluster.settings import Settings
from deployments.engines import build_engine

STREAMS = (1, 2, 4, 8, 16)
RESULT = Path("bench/results/stack.json")
KEPT_AIM = 0.75  # HTTP of in-process, at 8 streams
GAIN_AIM = 2.5  # 8 streams of one, over HTTP


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    tokens: int


QUICK = Size(rounds=1, tokens=24)
FULL = Size(rounds=5, tokens=128)


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of tokens per second at one number of streams."""

    streams: int
    http: float
    engine: float

    @property
    def kept(self) -> float:
        """HTTP as a part of in-process."""
        return self.http / self.engine


def measure(http: Side, engine: Side, streams: int, size: Size) -> Row:
    """Alternate both sides, each first in every other round, and take medians."""
    runs: dict[str, list[Run]] = {"http": [], "engine": []}
    sides = [("http", http), ("engine", engine)]
    for _ in range(size.rounds):
        for name, side in sides:
            runs[name].append(side.run(streams, size.tokens))
        sides.reverse()
    medians = {name: statistics.median(run.tokens_s for run in done) for name, done in runs.items()}
    return Row(streams, medians["http"], medians["engine"])


def aims(rows: list[Row]) -> list[tuple[str, float, float]]:
    """What was to be reached: words, the figure, the aim."""
    by_streams = {row.streams: row for row in rows}
    return [
        ("HTTP / in-process at 8 streams", by_streams[8].kept, KEPT_AIM),
        ("8 streams / 1 stream over HTTP", by_streams[8].http / by_streams[1].http, GAIN_AIM),
        ("8 streams / 1 stream in-process", by_streams[8].engine / by_streams[1].engine, GAIN_AIM),
    ]


def table(rows: list[Row]) -> str:
    """The rows and the aims, for people."""
    lines = [f"{'streams':>7} {'HTTP tok/s':>11} {'in-process tok/s':>17} {'kept':>6}"]
    lines += [f"{row.streams:>7} {row.http:>11.1f} {row.engine:>17.1f} {row.kept:>6.1%}" for row in rows]
    for words, figure, aim in aims(rows):
        lines.append(f"{words}: {figure:.2f}, aim {aim:.2f}: {'reached' if figure >= aim else 'MISSED'}")
    return "\n".join(lines)


def tree(rows: list[Row], size: Size, model: str) -> dict[str, object]:
    """As JSON keeps it."""
    return {
        "command": "python -m bench.stack",
        "model": model,
        "cores": os.cpu_count(),
        "rounds": size.rounds,
        "tokens_per_stream": size.tokens,
        "rows": [{"streams": r.streams, "http": r.http, "in_process": r.engine, "kept": r.kept} for r in rows],
        "aims": [
            {"what": words, "figure": figure, "aim": aim, "is_reached": figure >= aim}
            for words, figure, aim in aims(rows)
        ],
    }


def bench(size: Size) -> tuple[list[Row], str]:
    """Measure; the model's name too."""
    home, settings = shoal_home(), Settings()
    pool = plan_of(settings, home, has_gpu=False).pools[0]
    with ended_by_signals(), temporary_service(home, settings) as service, http_side(service.url) as http:
        engine = build_engine(pool)
        try:
            side = EngineSide(engine)
            for warm in (http, side):
                warm.run(2, 8)
            return [measure(http, side, streams, size) for streams in STREAMS], pool.model
        finally:
            engine.close()


def main() -> None:
    parser = command("bench.stack", "HTTP against in-process, tokens/s.", RESULT)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.rounds} round of {QUICK.tokens} tokens")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    rows, model = bench(size)
    print(f"{model}, {os.cpu_count()} cores, {size.tokens} tokens a stream, medians of {size.rounds} rounds")
    print(table(rows))
    keep(tree(rows, size, model), options.json)


if __name__ == "__main__":
    ending(main)
