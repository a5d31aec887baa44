"""llama.cpp on the same weights, batched as its server does it: one `llama_decode` a step for all streams.

A step carries one token of every stream that decodes and fills up with prompt tokens. Sampling is an argmax over the
logits in place, the cheapest there is. Imports nothing that llama-cpp-python does not bring.
"""

from collections import deque

import llama_cpp
import numpy as np

from bench.engine.side import Arrivals, Place
from bench.engine.work import Answers, Work

_BATCH = 512


class LlamaSide:
    """A context with a sequence for each stream. With `repacks` weights are laid out for the CPU, which can crash."""

    def __init__(self, place: Place, *, repacks: bool) -> None:
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.use_extra_bufts = repacks
        options.n_gpu_layers = 0
        model = llama_cpp.llama_model_load_from_file(str(place.model).encode(), options)
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = place.streams * place.max_len
        context.n_batch = context.n_ubatch = _BATCH
        context.n_seq_max = place.streams
        context.n_threads = context.n_threads_batch = place.threads
        self._context = llama_cpp.llama_init_from_model(model, context)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot open {place.model}")
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)
        self._streams = place.streams

    def run(self, work: Work) -> Answers:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        arrivals, times = Arrivals(work), [list[float]() for _ in work.prompts]
        reading: deque[int] = deque()
        places = [0] * work.streams
        last: dict[int, int] = {}
        while arrivals or reading or last:
            reading.extend(arrivals.take(self._streams - len(reading) - len(last)))
            if not reading and not last:
                arrivals.wait()
                continue
            asked = self._fill(work, reading, last, places)
            self._step(asked, last)
            now_s = arrivals.now_s()
            for stream in asked:
                times[stream].append(now_s)
                if len(times[stream]) == work.tokens:
                    del last[stream]
        return Answers(tuple(map(tuple, times)))

    def _fill(self, work: Work, reading: deque[int], last: dict[int, int], places: list[int]) -> dict[int, int]:
        """Build the next batch; which streams' logits are wanted, and at which place of it."""
        self._batch.n_tokens = 0
        asked = {}
        for stream, token in last.items():
            asked[stream] = self._add(token, places[stream], stream, is_asked=True)
            places[stream] += 1
        while reading and self._batch.n_tokens < _BATCH:
            stream, prompt = reading[0], work.prompts[reading[0]]
            end = min(len(prompt), places[stream] + _BATCH - self._batch.n_tokens)
            for place in range(places[stream], end):
                is_asked = place == len(prompt) - 1
                at = self._add(prompt[place], place, stream, is_asked=is_asked)
                if is_asked:
                    asked[stream] = at
            places[stream] = end
            if end == len(prompt):
                reading.popleft()
        return asked

    def _add(self, token: int, position: int, stream: int, *, is_asked: bool) -> int:
        batch = self._batch
        place = int(batch.n_tokens)
        batch.token[place] = token
        batch.pos[place] = position
        batch.n_seq_id[place] = 1
        batch.seq_id[place][0] = stream
        batch.logits[place] = is_asked
        batch.n_tokens += 1
        return place

    def _step(self, asked: dict[int, int], last: dict[int, int]) -> None:
        status = llama_cpp.llama_decode(self._context, self._batch)
        if status:
            raise RuntimeError(f"llama_decode answered {status}")
        for stream, place in asked.items():
            logits = llama_cpp.llama_get_logits_ith(self._context, place)
            last[stream] = int(np.ctypeslib.as_array(logits, shape=(self._vocab,)).argmax())
