"""One answer in the older completions dialect: bare text that goes on from bare text, of one choice or many.

A chunk is the same object as a whole answer, with a piece of the text; `echo` puts the prompt before it. Scores are
four lists side by side; `text_offset` counts the characters of the tokens before one.
"""

from collections.abc import Sequence

from replicas.engine import Chunk, Final, Finish, TokenScore
from replicas.errors import EngineFailed
from router import sse
from router.call import Answer
from router.openai.choices import Tally
from router.openai.errors import error_value
from router.openai.logprobs import LEAST_LOGPROB, token_text
from router.openai.reply import DONE, FINISH_REASONS
from router.openai.request import Wording

KIND = "text_completion"


class TextReply:
    """Words one answer; `echoed` has what is said again before each choice, nothing if nothing is."""

    ping = b": ping\n\n"

    def __init__(self, completion_id: str, model: str, created_s: int, wording: Wording, echoed: Sequence[str]) -> None:
        self._completion_id = completion_id
        self.model = model
        self._created_s = created_s
        self._wants_usage = wording.wants_usage
        self._echoed = echoed
        self._tally = Tally(len(echoed), wording.choices)
        self._offsets = [0] * len(echoed)
        self._is_over = False

    def begin(self, prompt_tokens: int) -> bytes:
        """The prompts, where they are said again; a stream without them begins with its first words."""
        return b"".join(self._chunk(choice, text) for choice, text in enumerate(self._echoed) if text)

    def feed(self, chunks: Sequence[Chunk], choice: int = 0) -> bytes:
        """One chunk for all the text of `chunks`, and the closing ones after a `Final`."""
        if self._is_over or self._tally.has_ended(choice):
            return b""
        runs, final = sse.runs(chunks)
        text = "".join(run.text for run in runs)
        scores = [score for run in runs for score in run.scores]
        sent = self._chunk(choice, text, self._scores(choice, scores)) if text or scores else b""
        return sent if final is None else sent + self._end(choice, final)

    def whole(self, *answers: Answer) -> bytes:
        """The body of a reply that is not streamed."""
        choices: list[sse.Json] = []
        for index, (echoed, answer) in enumerate(zip(self._echoed, answers, strict=True)):
            self._tally.end(index, answer.final.usage)
            scores = self._scores(index, answer.scores)
            choices.append(_choice(index, echoed + answer.text, scores, FINISH_REASONS[answer.final.finish]))
        return sse.encoded(self._envelope(choices) | {"usage": self._tally.usage()})

    def _end(self, choice: int, final: Final) -> bytes:
        if final.finish in (Finish.ERROR, Finish.CANCELLED) or final.error is not None:
            self._is_over = True
            return sse.data(error_value(final.error or EngineFailed(final.finish))) + DONE
        self._tally.end(choice, final.usage)
        closing = self._chunk(choice, "", finish_reason=FINISH_REASONS[final.finish])
        if not self._tally.is_done:
            return closing
        self._is_over = True
        if self._wants_usage:
            closing += sse.data(self._envelope([]) | {"usage": self._tally.usage()})
        return closing + DONE

    def _chunk(self, choice: int, text: str, scores: sse.Json = None, finish_reason: str | None = None) -> bytes:
        value = self._envelope([_choice(choice, text, scores, finish_reason)])
        return sse.data(value | {"usage": None} if self._wants_usage else value)

    def _envelope(self, choices: list[sse.Json]) -> dict[str, sse.Json]:
        return {
            "id": self._completion_id,
            "object": KIND,
            "created": self._created_s,
            "model": self.model,
            "choices": choices,
        }

    def _scores(self, choice: int, scores: Sequence[TokenScore]) -> sse.Json:
        """The `logprobs` member; None without scores."""
        if not scores:
            return None
        tokens = [token_text(score.chosen) for score in scores]
        offsets: list[sse.Json] = []
        for token in tokens:
            offsets.append(self._offsets[choice])
            self._offsets[choice] += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [max(LEAST_LOGPROB, score.chosen.logprob) for score in scores],
            "top_logprobs": [
                {token_text(top): max(LEAST_LOGPROB, top.logprob) for top in score.top} for score in scores
            ],
            "text_offset": offsets,
        }


def _choice(index: int, text: str, scores: sse.Json, finish_reason: str | None) -> sse.Json:
    return {"index": index, "text": text, "logprobs": scores, "finish_reason": finish_reason}
