"""The results as a table for people and as a tree for JSON, each with what was aimed at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.aim import Aim
from bench.aim import tree as aims_tree
from bench.engine.conversation import CACHE_AIM, Talk
from bench.engine.race import Row
from bench.engine.stalls import AIM as STALL_AIM
from bench.engine.stalls import Stall
from bench.engine.worker import LLAMA, REPACKED

RAW_AIM, GENAI_AIM, GENAI_STREAMS = 0.95, 2.0, 8
LLAMA_AIMS = {1: 1.05, 8: 1.5, 16: 1.8}
COLUMNS = ("decode/s", "total/s", "TTFT p50", "p99 ms", "ITL p50", "p99 ms")


@dataclass(frozen=True, slots=True)
class Found:
    """Everything measured on one model."""

    model: str
    rows: Sequence[Row]
    missing: dict[str, str]
    talks: Sequence[Talk]
    stalls: Sequence[Stall]
    is_comparable: bool  # whether the aims against llama.cpp are for this model

    def aims(self) -> list[Aim]:
        """Those whose figures were measured."""
        return [*self._against_raw(), *self._against_genai(), *self._against_llama(), *self._alone()]

    def _figure(self, arrival: str, streams: int, side: str) -> Row | None:
        wanted = (arrival, streams, side)
        return next((row for row in self.rows if (row.arrival, row.streams, row.side) == wanted), None)

    def _against_raw(self) -> list[Aim]:
        return self._decode_aims("raw loop", dict.fromkeys(sorted({row.streams for row in self.rows}), RAW_AIM))

    def _against_llama(self) -> list[Aim]:
        if not self.is_comparable:
            return []
        return [*self._decode_aims(LLAMA, LLAMA_AIMS), *self._decode_aims(REPACKED, LLAMA_AIMS)]

    def _decode_aims(self, side: str, wanted: dict[int, float]) -> list[Aim]:
        aims = []
        for streams, aim in wanted.items():
            ours, other = self._figure("at once", streams, "engine"), self._figure("at once", streams, side)
            if ours is not None and other is not None:
                kept = ours.figures.decode_tokens_s / other.figures.decode_tokens_s
                aims.append(Aim(f"decode, engine / {side}, {streams} streams", kept, aim))
        return aims

    def _against_genai(self) -> list[Aim]:
        ours = self._figure("Poisson", GENAI_STREAMS, "engine")
        other = self._figure("Poisson", GENAI_STREAMS, "og.Engine")
        if ours is None or other is None:
            return []
        gain = ours.figures.total_tokens_s / other.figures.total_tokens_s
        return [Aim(f"tokens/s, engine / og.Engine, {GENAI_STREAMS} staggered streams", gain, GENAI_AIM)]

    def _alone(self) -> list[Aim]:
        aims = []
        ttft = {talk.kind: talk.ttft_ms for talk in self.talks}
        if ttft:
            aims.append(Aim("TTFT at turn 10, no cache / cache", ttft["no cache"] / ttft["strict"], CACHE_AIM))
        for stall in self.stalls:
            what = f"ITL p99 while a long prompt is read / without, {stall.streams} streams"
            aims.append(Aim(what, stall.ratio, STALL_AIM, is_ceiling=True))
        return aims


def table(found: Found) -> str:
    """One model's figures, for people."""
    lines = [f"\n{found.model}", f"{'arrival':8} {'streams':>7} {'':16}" + "".join(f"{name:>10}" for name in COLUMNS)]
    for row in found.rows:
        figures = "".join("         -" if value is None else f"{value:>10.1f}" for value in _figures(row).values())
        lines.append(f"{row.arrival:8} {row.streams:>7} {row.side:16}{figures}")
    lines += [f"{side} is missing: {why}" for side, why in found.missing.items()]
    lines += [
        f"turn 10, {talk.prompt_tokens} tokens, {talk.kind}: TTFT {talk.ttft_ms:.0f} ms, in the whole conversation "
        f"{talk.cached_tokens} tokens from the cache and {talk.recomputed_tokens} recomputed"
        for talk in found.talks
    ]
    lines += [
        f"a prompt of {stall.prompt_tokens} tokens beside {stall.streams} streams: ITL p99 {stall.calm_ms:.1f} ms "
        f"without, {stall.busy_ms:.1f} ms meanwhile, the mean {stall.mean_ratio:.2f} times as long, its own TTFT "
        f"{stall.ttft_s:.1f} s"
        for stall in found.stalls
    ]
    return "\n".join([*lines, *map(str, found.aims())])


def tree(found: Found) -> dict[str, object]:
    """One model's figures, for JSON."""
    return {
        "model": found.model,
        "rows": [
            {"arrival": row.arrival, "streams": row.streams, "side": row.side, **_figures(row)} for row in found.rows
        ],
        "missing": found.missing,
        "turn_10": [asdict(talk) for talk in found.talks],
        "long_prompt": [{**asdict(stall), "ratio": stall.ratio} for stall in found.stalls],
        "aims": aims_tree(found.aims()),
    }


def _figures(row: Row) -> dict[str, float | None]:
    """By name. Staggered streams are seldom all at work together: there is no decode throughput to tell of them."""
    figures: dict[str, float | None] = asdict(row.figures)
    return figures if row.arrival == "at once" else {**figures, "decode_tokens_s": None}
