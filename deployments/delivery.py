"""What of an answer has gone out, so that another replica can finish it: the answer begins again there, what has been
delivered is skipped, and only what comes after it goes on. Both must say the same, or the answer has failed.
"""

from dataclasses import replace

from replicas.engine import Chunk
from replicas.errors import EngineFailed


class Delivery:
    """One answer on its way. Counts characters, tokens and scores that have gone out."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._tokens = 0
        self._scores = 0
        self._ahead = ""  # what has gone out and must come again first
        self._tokens_ahead = 0
        self._scores_ahead = 0
        self.is_contradicted = False

    @property
    def has_begun(self) -> bool:
        """Something has gone out."""
        return bool(self._parts)

    def begin_again(self) -> None:
        """What comes next is the beginning of the answer once more."""
        self._ahead = "".join(self._parts)
        self._tokens_ahead, self._scores_ahead = self._tokens, self._scores

    def rest(self, chunk: Chunk) -> Chunk:
        """What of `chunk` has not gone out yet; it counts as gone from now on. Raises EngineFailed if the answer is
        another one."""
        again = len(self._ahead)
        is_other = not chunk.text.startswith(self._ahead) and not self._ahead.startswith(chunk.text)
        self._ahead, text = self._ahead[len(chunk.text) :], chunk.text[again:]
        is_short = chunk.final is not None and chunk.final.error is None and bool(self._ahead)
        if is_other or is_short:
            self.is_contradicted = True
            raise EngineFailed("the answer was begun again after a loss, and was another one")
        tokens = max(0, chunk.tokens - self._tokens_ahead)
        self._tokens_ahead = max(0, self._tokens_ahead - chunk.tokens)
        scores = chunk.scores[self._scores_ahead :]
        self._scores_ahead = max(0, self._scores_ahead - len(chunk.scores))
        self._parts.append(text)
        self._tokens += tokens
        self._scores += len(scores)
        return replace(chunk, text=text, tokens=tokens, scores=scores)
