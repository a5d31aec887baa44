"""A conversation of ten turns: what the prefix cache saves at the last one, and what strict determinism costs.

The same conversation runs on three engines: without a cache, with one, and with one that also takes KV written by
decoding (relaxed). Its last prompt holds about 1.5k tokens of history. Strict has to prefill again what the model
itself has said; the engine counts those tokens.
"""

import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from bench.engine.asking import Heard, ask
from replicas.engine import Generation, Message, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine

TURNS = 10
HISTORY_TOKENS = 1500
ANSWER_TOKENS = 40
CACHE_AIM = 5.0
WORDS = (
    "the",
    "net",
    "lay",
    "by",
    "a",
    "boat",
    "and",
    "it",
    "was",
    "late",
    "when",
    "they",
    "came",
    "to",
    "see",
    "what",
)

Kind: TypeAlias = Literal["no cache", "strict", "relaxed"]
KINDS: tuple[Kind, ...] = ("no cache", "strict", "relaxed")


@dataclass(frozen=True, slots=True)
class Talk:
    """Medians at the last turn, and what the whole conversation reused and recomputed."""

    kind: Kind
    prompt_tokens: int
    ttft_ms: float
    cached_tokens: int
    recomputed_tokens: int


def talks(model: Path, threads: int, rounds: int, history_tokens: int = HISTORY_TOKENS) -> list[Talk]:
    """One row for each kind of engine."""
    export = Export.load(model)
    engines = {kind: SlotEngine(export, _config(kind, threads)) for kind in KINDS}
    found: dict[Kind, list[Talk]] = {kind: [] for kind in KINDS}
    try:
        for seed in range(rounds):
            for kind in KINDS[seed % 3 :] + KINDS[: seed % 3]:
                found[kind].append(_talk(engines[kind], kind, seed, history_tokens))
    finally:
        for engine in engines.values():
            engine.close()
    return [_median(kind, found[kind]) for kind in KINDS]


def _config(kind: Kind, threads: int) -> SlotConfig:
    return SlotConfig(
        slots=2,
        max_len=4096,
        threads=threads,
        provider="cpu",
        determinism="relaxed" if kind == "relaxed" else "strict",
        cache_bytes=0 if kind == "no cache" else None,
    )


def _talk(engine: SlotEngine, kind: Kind, seed: int, history_tokens: int) -> Talk:
    before = engine.stats()
    draw = random.Random(seed)
    words = max(1, history_tokens // (TURNS - 1) - ANSWER_TOKENS - 8)
    messages: list[Message] = []
    for _ in range(TURNS - 1):
        messages.append(_question(draw, seed, words))
        messages.append(Message("assistant", "".join(_turn(engine, messages, seed).texts)))
    last = _turn(engine, [*messages, _question(draw, seed, words=12)], seed)
    after = engine.stats()
    return Talk(
        kind,
        last.final.usage.prompt if last.final is not None else 0,
        1e3 * last.ttft_s,
        after.cached_tokens_total - before.cached_tokens_total,
        after.recomputed_tokens_total - before.recomputed_tokens_total,
    )


def _question(draw: random.Random, seed: int, words: int) -> Message:
    return Message("user", f"{seed}. " + " ".join(draw.choice(WORDS) for _ in range(words)))


def _turn(engine: SlotEngine, messages: list[Message], seed: int) -> Heard:
    session = f"talk-{seed}"
    sampling = Sampling(max_tokens=ANSWER_TOKENS, ignore_eos=True)
    return ask(engine, Generation(f"{session}-{len(messages)}", tuple(messages), sampling, session_id=session))


def _median(kind: Kind, found: list[Talk]) -> Talk:
    return Talk(
        kind,
        round(statistics.median(talk.prompt_tokens for talk in found)),
        statistics.median(talk.ttft_ms for talk in found),
        round(statistics.median(talk.cached_tokens for talk in found)),
        round(statistics.median(talk.recomputed_tokens for talk in found)),
    )
