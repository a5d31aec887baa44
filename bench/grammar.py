"""Structured output: is every answer valid, and what does it cost? `python -m bench.grammar [--quick] [--json FILE]`.

Generated JSON schemas (bench/schemas.py) are answered by the bundled model, every other one sampled at temperature 1,
and what it said is checked by the `jsonschema` package; an answer that ended by itself must be valid. Then streams of
fixed length are decoded without a grammar, with one that allows any text, and with one of JSON strings, by turns.
"""

import json
import statistics
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jsonschema import Draft202012Validator, ValidationError

from bench.aim import Aim
from bench.aim import tree as aims_tree
from bench.command import command, keep
from bench.engine.measures import decode_tokens_s
from bench.schemas import generated
from cluster.environment import shoal_home
from replicas.bundled import NAME
from replicas.engine import Chunk, Finish, Generation, Grammar, Message, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine

RESULT = Path("bench/results/grammar.json")
VALID_AIM, COST_AIM = 1.0, 0.05
DEADLINE_S = 3600.0
ANSWER_TOKENS = 256
PRICED_TOKENS = 96
PROMPT = (Message("user", "Give one example of a record, as JSON, with short values."),)
STORY = (Message("user", "Tell a long story about herring."),)
GRAMMARS = {
    "any text": Grammar("regex", "(?s:.*)"),
    "JSON strings": Grammar("json_schema", '{"type": "array", "minItems": 1000, "items": {"type": "string"}}'),
}


@dataclass
class Listener:
    """A sink for several generations. `times_s` has an entry for each token of an answer."""

    expected: int
    texts: dict[str, str] = field(default_factory=dict)
    times_s: dict[str, list[float]] = field(default_factory=dict)
    finals: dict[str, Chunk] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self, chunk: Chunk) -> None:
        self.texts[chunk.id] = self.texts.get(chunk.id, "") + chunk.text
        self.times_s.setdefault(chunk.id, []).extend([time.perf_counter()] * chunk.tokens)
        if chunk.final is not None:
            self.finals[chunk.id] = chunk
            if len(self.finals) == self.expected:
                self.done.set()

    def wait(self) -> None:
        """Raises RuntimeError if an answer failed or did not come."""
        if not self.done.wait(DEADLINE_S):
            raise RuntimeError(f"{len(self.finals)} of {self.expected} answers came within {DEADLINE_S:g} s")
        for chunk in self.finals.values():
            if chunk.final is not None and chunk.final.error is not None:
                raise RuntimeError(f"{chunk.id} failed: {chunk.final.error}")


@dataclass(frozen=True, slots=True)
class Validity:
    """What came of the schemas. `invalid` are the seeds of those that were answered wrongly."""

    schemas: int
    ended: int
    valid: int
    tokens: int
    forced: int
    time_s: float
    invalid: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """Decode tokens/s at so many streams, medians of alternating runs. `cost` is what of the speed is lost."""

    streams: int
    grammar: str
    without_tokens_s: float
    with_tokens_s: float

    @property
    def cost(self) -> float:
        return 1 - self.with_tokens_s / self.without_tokens_s


def validity(engine: SlotEngine, schemas: int) -> Validity:
    """Answer the schemas of the seeds 0, 1, 2, ... all at once."""
    listener, forced_before = Listener(schemas), engine.stats().forced_tokens_total
    began_s = time.perf_counter()
    for seed in range(schemas):
        grammar = Grammar("json_schema", json.dumps(generated(seed)))
        sampling = Sampling(ANSWER_TOKENS, temperature=float(seed % 2), seed=seed)
        engine.submit(Generation(str(seed), PROMPT, sampling, DEADLINE_S, grammar=grammar), listener)
    listener.wait()
    ended = [int(id_) for id_, chunk in listener.finals.items() if chunk.final and chunk.final.finish is Finish.END]
    invalid = tuple(seed for seed in ended if not _is_valid(listener.texts[str(seed)], seed))
    return Validity(
        schemas,
        len(ended),
        len(ended) - len(invalid),
        sum(map(len, listener.times_s.values())),
        engine.stats().forced_tokens_total - forced_before,
        time.perf_counter() - began_s,
        invalid,
    )


def _is_valid(text: str, seed: int) -> bool:
    try:
        Draft202012Validator(generated(seed)).validate(json.loads(text))
    except (ValueError, ValidationError):
        return False
    return True


def tokens_s(engine: SlotEngine, streams: int, grammar: Grammar | None) -> float:
    """Decode speed of `streams` equal requests."""
    listener = Listener(streams)
    sampling = Sampling(PRICED_TOKENS, temperature=1.0, min_tokens=PRICED_TOKENS, ignore_eos=True, seed=7)
    for stream in range(streams):
        engine.submit(Generation(str(stream), STORY, sampling, DEADLINE_S, grammar=grammar), listener)
    listener.wait()
    return decode_tokens_s(list(listener.times_s.values()))


def prices(engine: SlotEngine, streams: int, rounds: int) -> list[Price]:
    """One for each grammar. A first round warms up and does not count."""
    without: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in GRAMMARS}
    for _ in range(rounds + 1):
        without.append(tokens_s(engine, streams, None))
        for name, grammar in GRAMMARS.items():
            found[name].append(tokens_s(engine, streams, grammar))
    plain = statistics.median(without[1:])
    return [Price(streams, name, plain, statistics.median(runs[1:])) for name, runs in found.items()]


def aims(found: Validity, paid: list[Price]) -> list[Aim]:
    """Every answer that ended by itself is valid, and every grammar is cheap at every number of streams."""
    share = found.valid / found.ended if found.ended else 0.0
    return [
        Aim(f"valid of the {found.ended} that ended, {found.schemas} schemas", share, VALID_AIM),
        *(Aim(f"cost, {one.grammar}, {one.streams} streams", one.cost, COST_AIM, is_ceiling=True) for one in paid),
    ]


def main() -> int:
    parser = command("bench.grammar", "Validity and price of grammars.", RESULT)
    parser.add_argument("--quick", action="store_true", help="about a minute: 40 schemas, one round")
    parser.add_argument("--export", type=Path, default=shoal_home() / "models" / NAME, help="the model's directory")
    chosen = parser.parse_args()
    schemas, rounds, streams = (40, 1, (1, 8)) if chosen.quick else (500, 5, (1, 8, 16))
    engine = SlotEngine(Export.load(chosen.export), SlotConfig(max_len=512, provider="cpu", queue_limit=schemas))
    try:
        found = validity(engine, schemas)
        paid = [price for count in streams for price in prices(engine, count, rounds)]
    finally:
        engine.close()
    print(
        f"{found.schemas} schemas: {found.ended} answers ended by themselves, {found.valid} of these are valid;",
        end=" ",
    )
    print(f"{found.forced} of {found.tokens} tokens were forced; {found.time_s:.0f} s")
    print(
        f"{'streams':>8} {'grammar':>14} {'without':>9} {'with':>9} {'cost':>7}   decode tokens/s, medians of {rounds}"
    )
    for price in paid:
        row = f"{price.streams:>8} {price.grammar:>14} {price.without_tokens_s:>9.1f} {price.with_tokens_s:>9.1f}"
        print(f"{row} {price.cost:>7.1%}")
    reached = aims(found, paid)
    print("\n".join(map(str, reached)))
    told = {"validity": asdict(found), "prices": [{**asdict(price), "cost": price.cost} for price in paid]}
    keep({**told, "aims": aims_tree(reached)}, chosen.json)
    return int(bool(found.invalid))


if __name__ == "__main__":
    sys.exit(main())
