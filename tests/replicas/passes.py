"""What the tests of forward passes share: a model opened without an engine, and prompts cut in any way."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from replicas.export import Export
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.adapters import Adapters
from replicas.slot.model.forward import Forward, longest_chunk
from replicas.slot.place import CPU
from replicas.slot.request.lane import BARE, Lane
from replicas.slot.start.providers import open_session
from replicas.slot.step.prefilling import next_chunk

Logits = NDArray[np.float32]
PROMPT = tuple(3 + (7 * place) % 250 for place in range(70))
BLOCK = longest_chunk(16)
"""The longest chunk of the tiny models."""


def opened(export: Export, slots: int = 4, max_len: int = 128, threads: int = 1) -> Forward:
    """Forward passes over `export`, with room for adapters."""
    session = partial(open_session, export, CPU, threads, is_spinning=False)
    adapters = Adapters(partial(session, with_lora=True), CPU.device)
    return Forward(session(), export, KvSlab(export, slots, max_len, CPU), slots, max_len, adapters)


def prefilled(forward: Forward, row: int, prompt: tuple[int, ...], cuts: list[int], lane: Lane = BARE) -> Logits:
    """The logits of the prompt's last token, a copy, after prefilling it by `cuts`."""
    start, logits = 0, None
    for cut in cuts:
        logits = forward.prefill(row, prompt[start : start + cut], start, lane)
        start += cut
    assert logits is not None
    assert start == len(prompt)
    copied: Logits = logits[0].copy()
    return copied


def chunks(tokens: int, budgets: list[int]) -> list[int]:
    """How the engine cuts a prompt of `tokens` when its steps leave it these budgets, over and over."""
    cuts: list[int] = []
    while sum(cuts) < tokens:
        cuts.append(next_chunk(tokens - sum(cuts), budgets[len(cuts) % len(budgets)]))
    return cuts


def decoded_alone_and_together(forward: Forward, lengths: list[int], lane: Lane = BARE) -> tuple[list[Logits], Logits]:
    """One decode step of rows that hold the first `lengths` tokens of the prompt: each by itself, and all in a call."""
    alone = []
    for length in lengths:
        prefilled(forward, 0, PROMPT[:length], chunks(length, [BLOCK]), lane)
        alone.append(forward.decode(0, [11], [length], lane)[0].copy())
    for row, length in enumerate(lengths):
        prefilled(forward, row, PROMPT[:length], chunks(length, [BLOCK]), lane)
    return alone, forward.decode(0, [11] * len(lengths), lengths, lane)
