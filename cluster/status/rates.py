"""What engines did between two looks at their counters: tokens a second, and shares of what there was to share."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.status.report import Report
from replicas.engine import EngineStats


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second, and shares from 0 to 1; a share of nothing is None.

    `cached_ratio` is of the prompt tokens, `accepted_ratio` of the tokens guessed ahead; `prefill_ratio` and
    `decode_ratio` are of the time; `rows_per_step` is the mean batch of the decode steps.
    """

    prompt_tokens_s: float
    generated_tokens_s: float
    cached_ratio: float | None
    accepted_ratio: float | None
    prefill_ratio: float | None
    decode_ratio: float | None
    rows_per_step: float | None


RatesByReplica = dict[tuple[str, str], Rates]
"""By model and id of the replica."""


def rates(before: EngineStats, now: EngineStats, seconds: float) -> Rates:
    """From `before` to `now` of the same engine, `seconds` later (above 0)."""
    cached = now.cached_tokens_total - before.cached_tokens_total
    prompt = now.prompt_tokens_total - before.prompt_tokens_total + cached
    generated = now.generated_tokens_total - before.generated_tokens_total
    steps = _steps(now) - _steps(before)
    return Rates(
        prompt_tokens_s=prompt / seconds,
        generated_tokens_s=generated / seconds,
        cached_ratio=_share(cached, prompt),
        accepted_ratio=_share(
            now.accepted_tokens_total - before.accepted_tokens_total, now.draft_tokens_total - before.draft_tokens_total
        ),
        prefill_ratio=_share(now.prefill_s_total - before.prefill_s_total, seconds),
        decode_ratio=_share(now.decode_s_total - before.decode_s_total, seconds),
        rows_per_step=_share(_rows(now) - _rows(before), steps),
    )


def rates_between(before: Sequence[Report], now: Sequence[Report]) -> RatesByReplica:
    """The rates of every replica that both looks saw."""
    known = {engine.key: (report.taken_s, engine.stats) for report in before for engine in report.engines}
    found: RatesByReplica = {}
    for report in now:
        for engine in report.engines:
            then_s, then = known.get(engine.key, (report.taken_s, engine.stats))
            if then_s < report.taken_s:
                found[engine.key] = rates(then, engine.stats, report.taken_s - then_s)
    return found


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _steps(stats: EngineStats) -> int:
    return sum(steps for _, steps in stats.batch_sizes)


def _rows(stats: EngineStats) -> int:
    return sum(rows * steps for rows, steps in stats.batch_sizes)
