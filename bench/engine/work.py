"""One run's work, the same for every side, and what came of it: when each token of each stream was there.

Prompts are random ids, new in every run, so that no side finds one in a cache. Answers are greedy and of fixed length.
Both sides of the pipe to a worker speak this as one JSON line; only the standard library is used, as a worker may run
under an interpreter that has nothing else of this project.
"""

import json
import random
from dataclasses import asdict, dataclass

_FIRST_ID, _LAST_ID = 100, 30000


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts as token ids, when each one arrives (seconds from the start), and how many tokens each answer has."""

    prompts: tuple[tuple[int, ...], ...]
    arrivals_s: tuple[float, ...]
    tokens: int

    @property
    def streams(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, slots=True)
class Answers:
    """Per stream, the seconds from the start of the run at which its tokens were there."""

    times_s: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a run is."""

    prompt_tokens: int
    answer_tokens: int
    vocab: int


def work(sizes: Sizes, arrivals_s: tuple[float, ...], seed: int) -> Work:
    """The work of run `seed`: as many streams as arrivals."""
    draw = random.Random(seed)
    prompts = tuple(random_ids(draw, sizes.prompt_tokens, sizes.vocab) for _ in arrivals_s)
    return Work(prompts, arrivals_s, sizes.answer_tokens)


def at_once(streams: int) -> tuple[float, ...]:
    """Everybody comes at the start."""
    return (0.0,) * streams


def poisson(streams: int, mean_gap_s: float, seed: int) -> tuple[float, ...]:
    """The first comes at the start, the others after exponential gaps."""
    draw = random.Random(seed)
    arrivals = [0.0]
    while len(arrivals) < streams:
        arrivals.append(arrivals[-1] + draw.expovariate(1 / mean_gap_s))
    return tuple(arrivals)


def to_line(item: Work | Answers) -> str:
    return json.dumps(asdict(item))


def read_work(line: str) -> Work:
    """Raises ValueError, KeyError for a line that is none."""
    tree = json.loads(line)
    return Work(tuple(map(tuple, tree["prompts"])), tuple(tree["arrivals_s"]), tree["tokens"])


def read_answers(line: str) -> Answers:
    """Raises ValueError, KeyError for a line that is none."""
    return Answers(tuple(map(tuple, json.loads(line)["times_s"])))


def random_ids(draw: random.Random, count: int, vocab: int) -> tuple[int, ...]:
    """`count` tokens of a prompt that nobody has asked before. Special tokens come first in most vocabularies."""
    return tuple(draw.randrange(_FIRST_ID, min(vocab, _LAST_ID)) for _ in range(count))
