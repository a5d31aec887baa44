"""Draws a result: `python -m bench.engine.plot RESULT.json PLOT.png`. Needs matplotlib (extra `bench`).

A row of panels for each model: decode throughput of streams that begin at once, then throughput, TTFT and ITL of
streams that come staggered, all over the number of streams.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

PANELS = (
    ("at once", "decode_tokens_s", "decode tokens/s, at once"),
    ("Poisson", "total_tokens_s", "tokens/s, staggered"),
    ("Poisson", "ttft_p99_ms", "TTFT p99 ms, staggered"),
    ("Poisson", "itl_p99_ms", "ITL p99 ms, staggered"),
)


def line(
    rows: Sequence[dict[str, float | str]], arrival: str, side: str, figure: str
) -> tuple[list[float], list[float]]:
    """Streams and the figure of one side, ascending."""
    points = sorted(
        (float(row["streams"]), float(row[figure])) for row in rows if (row["arrival"], row["side"]) == (arrival, side)
    )
    return [streams for streams, _ in points], [value for _, value in points]


def draw(result: Path, target: Path) -> None:
    """Write the picture."""
    models = json.loads(result.read_text(encoding="utf-8"))["models"]
    figure, grid = pyplot.subplots(
        len(models), len(PANELS), figsize=(4 * len(PANELS), 3.2 * len(models)), squeeze=False
    )
    for model, panels in zip(models, grid, strict=True):
        sides = list(dict.fromkeys(row["side"] for row in model["rows"]))
        for (arrival, name, title), panel in zip(PANELS, panels, strict=True):
            for side in sides:
                streams, values = line(model["rows"], arrival, side, name)
                panel.plot(
                    streams, values, marker="o", markersize=3, label=side, linewidth=2 if side == "engine" else 1
                )
            panel.set_title(f"{model['model']}: {title}", fontsize=8)
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter(ticker.ScalarFormatter())
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
        panels[0].legend(fontsize=7)
    figure.supxlabel("streams", fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
