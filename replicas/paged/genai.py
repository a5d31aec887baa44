"""`onnxruntime_genai.Engine`, narrowed to what the loop needs; the only module here that knows the package.

Its calls must come one after another, so one thread owns all of this. A request is a session of one turn: begun with a
prompt, run step by step with all others, closed in the end; until it is closed it holds its KV. What is refused or
broken is raised by the package as bare RuntimeError.
"""

import json
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import onnxruntime_genai as og
from pydantic import TypeAdapter

from replicas.engine import Grammar, Sampling
from replicas.errors import EngineFailed
from replicas.grammar.source import source
from replicas.paged.export import PagedExport
from replicas.slot.place import Provider

Ending: TypeAlias = Literal["end", "length", "cancelled", "failed"]

_FLAGS = og.EngineEventFlags
_EVENTS = 256  # of one step: more come with the next call
_FATAL = frozenset({"ENGINE_CONTRACT_FAILURE", "ENGINE_EXECUTION_FAILURE"})
_ENDINGS: dict[str, Ending] = {
    "EOS": "end",
    "STOP_STRING": "end",
    "MAX_GENERATED_TOKENS": "length",
    "MAX_SESSION_TOKENS": "length",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
}


class Refused(Exception):
    """GenAI does not take this turn; others it may."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a step brought to the turn `turn`: a token, its end, or both. `cached` prompt tokens are told at the end."""

    turn: int
    token: int | None = None
    ending: Ending | None = None
    error: str = ""
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and how to go on from it. `limit` tokens at most; `seed` None where the engine takes none."""

    prompt: tuple[int, ...]
    limit: int
    sampling: Sampling
    seed: int | None = None
    grammar: Grammar | None = None


class Turns(Protocol):
    """A model that runs many turns at once. One thread calls it."""

    def begin(self, turn: Turn) -> int:
        """Take a turn in; its number. Raises Refused, or EngineFailed once the engine is broken for good."""
        ...

    def run(self) -> list[Event]:
        """One step of all turns. Raises EngineFailed once the engine is broken for good."""
        ...

    def end(self, turn: int) -> None:
        """Free what the turn holds; it may be under way."""
        ...


class GenaiTurns:
    """Turns on an `og.Engine`. Raises EngineFailed if the model cannot be opened on `provider`."""

    def __init__(self, export: PagedExport, provider: Provider, slots: int | None, threads: int | None) -> None:
        self.is_seedable = export.is_paged
        self._vocab = export.vocab
        try:
            self._engine = og.Engine(og.Model(_config(export, provider, slots, threads)))
        except RuntimeError as error:
            raise EngineFailed(str(error)) from error
        capabilities = self._engine.get_capabilities()
        self.slots = int(capabilities.configured_max_batch_size)
        most = int(capabilities.max_request_length)
        self.max_len = min(most, export.context_tokens) if most else export.context_tokens
        self._buffer = self._engine.create_event_buffer(_EVENTS)
        self._requests: dict[int, og.Request] = {}
        self._turns: dict[og.Request, int] = {}
        self._begun = 0

    def begin(self, turn: Turn) -> int:
        try:
            request = self._engine.create_request(options=self._session(turn))
        except RuntimeError as error:
            raise EngineFailed(str(error)) from error
        try:
            request.begin_turn(np.array(turn.prompt, np.int32), self._options(request, turn))
        except RuntimeError as error:
            request.close()
            raise Refused(str(error)) from error
        self._begun += 1
        self._requests[self._begun] = request
        self._turns[request] = self._begun
        return self._begun

    def run(self) -> list[Event]:
        if not self._engine.has_pending_requests():
            return []
        try:
            events = [self._event(event) for event in self._engine.run(self._buffer)]
        except RuntimeError as error:
            raise EngineFailed(str(error)) from error
        return [event for event in events if event is not None]

    def end(self, turn: int) -> None:
        request = self._requests.pop(turn)
        del self._turns[request]
        request.close()

    def close(self) -> None:
        """Free the model. Nothing may follow."""
        self._requests.clear()
        self._turns.clear()
        del self._buffer, self._engine

    def _event(self, event: og.EngineEvent) -> Event | None:
        """Raises EngineFailed if the engine says that it is broken. None: nothing that matters to a turn."""
        code = str(event.error_code.name)
        if code in _FATAL:
            raise EngineFailed(f"GenAI reports {code}")
        turn = self._turns.get(event.request)
        is_token, is_over = _has(event, _FLAGS.TOKEN), _has(event, _FLAGS.TURN_FINISHED) or _has(event, _FLAGS.FAILED)
        if turn is None or not (is_token or is_over):
            return None  # a turn that was ended meanwhile, or one that waits for room in the KV cache
        ending = _ENDINGS.get(str(event.finish_reason.name), "failed") if is_over else None
        token = int(event.token) if is_token else None
        return Event(turn, token, ending, code if ending == "failed" else "", int(event.usage.cached_prompt_tokens))

    def _session(self, turn: Turn) -> og.RequestOptions:
        options = og.RequestOptions()
        options.set_max_session_tokens(len(turn.prompt) + turn.limit)
        return options

    def _options(self, request: og.Request, turn: Turn) -> og.TurnOptions:
        sampling, options = turn.sampling, og.TurnOptions(request)
        options.set_max_generated_tokens(turn.limit)
        # There is no going on after the end of a turn: where it is to be ignored it is forbidden.
        options.set_min_generated_tokens(turn.limit if sampling.ignore_eos else sampling.min_tokens)
        is_drawn = sampling.temperature > 0 and sampling.top_k != 1
        options.set_do_sample(is_drawn)
        if is_drawn:
            options.set_temperature(sampling.temperature)
            options.set_top_p(sampling.top_p)
            options.set_top_k(min(sampling.top_k, self._vocab))
        if sampling.repetition_penalty != 1:
            options.set_repetition_penalty(sampling.repetition_penalty)
        if turn.seed is not None:
            options.set_seed(turn.seed)
        if turn.grammar is not None:
            options.set_guidance(*_guidance(turn.grammar))
        return options


_SOURCES: TypeAdapter[dict[str, list[dict[str, object]]]] = TypeAdapter(dict[str, list[dict[str, object]]])


def _has(event: og.EngineEvent, flag: og.EngineEventFlags) -> bool:
    return bool(int(event.flags.value) & int(flag.value))


def _guidance(grammar: Grammar) -> tuple[str, str]:
    """GenAI's kind and text of a grammar, in the same form as the slot engine compiles it."""
    [(kind, text)] = _SOURCES.validate_json(source(grammar))["grammars"][0].items()
    return kind, text if isinstance(text, str) else json.dumps(text)


def _config(export: PagedExport, provider: Provider, slots: int | None, threads: int | None) -> og.Config:
    config = og.Config(str(export.directory))
    config.clear_providers()
    if not provider.is_host:
        config.append_provider(provider.name)
    if slots is not None:
        batching = "dynamic_batching" if export.is_paged else "static_batching"
        config.overlay(json.dumps({"engine": {batching: {"max_batch_size": slots}}}))
    if threads is not None:
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return config
