"""An answer's chunks with the calls read out of their text, up to the first stop string in what is text.

Stop strings are for words that the caller sees; in a call, or in what stands around it, they would cut it in two. So
the engine is given none where there may be calls: they are looked for behind the parser, and an answer that one ends
gets its `Final` here, while the generation under it goes on until whoever reads it lets it go.
"""

from collections.abc import Sequence
from dataclasses import replace

from replicas.detokenizer import StopFilter
from replicas.engine import Chunk, Final, Finish, Sampling, Usage
from replicas.tools.parser import CallParser, Said

_CUT = (Finish.LENGTH, Finish.CONTEXT)


class CallReader:
    """Reads one answer, to a prompt of `prompt_tokens`."""

    def __init__(self, parser: CallParser, sampling: Sampling, prompt_tokens: int) -> None:
        self._parser = parser
        self._filter = StopFilter(sampling.stop, keeps_stop=sampling.keeps_stop)
        self._prompt_tokens = prompt_tokens
        self._tokens = 0
        self.has_stopped = False

    def read(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """`chunks` with their calls read. Once `has_stopped` nothing more of the answer counts."""
        told: list[Chunk] = []
        for chunk in chunks:
            told += self._parts(chunk)
            if self.has_stopped:
                break
        return told

    def _parts(self, chunk: Chunk) -> list[Chunk]:
        """The tokens and scores in the first part, the `Final` in the last."""
        self._tokens += chunk.tokens
        said, stop = self._said(chunk)
        final = chunk.final if stop is None else self._stopped(chunk.final, stop)
        bare = Chunk(chunk.id, "", 0)
        parts = [replace(bare, text=one) if isinstance(one, str) else replace(bare, call=one) for one in said if one]
        parts = parts or [bare]
        parts[0] = replace(parts[0], tokens=chunk.tokens, scores=chunk.scores)
        parts[-1] = replace(parts[-1], final=final)
        return [part for part in parts if part != bare]

    def _said(self, chunk: Chunk) -> tuple[list[Said], str | None]:
        """What is certain now, and the stop string if one is complete. Words before a call cannot go on behind it."""
        read = self._parser.push(chunk.text)
        if chunk.final is not None:
            read += self._parser.flush(is_cut=chunk.final.finish in _CUT)
        said: list[Said] = []
        for one in read:
            if not isinstance(one, str):
                said += [self._filter.flush(), one]
                continue
            text, stop = self._filter.push(one)
            said.append(text)
            if stop is not None:
                return said, stop
        if chunk.final is not None:
            said.append(self._filter.flush())
        return said, None

    def _stopped(self, final: Final | None, stop: str) -> Final:
        """The end of the answer. What the cache held is not known before the engine's own end."""
        if final is not None and final.finish in (Finish.ERROR, Finish.CANCELLED):
            return final
        self.has_stopped = True
        ended = final or Final(Finish.STOP, Usage(self._prompt_tokens, self._tokens))
        return replace(ended, finish=Finish.STOP, stop_sequence=stop)
