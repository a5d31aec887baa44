"""A loop on passes that compute nothing: what is in each row is written down and checked at every call.

Whatever comes from the loop's thread may act on it (`on`), so that a test happens at an exact point of a schedule.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from replicas.echo import EchoTokenizer
from replicas.engine import Generation, Priority, Sampling
from replicas.slot.request.answer import Answer
from replicas.slot.request.choice import Choice
from replicas.slot.request.lane import BARE, Lane
from replicas.slot.request.saved import Saved
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.loop import Loop, Machine
from replicas.slot.step.requests import LoopLimits
from tests.replicas.engines import WAIT_S, Inbox

Event = tuple[str, str, int]
"""What was done ("prefill", "decode"), for whom, and to how many tokens."""


@dataclass
class Clock:
    """Time that passes when told to."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_(self, seconds: float) -> None:
        self.now_s += seconds


def sequence(
    id_: str, prompt: int, tokens: int, inbox: Inbox, priority: Priority = Priority.INTERACTIVE, deadline_s: float = 1e9
) -> Sequence:
    """A request of `prompt` ids that goes on for `tokens` characters; every id differs from its neighbours'."""
    ids = tuple(32 + (len(id_) * 7 + ord(id_[-1]) + 5 * place) % 90 for place in range(prompt))
    request = Generation(id_, ids, Sampling(max_tokens=tokens), deadline_s=deadline_s, priority=priority)
    answer = Answer(request.sampling, EchoTokenizer().detokenizer(), (), tokens)
    return Sequence(request, ids, answer, inbox, tokens)


def following(tokens: list[int]) -> int:
    """The token that comes after `tokens`: a printable one, so that each makes a chunk."""
    return 32 + (tokens[-1] * 3 + len(tokens)) % 90


def text_of(sequence: Sequence) -> str:
    """What `sequence` is answered."""
    tokens = list(sequence.prompt)
    while len(tokens) < len(sequence.prompt) + sequence.sampling.max_tokens:
        tokens.append(following(tokens))
    return bytes(tokens[len(sequence.prompt) :]).decode()


@dataclass
class Ledger:
    """Passes and memory. `is_saving` False: there is no room for copies."""

    slots: int
    is_saving: bool = True
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows: list[list[int]] = [[] for _ in range(self.slots + 1)]
        self._counts: Counter[tuple[str, str]] = Counter()
        self._actions: dict[tuple[str, str, int], Callable[[], object]] = {}

    def on(self, what: str, id_: str, count: int, action: Callable[[], object]) -> None:
        """Call `action` at the `count`-th time that `what` is done for `id_`."""
        self._actions[what, id_, count] = action

    def count(self, what: str, id_: str) -> int:
        """How many tokens of `id_` were ..."""
        return sum(tokens for event, name, tokens in self.events if (event, name) == (what, id_))

    def order(self) -> list[str]:
        """Who was prefilled, in order of first times."""
        return list(dict.fromkeys(name for event, name, _ in self.events if event == "prefill"))

    def prefill(self, row: int, sequence: Sequence, tokens: int) -> Choice | None:
        end = sequence.length + tokens
        self._write(row, sequence, tokens)
        self._note("prefill", sequence, tokens)
        is_next_wanted = end == sequence.base == len(sequence.tokens)
        return Choice(following(sequence.tokens), 0.0) if is_next_wanted else None

    def decode(self, row: int, sequences: list[Sequence]) -> list[Choice | None]:
        assert len({sequence.lane for sequence in sequences}) == 1
        choices: list[Choice | None] = []
        for place, sequence in enumerate(sequences, row):
            self._write(place, sequence, 1)
            self._note("decode", sequence, 1)
            choices.append(Choice(following(sequence.tokens), 0.0) if sequence.wants_choice else None)
        return choices

    def move(self, source: int, target: int, tokens: int) -> None:
        self.rows[target] = self.rows[source][:tokens]

    def save(self, row: int, tokens: int) -> Saved | None:
        return Saved(tokens, tuple(self.rows[row][:tokens])) if self.is_saving else None

    def restore(self, row: int, saved: Saved) -> None:
        assert isinstance(saved.content, tuple)
        self.rows[row] = list(saved.content)

    def _write(self, row: int, sequence: Sequence, tokens: int) -> None:
        held = self.rows[row][: sequence.length]
        assert held == sequence.tokens[: sequence.length]
        self.rows[row] = held + sequence.tokens[sequence.length : sequence.length + tokens]

    def _note(self, what: str, sequence: Sequence, tokens: int) -> None:
        id_ = sequence.request.id
        self.events.append((what, id_, tokens))
        self._counts[what, id_] += 1
        self._actions.get((what, id_, self._counts[what, id_]), int)()


class Rig:
    """A loop over a ledger, and who was submitted."""

    def __init__(self, slots: int, *, prefill_chunk: int = 8, is_saving: bool = True) -> None:
        self.clock = Clock()
        self.ledger = Ledger(slots, is_saving)
        limits = LoopLimits("ledger", slots, prefill_chunk, 1000)
        self.loop = Loop(Machine(self.ledger, self.ledger), limits, clock=self.clock)
        self._changed = threading.Condition()  # guards the next two
        self.inboxes: dict[str, Inbox] = {}
        self.sequences: dict[str, Sequence] = {}

    def submit(self, id_: str, prompt: int = 5, tokens: int = 3, deadline_s: float = 1e9, lane: Lane = BARE) -> None:
        """Names that begin with b are batch requests."""
        inbox = Inbox()
        priority = Priority.BATCH if id_.startswith("b") else Priority.INTERACTIVE
        made = sequence(id_, prompt, tokens, inbox, priority, deadline_s)
        made.lane = lane
        self.loop.submit(made)
        with self._changed:
            self.sequences[id_], self.inboxes[id_] = made, inbox
            self._changed.notify()

    def submit_all(self, *ids: str) -> None:
        for id_ in ids:
            self.submit(id_)

    def submit_at_once(self, *ids: str) -> None:
        """All of them before the next step."""
        self.loop.call(lambda: self.submit_all(*ids)).result()

    def cancel(self, id_: str) -> None:
        self.loop.cancel(self.sequences[id_])

    def close(self) -> None:
        self.loop.close()

    def finish(self, count: int) -> None:
        """Wait for `count` requests, and see that nothing is left and that every whole answer is the right one."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.inboxes) == count, WAIT_S)
        for id_, inbox in self.inboxes.items():
            if inbox.final().usage.generated == self.sequences[id_].sampling.max_tokens:
                assert inbox.text == text_of(self.sequences[id_])
        assert (self.loop.rows.used, self.loop.queued, self.loop.rows.tokens) == (0, 0, 0)
