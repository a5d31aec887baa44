"""How much of the model's raw speed the slot engine keeps: `python -m bench.engine_streams [EXPORT]`.

For 1, 2, 4, 8, 16 streams it alternates a bare loop (the same forward passes, then argmax, nothing else) with the
engine, and prints the medians of both in tokens per second of decoding, measured while all streams decode.
"""

import statistics
import sys
import threading
import time
from pathlib import Path

from replicas.engine import Chunk, Generation, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.forward import Forward
from replicas.slot.place import CPU
from replicas.slot.providers import open_session
from replicas.slot.slab import KvSlab

DEFAULT_EXPORT = Path.home() / ".cache/shoal/models/smollm2-135m-instruct"
STREAMS = (1, 2, 4, 8, 16)
ROUNDS = 3
TOKENS = 48
PROMPT_TOKENS = 64
_MAX_LEN = 256


def bare_tokens_s(forward: Forward, streams: int) -> float:
    """Decode `streams` rows with nothing but forward passes and argmax."""
    prompts = [_prompt(stream) for stream in range(streams)]
    tokens = [int(forward.prefill(row, prompt, 0)[0].argmax()) for row, prompt in enumerate(prompts)]
    began_s = time.perf_counter()
    for step in range(TOKENS):
        logits = forward.decode(0, tokens, [PROMPT_TOKENS + step] * streams)
        tokens = logits.argmax(axis=1).tolist()
    return streams * TOKENS / (time.perf_counter() - began_s)


class Meter:
    """Tokens from the moment all streams have begun to the moment the first one ends."""

    def __init__(self, streams: int) -> None:
        self._waiting_for = streams
        self._left = streams
        self._began_s = self._ended_s = 0.0
        self._begun: set[str] = set()
        self._tokens = 0
        self.done = threading.Event()

    def __call__(self, chunk: Chunk) -> None:
        now_s = time.perf_counter()
        if self._began_s and not self._ended_s:
            self._tokens += chunk.tokens
        self._begun.add(chunk.id)
        if not self._began_s and len(self._begun) == self._waiting_for:
            self._began_s = now_s
        if chunk.final is not None:
            self._ended_s = self._ended_s or now_s
            self._left -= 1
            if not self._left:
                self.done.set()

    @property
    def tokens_s(self) -> float:
        return self._tokens / (self._ended_s - self._began_s)


def engine_tokens_s(engine: SlotEngine, streams: int) -> float:
    """The same rows through the engine."""
    meter = Meter(streams)
    # The first streams decode while the last ones are prefilled, and all must still decode while it is measured.
    sampling = Sampling(max_tokens=TOKENS + 2 * streams, ignore_eos=True)
    for stream in range(streams):
        engine.submit(Generation(f"stream-{stream}", tuple(_prompt(stream)), sampling), meter)
    meter.done.wait()
    return meter.tokens_s


def main() -> None:
    export = Export.load(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_EXPORT)
    config = SlotConfig(max_len=_MAX_LEN, provider="cpu")
    session = open_session(export, CPU, config.threads, is_spinning=config.is_spinning)
    slab = KvSlab(export, config.slots, _MAX_LEN, CPU)
    forward = Forward(session, export, slab, config.slots, _MAX_LEN)
    engine = SlotEngine(export, config)
    print(f"{export.name}, {config.threads} threads, decode tokens/s, medians of {ROUNDS}")
    print(f"{'streams':>8} {'bare':>8} {'engine':>8} {'kept':>6}")
    for streams in STREAMS:
        bare, engined = [], []
        for _ in range(ROUNDS):
            bare.append(bare_tokens_s(forward, streams))
            engined.append(engine_tokens_s(engine, streams))
        raw, kept = statistics.median(bare), statistics.median(engined)
        print(f"{streams:>8} {raw:>8.1f} {kept:>8.1f} {kept / raw:>6.1%}")
    engine.close()


def _prompt(stream: int) -> list[int]:
    return [100 + (stream * 37 + place * 11) % 400 for place in range(PROMPT_TOKENS)]


if __name__ == "__main__":
    main()
