"""One request under way: what it asked for, how far it is, and when. The loop's thread owns it.

`tokens` is the prompt and everything chosen since; `length` of them are in the KV row. How each position gets its KV
is fixed by the request alone: the first `base` are prefilled, a run of tokens that a grammar dictated is written in
one call (`runs`), every other one is decoded. A request that lost its row (preempted, or restarted after a fault)
writes the same positions again in the same way, so it goes on with the very bits that it had.
"""

import math
import secrets

import numpy as np
from numpy.typing import NDArray

from replicas.engine import Chunk, Final, Finish, Generation, Priority, Sink, Usage
from replicas.errors import ShoalError
from replicas.grammar import Constraint
from replicas.slot.request.answer import Answer
from replicas.slot.request.choice import Choice
from replicas.slot.request.edits import Edits
from replicas.slot.request.lane import Lane
from replicas.slot.request.lookup import Lookup
from replicas.slot.request.record import Record
from replicas.slot.request.saved import Saved

# A dictated run shorter than this is decoded with everyone else's tokens, which is cheaper (measured on the bundled
# model, two cores: four tokens of one row take 18 ms, one token of eight rows 28 ms). Longer ones are cut.
RUN_LEAST, RUN_MOST = 4, 16


class Sequence:
    """A request in the loop. `limit` is the most tokens that it may generate."""

    def __init__(
        self,
        request: Generation,
        prompt: tuple[int, ...],
        answer: Answer,
        sink: Sink,
        limit: int,
        constraint: Constraint | None = None,
    ) -> None:
        self.sampling = sampling = request.sampling
        self.request = request
        self.prompt = prompt
        self.answer = answer
        self.sink = sink
        self.constraint = constraint
        self.seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self.edits = Edits(sampling, prompt, limit)
        is_greedy = sampling.temperature == 0 or sampling.top_k == 1
        self.is_plain_greedy = is_greedy and not self.edits.has_any and sampling.min_tokens == 0 and constraint is None
        self.tokens = list(prompt)
        self.base = len(prompt)
        self.length = 0
        self.lane = Lane(request.adapter)
        self.reach = len(prompt) + limit  # how many tokens a row of its lane may hold
        self.runs: dict[int, int] = {}  # where a dictated run begins -> how many tokens one call writes there
        self.planned: tuple[int, ...] = ()  # dictated tokens that are not taken yet
        self.saved: Saved | None = None  # its KV, while it has no row
        self.hidden_sum: NDArray[np.float64] | None = None  # of the prompt's tokens, when an embedding is wanted
        self.lookup: Lookup | None = None
        self.chain: list[bytes] = []  # digests of its first blocks, for the prefix cache
        self.owner = ""  # the session that those blocks were loaded for, if they came from outside
        self.kept = 0  # blocks of it that the prefix cache has
        self.cached = self.restarts = 0
        self.is_seated = False  # it has a row
        self.is_aged = False  # it has waited too long to give way again
        self.is_done = False
        self.submitted_s = 0.0
        self.expires_s = math.inf
        self.record = Record()

    @property
    def generated(self) -> int:
        return self.answer.generated

    @property
    def position(self) -> int:
        """Where in the sequence the next token goes."""
        return len(self.tokens)

    @property
    def is_batch(self) -> bool:
        return self.request.priority is Priority.BATCH

    @property
    def run(self) -> int:
        """How many tokens the next call must write at once; 0: one, by decoding."""
        return self.runs.get(self.length, 0)

    @property
    def wants_choice(self) -> bool:
        """Decoding its next token ends in a new one: it is neither written again nor part of a run."""
        return self.length + 1 == len(self.tokens) and not self.planned

    def submit(self, now_s: float) -> None:
        self.submitted_s = now_s
        self.record.submitted(now_s)
        self.expires_s = now_s + self.request.deadline_s

    def unseat(self) -> None:
        """Its row is someone else's from now on; what is not saved is written again."""
        self.is_seated = False
        if self.saved is None:
            self.length = 0
            self.hidden_sum = None

    def rebase(self) -> None:
        """Prefill everything anew under the long rotary factors: what is there was written under the short ones."""
        self.lane = Lane(self.lane.adapter, is_long=True)
        self.reach = len(self.tokens) + self.answer.left
        self.base = len(self.tokens)
        self.length = 0
        self.saved = None
        self.chain, self.owner = [], ""
        self.kept = 0

    def take(self, choice: Choice, now_s: float) -> tuple[str, Finish | None]:
        """Note a chosen token; the text it made certain, and the verdict if it was the last."""
        token = choice.token
        self.tokens.append(token)
        self.record.chosen(choice, now_s)
        self.edits.add(token)
        text, finish = self.answer.take(token)
        if self.constraint is not None and finish is None:
            self.constraint.accept(token)
            if self.constraint.is_over:
                return self.answer.end(text)
        return text, finish

    def plan(self) -> None:
        """See what the grammar dictates after the last token: if it is long enough, one call will write it."""
        if self.constraint is None:
            return
        room = min(RUN_MOST - 1, self.answer.left - 1, self.reach - len(self.tokens))
        dictated = self.constraint.forced()[: max(0, room)]
        if len(dictated) + 1 >= RUN_LEAST:
            self.planned = tuple(dictated)
            self.runs[len(self.tokens) - 1] = len(dictated) + 1

    def chunk(self, text: str, final: Final | None = None) -> Chunk:
        """A chunk that reports every token taken since the one before."""
        tokens, scores = self.record.unreported()
        return Chunk(self.request.id, text, tokens, final, scores)

    def final(self, finish: Finish, now_s: float, error: ShoalError | None = None) -> Final:
        return Final(
            finish=finish,
            usage=Usage(prompt=len(self.prompt), generated=self.answer.generated, cached=self.cached),
            timings=self.record.timings(now_s),
            stop_sequence=self.answer.stop_sequence if finish is Finish.STOP else None,
            mean_logprob=self.record.mean_logprob,
            min_logprob=self.record.min_logprob,
            error=error,
            embedding=self._embedding() if finish is Finish.END else None,
        )

    def _embedding(self) -> tuple[float, ...] | None:
        """The mean of the prompt's hidden states, of length 1."""
        if self.hidden_sum is None:
            return None
        length = float(np.linalg.norm(self.hidden_sum))
        return tuple((self.hidden_sum / (length or 1.0)).tolist())
