"""What a long prompt does to those who are reading their answers: ITL p99 while it is prefilled, against before.

`python -m bench.engine.stalls` measures only this. Four streams decode, or eight; after a while one more request comes
with the longest prompt that the model takes, at most 4096 tokens. Gaps between tokens are sorted by whether they end
before it comes, between that and its first token, or later: what is calm is the mean of before and after, as the
streams' own contexts grow all the time.
"""

import argparse
import json
import os
import random
import statistics
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from bench.engine.asking import DEADLINE_S, Heard
from bench.engine.measures import percentile
from bench.engine.work import random_ids
from cluster.environment import shoal_home
from replicas.bundled import ensure_bundled
from replicas.engine import Generation, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.store import ModelStore

STREAMS = (4, 8)
LONGEST_PROMPT = 4096
RUNNING_PROMPT = 16
AIM = 2.0
CALM_S = 3.0
RESULT = Path("bench/results/stalls.json")


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine.stalls", description="Long prompts beside streams.")
    parser.add_argument("--streams", type=int, nargs="+", default=[8, 4, 1], help="how many answers run")
    parser.add_argument("--prompts", type=int, nargs="+", default=[512, LONGEST_PROMPT], help="tokens of the prompt")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, default=RESULT, help=f"where the figures go, default {RESULT}")
    return parser.parse_args()


def main() -> None:
    chosen = _options()
    model = ensure_bundled(ModelStore(shoal_home() / "models")).path
    print("streams  prompt  p99 before  meanwhile  ratio  of means  first token")
    found = []
    for streams in chosen.streams:
        for tokens in chosen.prompts:
            one = stall(model, chosen.threads, streams, chosen.rounds, CALM_S, tokens)
            found.append(asdict(one) | {"ratio": one.ratio})
            figures = f"{one.calm_ms:7.0f} ms {one.busy_ms:7.0f} ms {one.ratio:6.2f} {one.mean_ratio:9.2f}"
            print(f"{streams:7} {one.prompt_tokens:7} {figures} {one.ttft_s:10.1f} s", flush=True)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"command": "python -m bench.engine.stalls", "stalls": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
