"""The picture of a frontier: quality over cost, a line for each way to decide. Needs matplotlib (extra `bench`)."""

from collections.abc import Sequence
from pathlib import Path

from replicas.errors import SettingsError
from router.learned.frontier import Point

LOOKS = {
    "random": {"color": "0.6", "linestyle": "--"},
    "oracle": {"color": "tab:green", "linestyle": ":"},
    "learned": {"color": "tab:blue", "linestyle": "-"},
}


def draw(points: Sequence[Point], title: str, target: Path) -> None:
    """Write the picture. Raises SettingsError without matplotlib, or where nothing can be written."""
    try:
        import matplotlib
    except ImportError as missing:
        raise SettingsError("a picture needs matplotlib: pip install -e '.[bench]'") from missing
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(7, 4.5))
    for policy in dict.fromkeys(point.policy for point in points):
        told = [point for point in points if point.policy == policy]
        swept = sorted((p for p in told if "set" not in p.setting), key=lambda p: p.cost_usd.value)
        cost, quality = [1000 * p.cost_usd.value for p in swept], [p.quality.value for p in swept]
        if len(swept) == 1:
            bars = [[quality[0] - swept[0].quality.low], [swept[0].quality.high - quality[0]]]
            panel.errorbar(cost, quality, yerr=bars, marker="s", capsize=3, linestyle="", label=policy, color="tab:red")
        else:
            panel.plot(cost, quality, marker="o", markersize=3, label=policy, **LOOKS.get(policy, {}))
        for one in (p for p in told if "set" in p.setting):
            panel.plot(1000 * one.cost_usd.value, one.quality.value, "*", markersize=12, label=one.setting, color="k")
    panel.set_xlabel("USD per 1,000 answers")
    panel.set_ylabel("mean quality")
    panel.set_title(title, fontsize=9)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.tight_layout()
    try:
        figure.savefig(target, dpi=110)
    except OSError as error:
        raise SettingsError(f"cannot write {target}: {error.strerror}") from error
    finally:
        pyplot.close(figure)
