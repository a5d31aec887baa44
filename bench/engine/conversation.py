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

from tokenizers import Tokenizer

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
    tokenizer = Tokenizer.from_file(str(export.directory / "tokenizer.json"))
    engines = {kind: SlotEngine(export, _config(kind, threads, export.context_tokens)) for kind in KINDS}
    found: dict[Kind, list[Talk]] = {kind: [] for kind in KINDS}
    try:
        for seed in range(rounds):
            for kind in KINDS[seed % 3 :] + KINDS[: seed % 3]:
                found[kind].append(_Talker(engines[kind], tokenizer, seed).talk(kind, history_tokens))
    finally:
        for engine in engines.values():
            engine.close()
    return [_median(kind, found[kind]) for kind in KINDS]


def _config(kind: Kind, threads: int, context_tokens: int) -> SlotConfig:
    return SlotConfig(
        slots=2,
        max_len=min(4096, context_tokens),
        threads=threads,
        provider="cpu",
        determinism="relaxed" if kind == "relaxed" else "strict",
        cache_bytes=0 if kind == "no cache" else None,
    )


class _Talker:
    """One conversation on one engine. Questions grow the history by even steps, however long the answers are."""

    def __init__(self, engine: SlotEngine, tokenizer: Tokenizer, seed: int) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._seed = seed
        self._draw = random.Random(seed)
        self._messages: list[Message] = []

    def talk(self, kind: Kind, history_tokens: int) -> Talk:
        before = self._engine.stats()
        for turn in range(1, TURNS):
            answer = self._turn(history_tokens * turn // (TURNS - 1) - ANSWER_TOKENS)
            self._messages.append(Message("assistant", "".join(answer.texts)))
        last = self._turn(0)
        after = self._engine.stats()
        return Talk(
            kind,
            last.final.usage.prompt if last.final is not None else 0,
            1e3 * last.ttft_s,
            after.cached_tokens_total - before.cached_tokens_total,
            after.recomputed_tokens_total - before.recomputed_tokens_total,
        )

    def _turn(self, up_to_tokens: int) -> Heard:
        """Ask with at least a few words, and with as many as bring the whole text to `up_to_tokens`."""
        words = [f"{self._seed}.", *(self._draw.choice(WORDS) for _ in range(8))]
        held = sum(len(self._tokenizer.encode(message.content).ids) for message in self._messages)
        while held + len(self._tokenizer.encode(" ".join(words)).ids) < up_to_tokens:
            words.append(self._draw.choice(WORDS))
        self._messages.append(Message("user", " ".join(words)))
        session = f"talk-{self._seed}"
        id_, sampling = f"{session}-{len(self._messages)}", Sampling(max_tokens=ANSWER_TOKENS, ignore_eos=True)
        return ask(self._engine, Generation(id_, tuple(self._messages), sampling, session_id=session))


def _median(kind: Kind, found: list[Talk]) -> Talk:
    return Talk(
        kind,
        round(statistics.median(talk.prompt_tokens for talk in found)),
        statistics.median(talk.ttft_ms for talk in found),
        round(statistics.median(talk.cached_tokens for talk in found)),
        round(statistics.median(talk.recomputed_tokens for talk in found)),
    )
