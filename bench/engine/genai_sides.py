"""ONNX Runtime GenAI on the same export: static batches of its Generator, and its Engine.

A static batch takes who waits when the one before it is done. The Engine batches continuously only for paged exports,
which its builder makes for GPUs alone; for this kind it forms batches of at most four.
"""

import json

import numpy as np
import onnxruntime_genai as og

from bench.engine.side import Arrivals, Place
from bench.engine.work import Answers, Work

_EVENTS = 64


def _model(place: Place) -> og.Model:
    config = og.Config(str(place.model))
    options = {"session_options": {"intra_op_num_threads": place.threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    return og.Model(config)


class GeneratorSide:
    """Static batches."""

    def __init__(self, place: Place) -> None:
        self._model = _model(place)
        self._streams = place.streams

    def run(self, work: Work) -> Answers:
        arrivals, times = Arrivals(work), [list[float]() for _ in work.prompts]
        while arrivals:
            batch = arrivals.take(self._streams)
            if batch:
                self._answer(work, batch, arrivals, times)
            else:
                arrivals.wait()
        return Answers(tuple(map(tuple, times)))

    def _answer(self, work: Work, batch: list[int], arrivals: Arrivals, times: list[list[float]]) -> None:
        prompts = np.array([work.prompts[stream] for stream in batch], np.int32)
        length = prompts.shape[1] + work.tokens
        params = og.GeneratorParams(self._model)
        params.set_search_options(batch_size=len(batch), max_length=length, min_length=length, do_sample=False)
        generator = og.Generator(self._model, params)
        generator.append_tokens(prompts)
        for _ in range(work.tokens):
            generator.generate_next_token()
            now_s = arrivals.now_s()
            for stream in batch:
                times[stream].append(now_s)


class GenaiEngineSide:
    """The Engine, one request a stream."""

    def __init__(self, place: Place) -> None:
        self._engine = og.Engine(_model(place))
        self._events = self._engine.create_event_buffer(_EVENTS)

    def run(self, work: Work) -> Answers:
        arrivals, times = Arrivals(work), [list[float]() for _ in work.prompts]
        streams: dict[og.Request, int] = {}
        while arrivals or streams:
            for stream in arrivals.take(work.streams):
                streams[self._request(work, stream)] = stream
            if streams:
                self._step(streams, times, arrivals)
            else:
                arrivals.wait()
        return Answers(tuple(map(tuple, times)))

    def _request(self, work: Work, stream: int) -> og.Request:
        options = og.RequestOptions()
        options.set_max_session_tokens(len(work.prompts[stream]) + work.tokens)
        request = self._engine.create_request(options=options)
        turn = og.TurnOptions(request)
        turn.set_do_sample(False)
        turn.set_min_generated_tokens(work.tokens)
        turn.set_max_generated_tokens(work.tokens)
        request.begin_turn(np.array(work.prompts[stream], np.int32), turn)
        return request

    def _step(self, streams: dict[og.Request, int], times: list[list[float]], arrivals: Arrivals) -> None:
        self._engine.run(self._events)
        now_s = arrivals.now_s()
        for place in range(len(self._events)):
            event = self._events[place]
            if event.flags & og.EngineEventFlags.FAILED:
                raise RuntimeError(f"og.Engine failed: {event.error_code}")
            if event.flags & og.EngineEventFlags.TOKEN:
                times[streams[event.request]].append(now_s)
            if event.flags & og.EngineEventFlags.TURN_FINISHED:
                del streams[event.request]
                event.request.close()
