"""What can never work is refused at submit, before it takes a place in the queue."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from replicas.chat import Tokenizer, is_continuation
from replicas.engine import GREEDY_BELOW, LEAST_PENALTY, Generation, Grammar, Message, Sampling, Sink
from replicas.errors import ContextOverflow, InvalidRequest, NotFound
from replicas.grammar import Constraint
from replicas.slot.request.answer import Answer
from replicas.slot.request.lane import Lane
from replicas.slot.request.sequence import Sequence

_MOST_STOPS, _MOST_STOP_CHARACTERS = 64, 1024
MOST_TOP_LOGPROBS = 20
MOST_BIASES = 1024

# Field, whether it is fine, and what it must be.
_RULES: tuple[tuple[str, Callable[[Sampling], bool], str], ...] = (
    ("max_tokens", lambda s: s.max_tokens >= 1, "at least 1"),
    ("temperature", lambda s: 0 <= s.temperature <= 100, "from 0 to 100"),
    ("top_p", lambda s: 0 < s.top_p <= 1, "above 0 and at most 1"),
    ("top_k", lambda s: s.top_k >= 0, "0 (off) or more"),
    ("repetition_penalty", lambda s: LEAST_PENALTY <= s.repetition_penalty <= 100, f"from {LEAST_PENALTY} to 100"),
    ("min_p", lambda s: 0 <= s.min_p <= 1, "from 0 to 1"),
    ("frequency_penalty", lambda s: -2 <= s.frequency_penalty <= 2, "from -2 to 2"),
    ("presence_penalty", lambda s: -2 <= s.presence_penalty <= 2, "from -2 to 2"),
    ("logit_bias", lambda s: len(s.logit_bias) <= MOST_BIASES, f"at most {MOST_BIASES} tokens"),
    ("logit_bias", lambda s: all(-100 <= bias <= 100 for _, bias in s.logit_bias), "of numbers from -100 to 100"),
    ("stop_token_ids", lambda s: len(s.stop_token_ids) <= MOST_BIASES, f"at most {MOST_BIASES} tokens"),
    ("min_tokens", lambda s: 0 <= s.min_tokens <= s.max_tokens, "from 0 to max_tokens"),
    ("stop", lambda s: len(s.stop) <= _MOST_STOPS, f"at most {_MOST_STOPS} strings"),
    (
        "stop",
        lambda s: all(0 < len(stop) <= _MOST_STOP_CHARACTERS for stop in s.stop),
        f"of strings with 1 to {_MOST_STOP_CHARACTERS} characters",
    ),
)


class Abilities(Protocol):
    """What an engine can do beyond plain text."""

    def compiled(self, grammar: Grammar) -> Constraint:
        """A constraint for one answer. Raises InvalidRequest."""
        ...

    def adapters(self) -> tuple[str, ...]:
        """The adapters that are loaded."""
        ...

    def can_embed(self) -> bool:
        """Whether a prompt's embedding can be had."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What fits: `max_len` tokens a slot, ids below `vocab`; beyond `switch_tokens` LongRoPE takes other factors."""

    vocab: int
    max_len: int
    switch_tokens: int | None = None


class Admission:
    """Turns a request into a sequence that fits the engine."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Collection[int], bounds: Bounds, abilities: Abilities) -> None:
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._bounds = bounds
        self._abilities = abilities

    def admit(self, request: Generation, sink: Sink) -> Sequence:
        """Raises InvalidRequest, ContextOverflow, NotFound (the adapter)."""
        sampling = request.sampling
        for field, is_fine, wanted in _RULES:
            if not is_fine(sampling):
                raise InvalidRequest(f"{field} must be {wanted}", field)
        if 0 < sampling.temperature < GREEDY_BELOW:
            sampling = replace(sampling, temperature=0.0)
            request = replace(request, sampling=sampling)
        self._check(request)
        self._check_ids(sampling)
        prompt, is_continued = self._encoded(request)
        room = self._bounds.max_len - len(prompt)
        if room < 1:
            raise ContextOverflow(len(prompt), self._bounds.max_len - 1)
        limit = min(sampling.max_tokens, room)
        constraint = None if request.grammar is None else self._abilities.compiled(request.grammar)
        detokenizer = self._tokenizer.detokenizer(is_continuation=is_continued)
        answer = Answer(sampling, detokenizer, self._end_ids, limit, is_clamped=room < sampling.max_tokens)
        sequence = Sequence(request, prompt, answer, sink, limit, constraint)
        switch = self._bounds.switch_tokens
        if switch is not None and len(prompt) > switch:
            sequence.lane = Lane(request.adapter, is_long=True)
        elif switch is not None:
            sequence.reach = min(sequence.reach, switch)
        return sequence

    def _check(self, request: Generation) -> None:
        """What this engine cannot do."""
        if request.adapter is not None and request.adapter not in self._abilities.adapters():
            loaded = ", ".join(self._abilities.adapters()) or "none"
            raise NotFound("adapter", request.adapter, f"loaded: {loaded}")
        if request.top_logprobs is not None and not 0 <= request.top_logprobs <= MOST_TOP_LOGPROBS:
            raise InvalidRequest(f"top_logprobs must be from 0 to {MOST_TOP_LOGPROBS}", "top_logprobs")
        if request.wants_embedding and not self._abilities.can_embed():
            raise InvalidRequest("this model's export does not give embeddings: its LM head is not recognised", "model")

    def _check_ids(self, sampling: Sampling) -> None:
        """Tokens that the request names are in the vocabulary."""
        named = {"logit_bias": [token for token, _ in sampling.logit_bias], "stop_token_ids": sampling.stop_token_ids}
        for field, tokens in named.items():
            if any(not 0 <= token < self._bounds.vocab for token in tokens):
                raise InvalidRequest(f"{field}: token ids must be from 0 to {self._bounds.vocab - 1}", field)

    def _encoded(self, request: Generation) -> tuple[tuple[int, ...], bool]:
        """Token ids, and whether the answer goes on within the last message."""
        prompt = request.prompt
        messages = tuple(part for part in prompt if isinstance(part, Message))
        ids = tuple(part for part in prompt if not isinstance(part, Message))
        if not prompt or (messages and ids):
            raise InvalidRequest("the prompt must be messages or token ids, and not empty", "messages")
        if messages:
            return self._tokenizer.encode_chat(messages), is_continuation(messages)
        if not 0 <= min(ids) <= max(ids) < self._bounds.vocab:
            raise InvalidRequest(f"token ids must be from 0 to {self._bounds.vocab - 1}", "prompt")
        return ids, request.is_continued
