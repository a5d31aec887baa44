"""What the scheduler's tests share: kinds of requests, what each gets alone, and crowds that arrive by a plan."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

from replicas.collect import Completed, collect
from replicas.engine import Chunk, Final, Finish, Generation, Grammar, Priority, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.engine import SlotStream
from tests.models import tiny_longrope_export
from tests.replicas.engines import Inbox, kept_folder, sampled, tiny

BLOCK_BYTES = 32 * 512
"""A block of the prefix cache, on the tiny models: 32 tokens of 2 layers, 2 sides, 2 heads, 16 floats."""

DICTATED = Grammar("regex", r'\{"name": "the user and the system", "kind": "(a|b)", "text": "[a-z]{3,9}"\}')
"""Two long runs, a choice between them, and one at the end."""
SOME_DIGITS = Grammar("regex", r"[0-9]{2,9}")

EDITED = sampled(
    max_tokens=20,
    temperature=1.2,
    seed=12,
    ignore_eos=True,
    min_p=0.02,
    frequency_penalty=0.8,
    presence_penalty=0.3,
    logit_bias=((7, 4.0), (40, -100.0)),
    stop_token_ids=(99, 131),
)
"""All that a request can change of the logits."""

SAMPLINGS: tuple[Sampling, ...] = (
    sampled(max_tokens=3, ignore_eos=True),
    sampled(max_tokens=14, ignore_eos=True),
    sampled(max_tokens=9, temperature=1.0, seed=7),
    sampled(max_tokens=12, temperature=0.7, top_p=0.9, seed=8, ignore_eos=True),
    sampled(max_tokens=11, temperature=1.5, top_k=20, repetition_penalty=1.2, seed=9, ignore_eos=True),
    sampled(max_tokens=10, min_tokens=10, repetition_penalty=1.3),
    sampled(max_tokens=14, temperature=1.0, seed=3, ignore_eos=True, stop=("e", "th")),
    EDITED,
)


def prompt(length: int, head: int = 0, seed: int = 5) -> tuple[int, ...]:
    """`length` token ids, of which the first `head` are the same for every seed."""
    shared = [3 + (13 * place) % 270 for place in range(head)]
    own = [3 + (11 * place + seed * (length + place * place)) % 270 for place in range(length - head)]
    return (*shared, *own)


@dataclass(frozen=True)
class Kind:
    """A request without its name."""

    prompt: tuple[int, ...]
    sampling: Sampling
    grammar: Grammar | None = None
    top_logprobs: int | None = None
    adapter: str | None = None

    def named(self, id_: str, priority: Priority = Priority.INTERACTIVE, session: str | None = None) -> Generation:
        return Generation(
            id_,
            self.prompt,
            self.sampling,
            priority=priority,
            session_id=session,
            grammar=self.grammar,
            adapter=self.adapter,
            top_logprobs=self.top_logprobs,
        )


Opened = Callable[[SlotConfig], SlotEngine]


def tiny_engine(config: SlotConfig) -> SlotEngine:
    return SlotEngine(tiny(), config)


@cache
def longrope() -> Export:
    """The tiny model whose rotary factors change after 48 tokens."""
    return Export.load(tiny_longrope_export(kept_folder() / "longrope"))


def longrope_engine(config: SlotConfig) -> SlotEngine:
    return SlotEngine(longrope(), config)


PLAIN = SlotConfig(slots=1, max_len=256, threads=1, cache_bytes=0)
"""One slot and no cache: nothing to share with anyone."""


@cache
def alone(kind: Kind, opened: Opened = tiny_engine) -> Completed:
    """What `kind` gets on a fresh engine that keeps nothing."""
    engine = opened(PLAIN)
    answer = collect(engine, kind.named("alone"))
    engine.close()
    return answer


def is_same(kind: Kind, inbox: Inbox, opened: Opened = tiny_engine) -> bool:
    """Whether an answer is bit by bit the one that `kind` gets alone; of one that was cut short, as far as it goes."""
    got, expected = inbox.final(), alone(kind, opened)
    scores = tuple(score for chunk in inbox.chunks for score in chunk.scores)
    if got.finish is Finish.CANCELLED:
        is_beginning = expected.scores[: len(scores)] == scores
        return is_beginning and expected.text.startswith(inbox.text)
    return (inbox.text, scores, _lasting(got)) == (expected.text, expected.scores, _lasting(expected.final))


def _lasting(final: Final) -> tuple[object, ...]:
    """What does not depend on time or on what the cache held."""
    usage = replace(final.usage, cached=0)
    return final.finish, usage, final.stop_sequence, final.mean_logprob, final.min_logprob, final.error


@dataclass(frozen=True)
class Arrival:
    """`kind` comes when the one before it has had `gap` chunks or is done, and is cancelled after `cancel` chunks."""

    kind: Kind
    gap: int = 0
    priority: Priority = Priority.INTERACTIVE
    cancel: int | None = None
    session: str | None = None


@dataclass
class Crowd:
    """Submits one after another from the engine's own thread, and keeps everyone's answer."""

    engine: SlotEngine
    plan: list[Arrival]
    inboxes: list[Inbox] = field(default_factory=list)

    def run(self) -> None:
        """Returns when everyone is done."""
        self.inboxes = [Inbox() for _ in self.plan]
        self._coming = iter(range(len(self.plan)))
        self._submit()
        for inbox in self.inboxes:
            inbox.final()

    def _submit(self) -> None:
        number = next(self._coming, None)
        if number is None:
            return
        arrival, inbox = self.plan[number], self.inboxes[number]
        has_next_come, streams = False, list[SlotStream]()
        is_submitted = threading.Event()

        def sink(chunk: Chunk) -> None:
            nonlocal has_next_come
            inbox(chunk)
            if arrival.cancel is not None and len(inbox.chunks) >= arrival.cancel:
                assert is_submitted.wait(60)
                streams[0].cancel()
            if not has_next_come and (len(inbox.chunks) >= arrival.gap or chunk.final is not None):
                has_next_come = True
                self._submit()

        streams.append(self.engine.submit(arrival.kind.named(str(number), arrival.priority, arrival.session), sink))
        is_submitted.set()
        if arrival.cancel == 0:
            streams[0].cancel()
