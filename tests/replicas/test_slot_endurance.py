"""Ten thousand requests through one engine: nothing is left of them, and every one is accounted for."""

import gc
import logging
import os
import queue
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from replicas.engine import Chunk, EngineStats, Finish, Generation, Priority
from replicas.errors import DeadlineExceeded, EngineFailed
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.engine import SlotStream
from replicas.slot.model.forward import Forward
from replicas.slot.request.lane import BARE, Lane
from tests.replicas.engines import WAIT_S, sampled, tiny
from tests.replicas.schedules import BLOCK_BYTES, DICTATED, SAMPLINGS, Kind, prompt

REQUESTS, WARM_UP, AT_ONCE = 10_000, 3_000, 24
LEAK_BYTES = 1024
"""A request: less than a prompt of 128 tokens."""
THROWS, NOT_A_NUMBER = 77, 83
"""Rows of that length break: no request but those that are meant to gets there."""


def _kinds() -> Iterator[Kind]:
    short = [replace(sampling, max_tokens=min(4, sampling.max_tokens), min_tokens=0) for sampling in SAMPLINGS]
    for length in (1, 2, 9, 20, 33, 40):
        for sampling in short:
            yield Kind(prompt(length), sampling)
    yield Kind(prompt(45, 32), sampled(max_tokens=20), None, 2)
    yield Kind(prompt(9), sampled(max_tokens=60), DICTATED)
    yield Kind(prompt(THROWS), sampled(max_tokens=4, ignore_eos=True))
    yield Kind(prompt(NOT_A_NUMBER), sampled(max_tokens=4, ignore_eos=True))


def _requests() -> Iterator[Generation]:
    """Without end, and the same each time."""
    random, kinds = Random(4), list(_kinds())
    for number, kind in zip(count(), cycle(kinds), strict=False):
        request = kind.named(str(number), random.choice(list(Priority)), random.choice([None, "a", "b"]))
        deadline_s = 0.0 if random.random() < 0.02 else 600.0
        yield replace(request, deadline_s=deadline_s, wants_embedding=kind.grammar is None and random.random() < 0.03)


def _broken_at_times(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Forward.decode

    def broken(
        self: Forward, row: int, tokens: list[int], lengths: list[int], lane: Lane = BARE
    ) -> NDArray[np.float32]:
        if THROWS in lengths:
            raise RuntimeError("no memory")
        logits = decode(self, row, tokens, lengths, lane)
        logits[[length == NOT_A_NUMBER for length in lengths], 0] = np.nan
        return logits

    monkeypatch.setattr(Forward, "decode", broken)


class Traffic:
    """Keeps AT_ONCE requests under way and counts what comes back. Some are cancelled."""

    def __init__(self, engine: SlotEngine) -> None:
        self._engine = engine
        self._requests = _requests()
        self._chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        self._streams: dict[str, SlotStream] = {}
        self._random = Random(5)
        self.finishes: Counter[Finish] = Counter()
        self.errors: Counter[type] = Counter()
        self.tokens: Counter[str] = Counter()

    def run(self, requests: int) -> None:
        coming = islice(self._requests, requests)
        for request in islice(coming, AT_ONCE):
            self._submit(request)
        while self._streams:
            chunk = self._chunks.get(timeout=WAIT_S)
            self.tokens["reported"] += chunk.tokens
            if chunk.final is not None:
                self._count(chunk)
                stats = self._engine.stats()  # from this thread, while the engine's own goes on
                assert stats.slots_used <= stats.slots
                for request in islice(coming, 1):
                    self._submit(request)
            elif self._random.random() < 0.05:
                self._streams[chunk.id].cancel()

    def _submit(self, request: Generation) -> None:
        self._streams[request.id] = self._engine.submit(request, self._chunks.put)
        if self._random.random() < 0.02:
            self._streams[request.id].cancel()

    def _count(self, chunk: Chunk) -> None:
        final = chunk.final
        assert final is not None
        del self._streams[chunk.id]
        self.finishes[final.finish] += 1
        self.errors[type(final.error)] += 1
        self.tokens["generated"] += final.usage.generated
        self.tokens["cached"] += final.usage.cached


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Account:
    """What the run left: memory it grew by after the warm-up, what was counted outside, and what the engine says."""

    grown_bytes: int
    finishes: Counter[Finish]
    errors: Counter[type]
    tokens: Counter[str]
    stats: EngineStats


def _endured() -> Account:
    logging.disable(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _broken_at_times(monkeypatch)
        engine = SlotEngine(tiny(), SlotConfig(slots=8, max_len=128, threads=1, cache_bytes=12 * BLOCK_BYTES))
        traffic = Traffic(engine)
        traffic.run(WARM_UP)
        before = _resident_bytes()
        traffic.run(REQUESTS - WARM_UP)
        grown_bytes, stats = _resident_bytes() - before, engine.stats()
        engine.close()
    return Account(grown_bytes, traffic.finishes, traffic.errors, traffic.tokens, stats)


def test_ten_thousand_requests_leave_nothing_behind() -> None:
    # In a process of its own: what earlier tests left behind would move the figure.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        account = process.submit(_endured).result()
    stats = account.stats
    assert account.grown_bytes < LEAK_BYTES / 2 * (REQUESTS - WARM_UP)
    assert sum(account.finishes.values()) == REQUESTS
    assert set(account.finishes) == {Finish.LENGTH, Finish.END, Finish.CANCELLED, Finish.ERROR}
    assert set(account.errors) == {type(None), DeadlineExceeded, EngineFailed}
    tokens = (stats.generated_tokens_total, stats.generated_tokens_total, stats.cached_tokens_total)
    assert (account.tokens["generated"], account.tokens["reported"], account.tokens["cached"]) == tokens
    assert (stats.slots_used, stats.queued, stats.kv_used_ratio, stats.is_healthy) == (0, 0, 0.0, True)
    assert stats.cache_bytes <= stats.cache_limit_bytes
    assert stats.preemptions_total > 0 < stats.forced_tokens_total
