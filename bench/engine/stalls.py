"""What a long prompt does to those who are reading their answers: ITL p99 while it is prefilled, against before.

Four streams decode, or eight; after a while one more request comes with the longest prompt that the model takes, at
most 4096 tokens. Gaps between tokens are sorted by whether they end before it comes, between that and its first token,
or later: what is calm is the mean of before and after, as the streams' own contexts grow all the time.
"""

import random
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.engine.asking import DEADLINE_S, Heard
from bench.engine.measures import percentile
from bench.engine.work import random_ids
from replicas.engine import Generation, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine

STREAMS = (4, 8)
LONGEST_PROMPT = 4096
RUNNING_PROMPT = 16
AIM = 2.0


@dataclass(frozen=True, slots=True)
class Stall:
    """ITL p99 of the running streams, in milliseconds, and how long the prompt took to its first token.

    `mean_ratio` is the mean ITL meanwhile, over that when it is calm. Of several rounds each figure is the median.
    """

    streams: int
    prompt_tokens: int
    calm_ms: float
    busy_ms: float
    mean_ratio: float
    ttft_s: float

    @property
    def ratio(self) -> float:
        return self.busy_ms / self.calm_ms


def stall(model: Path, threads: int, streams: int, rounds: int, calm_s: float, longest: int = LONGEST_PROMPT) -> Stall:
    """Measure it. Raises RuntimeError if the long prompt is not answered."""
    found = [_round(Export.load(model), threads, streams, calm_s, longest) for _ in range(rounds)]
    median = statistics.median
    return Stall(
        streams,
        found[0].prompt_tokens,
        median(one.calm_ms for one in found),
        median(one.busy_ms for one in found),
        median(one.mean_ratio for one in found),
        median(one.ttft_s for one in found),
    )


def _round(export: Export, threads: int, streams: int, calm_s: float, longest: int) -> Stall:
    limit = min(export.context_tokens, export.rope_switch_tokens or export.context_tokens)
    prompt_tokens = min(longest, limit - 8)
    config = SlotConfig(slots=streams + 1, max_len=limit, threads=threads, provider="cpu", cache_bytes=0)
    engine = SlotEngine(export, config)
    try:
        return _measure(engine, export.vocab, streams, prompt_tokens, calm_s)
    finally:
        engine.close()


def _measure(engine: SlotEngine, vocab: int, count: int, prompt_tokens: int, calm_s: float) -> Stall:
    draw = random.Random(0)
    running = [Heard() for _ in range(count)]
    endless = Sampling(max_tokens=engine.stats().context_tokens - RUNNING_PROMPT - 8, ignore_eos=True)
    streams = [
        engine.submit(Generation(f"running-{place}", random_ids(draw, RUNNING_PROMPT, vocab), endless), heard)
        for place, heard in enumerate(running)
    ]
    for heard in running:
        heard.has_begun.wait(DEADLINE_S)
    calm_from_s = time.perf_counter()
    time.sleep(calm_s)
    prompt = random_ids(draw, prompt_tokens, vocab)
    long = Heard()
    engine.submit(Generation("long", prompt, Sampling(max_tokens=1, ignore_eos=True)), long)
    if not long.done.wait(DEADLINE_S) or not long.times_s:
        raise RuntimeError(f"the long prompt was not answered: {long.final}")
    time.sleep(calm_s)
    for stream in streams:
        stream.cancel()
    gaps = [gap for heard in running for gap in pairwise(list(heard.times_s))]
    before = [later - earlier for earlier, later in gaps if earlier > calm_from_s and later < long.asked_s]
    busy = [later - earlier for earlier, later in gaps if later > long.asked_s and earlier < long.times_s[0]]
    after = [later - earlier for earlier, later in gaps if earlier > long.times_s[0]]
    calm_ms = 1e3 * statistics.mean(percentile(calm, 0.99) for calm in (before, after) if calm)
    calm_mean_s = statistics.mean(statistics.mean(calm) for calm in (before, after) if calm)
    mean_ratio = statistics.mean(busy) / calm_mean_s
    return Stall(count, prompt_tokens, calm_ms, 1e3 * percentile(busy, 0.99), mean_ratio, long.ttft_s)
