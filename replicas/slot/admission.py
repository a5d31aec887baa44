"""What can never work is refused at submit, before it takes a place in the queue."""

from collections.abc import Callable, Collection

from replicas.chat import Tokenizer
from replicas.engine import Generation, Message, Sampling, Sink
from replicas.errors import ContextOverflow, InvalidRequest
from replicas.slot.answer import Answer
from replicas.slot.sequence import Sequence

_MOST_STOPS, _MOST_STOP_CHARACTERS = 64, 1024

# Field, whether it is fine, and what it must be.
_RULES: tuple[tuple[str, Callable[[Sampling], bool], str], ...] = (
    ("max_tokens", lambda s: s.max_tokens >= 1, "at least 1"),
    ("temperature", lambda s: 0 <= s.temperature <= 100, "from 0 to 100"),
    ("top_p", lambda s: 0 < s.top_p <= 1, "above 0 and at most 1"),
    ("top_k", lambda s: s.top_k >= 0, "0 (off) or more"),
    ("repetition_penalty", lambda s: 0 < s.repetition_penalty <= 100, "above 0 and at most 100"),
    ("min_tokens", lambda s: 0 <= s.min_tokens <= s.max_tokens, "from 0 to max_tokens"),
    ("stop", lambda s: len(s.stop) <= _MOST_STOPS, f"at most {_MOST_STOPS} strings"),
    (
        "stop",
        lambda s: all(0 < len(stop) <= _MOST_STOP_CHARACTERS for stop in s.stop),
        f"of strings with 1 to {_MOST_STOP_CHARACTERS} characters",
    ),
)


class Admission:
    """Turns a request into a sequence that fits the engine: `max_len` tokens a slot, ids below `vocab`."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Collection[int], vocab: int, max_len: int) -> None:
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._vocab = vocab
        self._max_len = max_len

    def admit(self, request: Generation, sink: Sink) -> Sequence:
        """Raises InvalidRequest, ContextOverflow."""
        sampling = request.sampling
        for field, is_fine, wanted in _RULES:
            if not is_fine(sampling):
                raise InvalidRequest(f"{field} must be {wanted}", field)
        prompt, is_continuation = self._encoded(request.prompt)
        room = self._max_len - len(prompt)
        if room < 1:
            raise ContextOverflow(len(prompt), self._max_len - 1)
        limit = min(sampling.max_tokens, room)
        detokenizer = self._tokenizer.detokenizer(is_continuation=is_continuation)
        answer = Answer(sampling, detokenizer, self._end_ids, limit, is_clamped=room < sampling.max_tokens)
        return Sequence(request, prompt, answer, sink, limit)

    def _encoded(self, prompt: tuple[int, ...] | tuple[Message, ...]) -> tuple[tuple[int, ...], bool]:
        """Token ids, and whether the answer goes on within the last message."""
        messages = tuple(part for part in prompt if isinstance(part, Message))
        ids = tuple(part for part in prompt if not isinstance(part, Message))
        if not prompt or (messages and ids):
            raise InvalidRequest("the prompt must be messages or token ids, and not empty", "messages")
        if messages:
            is_continuation = messages[-1].role == "assistant" and bool(messages[-1].content.strip())
            return self._tokenizer.encode_chat(messages), is_continuation
        if not 0 <= min(ids) <= max(ids) < self._vocab:
            raise InvalidRequest(f"token ids must be from 0 to {self._vocab - 1}", "prompt")
        return ids, False
