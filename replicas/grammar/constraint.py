"""The state of one answer in its grammar.

The engine's thread asks for the mask of the next token, chooses, and accepts what it chose; between `begin` and `mask`
a worker thread computes the mask, without the GIL, while the model runs. What has only one continuation needs neither
model nor mask: `forced` names its tokens. Everything is a function of the accepted tokens alone, so an answer that is
replayed goes on as it did. Copies of one compiled grammar share its lexer, which only ever learns: later answers are
faster.
"""

from collections import deque
from collections.abc import Collection
from concurrent.futures import Executor, Future
from itertools import takewhile

import numpy as np
from llguidance import LLMatcher

from replicas.errors import EngineFailed, InvalidRequest
from replicas.grammar.mask import Mask


class Compiled:
    """A grammar at its beginning. `is_spoilt`: its shared lexer hit a limit, so it must not serve others."""

    def __init__(self, matcher: LLMatcher, param: str) -> None:
        self.matcher = matcher
        self.param = param
        self.is_spoilt = False


class Constraint:
    """What may come next in one answer. One thread at a time; `words` is the mask's length, `worker` runs `begin`."""

    def __init__(self, compiled: Compiled, words: int, end_ids: Collection[int], worker: Executor) -> None:
        self._compiled = compiled
        self._end_ids = end_ids
        self._dictated: deque[int] = deque()
        self._worker = worker
        self._matcher = compiled.matcher.deep_copy()
        self._mask = np.zeros(words, np.int32)
        self._pending: Future[None] | None = None
        self._look_ahead()

    @property
    def is_over(self) -> bool:
        """Nothing more may follow but the end of the turn."""
        self._settle()
        return self._matcher.is_stopped()

    def begin(self) -> None:
        """Start computing the next mask in the background. Does nothing if that was done already, or is not needed."""
        if self._pending is None and not self._is_masked and not self._dictated:
            self._pending = self._worker.submit(self._compute)

    def mask(self) -> Mask:
        """The tokens that may come next, end tokens where the answer may end; valid until the next `accept`.

        Raises InvalidRequest if the grammar has become too complex here, or if nothing can follow.
        """
        self._settle()
        if not self._is_masked:
            self._compute()
        self._check()
        return self._mask

    def accept(self, token: int) -> None:
        """Go on by `token`. Raises EngineFailed if it was not allowed, InvalidRequest as `mask` does."""
        self._settle()
        if not self._is_allowed(token):
            raise EngineFailed(f"token {token} is not one that the grammar allows here")
        self._matcher.consume_token(token)
        self._check()
        self._is_masked = False
        if not self._dictated or self._dictated.popleft() != token:
            self._dictated.clear()
        if not self._dictated:
            self._look_ahead()

    def forced(self) -> list[int]:
        """The tokens that must come next, to be accepted in this order; none if there is a choice or an end."""
        return list(self._dictated)

    def _look_ahead(self) -> None:
        """See what the grammar dictates from here. The next look is where that ends, as a look costs what it sees."""
        self._is_masked = False
        tokens = [] if self._matcher.is_stopped() else self._matcher.compute_ff_tokens()
        self._check()
        self._dictated.extend(takewhile(lambda token: token not in self._end_ids, tokens))

    def _is_allowed(self, token: int) -> bool:
        if self._is_masked:
            return bool(self._mask[token // 32] >> (token % 32) & 1)
        if token in self._end_ids:
            return self._matcher.is_stopped() or self._matcher.is_accepting()
        return self._matcher.validate_tokens([token]) == 1

    def _compute(self) -> None:
        if self._dictated:
            word, bit = divmod(self._dictated[0], 32)
            self._mask.fill(0)
            self._mask.view(np.uint32)[word] = 1 << bit
        else:
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._is_masked = True

    def _settle(self) -> None:
        """Take the matcher back from the worker, as it is not for two threads: wait only if it has begun with it.

        A mask takes 2 to 20 us, and a thread that has to be scheduled first, beside those of the model, longer.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            if not pending.cancel():
                pending.result()

    def _check(self) -> None:
        if self._matcher.is_error():
            self._compiled.is_spoilt = True
            raise InvalidRequest(refusal(self._matcher.get_error()), self._compiled.param)


def refusal(error: str) -> str:
    """Words for what llguidance said while following a grammar."""
    if error.startswith("NoExtension"):
        return "the grammar allows nothing to follow here: no text matches it"
    return f"the grammar is too complex to follow: {error.splitlines()[0][:200]}"
