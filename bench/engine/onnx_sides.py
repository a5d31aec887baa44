"""This project's engine, and the least that one can do with the same forward passes: a bare loop with argmax.

The bare loop does not stream, detokenize, cancel or bound anything. It reads a prompt to its end before the next step,
and keeps its rows dense by moving the last one into the place of one that is done.
"""

import threading

from bench.engine.side import Arrivals, Place
from bench.engine.work import Answers, Work
from replicas.engine import Chunk, Generation, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.forward import Forward, longest_chunk
from replicas.slot.place import CPU
from replicas.slot.start.providers import open_session

DEADLINE_S = 600.0


class EngineSide:
    """SlotEngine with its own defaults."""

    def __init__(self, place: Place) -> None:
        config = SlotConfig(slots=place.streams, max_len=place.max_len, threads=place.threads, provider="cpu")
        self._engine = SlotEngine(Export.load(place.model), config)

    def run(self, work: Work) -> Answers:
        arrivals, times = Arrivals(work), [list[float]() for _ in work.prompts]
        finals: list[Chunk] = []
        done = threading.Event()

        def sink(chunk: Chunk) -> None:
            times[int(chunk.id)].extend([arrivals.now_s()] * chunk.tokens)
            if chunk.final is not None:
                finals.append(chunk)
                if len(finals) == work.streams or chunk.final.error is not None:
                    done.set()

        sampling = Sampling(max_tokens=work.tokens, ignore_eos=True)
        while arrivals:
            for stream in arrivals.take(work.streams):
                self._engine.submit(Generation(str(stream), work.prompts[stream], sampling, DEADLINE_S), sink)
            if arrivals:
                arrivals.wait()
        if not done.wait(DEADLINE_S) or len(finals) < work.streams:
            raise RuntimeError(f"{len(finals)} of {work.streams} answers came: {finals[-1:]}")
        return Answers(tuple(map(tuple, times)))


class RawSide:
    """The bare loop."""

    def __init__(self, place: Place) -> None:
        export = Export.load(place.model)
        session = open_session(export, CPU, place.threads, is_spinning=True)
        self._slab = KvSlab(export, place.streams, place.max_len, CPU)
        self._forward = Forward(session, export, self._slab, place.streams, place.max_len)
        self._chunk = longest_chunk(export.head_size)
        self._streams = place.streams

    def run(self, work: Work) -> Answers:
        arrivals, times = Arrivals(work), [list[float]() for _ in work.prompts]
        rows: list[int] = []
        last: list[int] = []
        while arrivals or rows:
            for stream in arrivals.take(self._streams - len(rows)):
                rows.append(stream)
                last.append(self._read(len(rows) - 1, work.prompts[stream]))
                times[stream].append(arrivals.now_s())
            if not rows:
                arrivals.wait()
                continue
            lengths = [len(work.prompts[stream]) + len(times[stream]) - 1 for stream in rows]
            last = self._forward.decode(0, last, lengths).argmax(axis=1).tolist()
            now_s = arrivals.now_s()
            for stream in rows:
                times[stream].append(now_s)
            self._leave(work, rows, last, times)
        return Answers(tuple(map(tuple, times)))

    def _read(self, row: int, prompt: tuple[int, ...]) -> int:
        logits = self._forward.prefill(row, prompt[: self._chunk], 0)
        for start in range(self._chunk, len(prompt), self._chunk):
            logits = self._forward.prefill(row, prompt[start : start + self._chunk], start)
        return int(logits[0].argmax())

    def _leave(self, work: Work, rows: list[int], last: list[int], times: list[list[float]]) -> None:
        for row in reversed(range(len(rows))):
            if len(times[rows[row]]) == work.tokens:
                end = len(rows) - 1
                if row < end:
                    self._slab.move(end, row, len(work.prompts[rows[end]]) + len(times[rows[end]]) - 1)
                rows[row], last[row] = rows[end], last[end]
                rows.pop()
                last.pop()
