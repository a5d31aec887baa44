"""One session of a large model, from a short answer to one that crosses the LongRoPE switch.

A short prompt shows decoding at its fastest. Then a prompt that ends just below the switch is answered past it: the
engine has to read everything again under the long factors, once. That it did is checked by asking once more with all
tokens up to the switch as the prompt, which is read under the long factors from the start: the same tokens follow.
"""

import random
import statistics
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.engine.asking import Heard, ask
from bench.engine.work import random_ids
from bench.phi4mini.memory import resident_bytes
from replicas.engine import Generation, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine

SHORT_PROMPT, SHORT_ANSWER = 32, 24
PAST_SWITCH = 16


@dataclass(frozen=True, slots=True)
class Crossing:
    """Seconds of the one gap in which everything was read again, and whether the tokens behind it are right."""

    switch_tokens: int
    pause_s: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What one session showed. Bytes are resident ones; rates are tokens a second."""

    opened_bytes: int
    full_bytes: int
    context_tokens: int
    prefill_tokens_s: float
    short_decode_tokens_s: float
    long_decode_tokens_s: float
    crossing: Crossing | None


def session(export: Export, threads: int, prompt_tokens: int) -> Found:
    """Run it. The answer to the long prompt crosses the switch if the export has one within reach."""
    draw, switch = random.Random(0), export.rope_switch_tokens
    answer = SHORT_ANSWER if switch is None else max(SHORT_ANSWER, switch - prompt_tokens + PAST_SWITCH)
    context = prompt_tokens + answer
    config = SlotConfig(slots=1, max_len=context, threads=threads, provider="cpu", cache_bytes=0)
    engine = SlotEngine(export, config)
    try:
        opened = resident_bytes()
        short = _ask(engine, random_ids(draw, SHORT_PROMPT, export.vocab), SHORT_ANSWER)
        prompt = random_ids(draw, prompt_tokens, export.vocab)
        long = _ask(engine, prompt, answer)
        full = resident_bytes()
        crosses = switch is not None and prompt_tokens <= switch
        crossing = _crossing(engine, prompt, long, switch) if switch is not None and crosses else None
    finally:
        engine.close()
    return Found(
        opened_bytes=opened,
        full_bytes=full,
        context_tokens=context,
        prefill_tokens_s=prompt_tokens / long.ttft_s,
        short_decode_tokens_s=_rate(short),
        long_decode_tokens_s=_rate(long),
        crossing=crossing,
    )


def size_of(model: Path) -> int:
    """Bytes of weights that a decoded token reads: what lies beside the graph."""
    files = [file for file in model.parent.glob(f"{model.name}*") if file != model]
    return sum(file.stat().st_size for file in files) or model.stat().st_size


def _crossing(engine: SlotEngine, prompt: tuple[int, ...], long: Heard, switch: int) -> Crossing:
    before = switch + 1 - len(prompt)
    again = _ask(engine, prompt + tuple(long.tokens[:before]), len(long.tokens) - before)
    gaps = [later - earlier for earlier, later in pairwise(long.times_s)]
    return Crossing(switch, max(gaps), again.tokens == long.tokens[before:])


def _ask(engine: SlotEngine, prompt: tuple[int, ...], tokens: int) -> Heard:
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    return ask(engine, Generation(f"{len(prompt)}-{tokens}", prompt, sampling, deadline_s=3600.0, top_logprobs=0))


def _rate(heard: Heard) -> float:
    """By the median gap, which one pause does not move."""
    return 1 / statistics.median(later - earlier for earlier, later in pairwise(heard.times_s))
