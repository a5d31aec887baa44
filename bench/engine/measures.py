"""What a run's token times say: throughput, time to the first token, time between tokens.

Decode throughput is taken while as many streams decode as ever do in the run: with one stream left over, or prompts
still to be read, it would measure the schedule. ITL is the gap between two tokens of one stream, TTFT counts from the
arrival. Percentiles are the nearest rank above.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.engine.work import Answers, Work


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the medians of several. Rates in tokens a second, times in milliseconds."""

    decode_tokens_s: float
    total_tokens_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float


def percentile(values: Iterable[float], part: float) -> float:
    """The least value that `part` of all are not above. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there is nothing to take a percentile of")
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def figures(done: Work, answers: Answers) -> Figures:
    """Raises ValueError if a stream did not get every token."""
    times = answers.times_s
    if [len(stream) for stream in times] != [done.tokens] * done.streams:
        raise ValueError(f"streams got {[len(stream) for stream in times]} tokens and not {done.tokens} each")
    first_tokens = [stream[0] - arrival for stream, arrival in zip(times, done.arrivals_s, strict=True)]
    gaps = [later - earlier for stream in times for earlier, later in pairwise(stream)]
    return Figures(
        decode_tokens_s=decode_tokens_s(times),
        total_tokens_s=done.tokens * done.streams / max(stream[-1] for stream in times),
        ttft_p50_ms=1e3 * percentile(first_tokens, 0.5),
        ttft_p99_ms=1e3 * percentile(first_tokens, 0.99),
        itl_p50_ms=1e3 * percentile(gaps, 0.5),
        itl_p99_ms=1e3 * percentile(gaps, 0.99),
    )


def decode_tokens_s(times_s: Sequence[Sequence[float]]) -> float:
    """Tokens a second while the most streams are between their first and their last token."""
    edges = sorted([(stream[0], 1) for stream in times_s] + [(stream[-1], -1) for stream in times_s])
    spans, at_work = [], 0
    for (begin_s, change), (end_s, _) in pairwise(edges):
        at_work += change
        spans.append((at_work, begin_s, end_s))
    fullest = max(count for count, _, _ in spans)
    windows = [(begin_s, end_s) for count, begin_s, end_s in spans if count == fullest and end_s > begin_s]
    tokens = sum(begin_s < time_s <= end_s for stream in times_s for time_s in stream for begin_s, end_s in windows)
    return tokens / sum(end_s - begin_s for begin_s, end_s in windows)


def medians(runs: Sequence[Figures]) -> Figures:
    """Of each figure by itself."""
    return Figures(
        decode_tokens_s=statistics.median(run.decode_tokens_s for run in runs),
        total_tokens_s=statistics.median(run.total_tokens_s for run in runs),
        ttft_p50_ms=statistics.median(run.ttft_p50_ms for run in runs),
        ttft_p99_ms=statistics.median(run.ttft_p99_ms for run in runs),
        itl_p50_ms=statistics.median(run.itl_p50_ms for run in runs),
        itl_p99_ms=statistics.median(run.itl_p99_ms for run in runs),
    )
