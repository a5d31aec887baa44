"""Who gets a row, who gives way, and how long anyone waits: counted in steps, on passes that compute nothing."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from replicas.engine import Finish, Priority
from replicas.errors import DeadlineExceeded
from replicas.slot.request.lane import Lane
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.loop import STUCK_S
from replicas.slot.step.pace import EVEN, LEAST, Pace
from replicas.slot.step.rows import Rows
from replicas.slot.step.waiting import AGED_S, Waiting
from tests.replicas.engines import Inbox
from tests.replicas.ledger import Ledger, Rig, sequence, text_of

Rigs = Callable[..., Rig]


@pytest.fixture
def rigs() -> Iterator[Rigs]:
    made: list[Rig] = []

    def make(slots: int, *, prefill_chunk: int = 8, is_saving: bool = True) -> Rig:
        made.append(Rig(slots, prefill_chunk=prefill_chunk, is_saving=is_saving))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


def test_interactive_requests_go_first_each_class_in_order_of_arrival(rigs: Rigs) -> None:
    rig = rigs(1)
    rig.submit_at_once("b1", "b2", "i1", "i2", "b3", "i3")
    rig.finish(6)
    assert rig.ledger.order() == ["i1", "i2", "i3", "b1", "b2", "b3"]


def test_batch_requests_that_waited_long_take_turns_with_interactive_ones(rigs: Rigs) -> None:
    rig = rigs(1)
    rig.ledger.on("decode", "i0", 2, lambda: rig.submit_all("b1", "b2", "b3"))
    rig.ledger.on("decode", "i0", 3, lambda: rig.clock.pass_(AGED_S))
    rig.ledger.on("decode", "i0", 4, lambda: rig.submit_all("i1", "i2", "i3", "i4"))
    rig.submit("i0", tokens=9)
    rig.finish(8)
    assert rig.ledger.order() == ["i0", "b1", "i1", "b2", "i2", "b3", "i3", "i4"]
    assert rig.loop.tally.preemptions == 0


def test_interactive_requests_without_end_do_not_starve_a_batch_request(rigs: Rigs) -> None:
    rig = rigs(1)

    def next_after(number: int) -> None:
        rig.clock.pass_(1.0)
        if number < 60:
            rig.ledger.on("decode", f"i{number + 1}", 1, lambda: next_after(number + 1))
            rig.submit(f"i{number + 1}")

    rig.ledger.on("prefill", "i0", 1, lambda: rig.submit("b"))
    rig.ledger.on("decode", "i0", 1, lambda: next_after(0))
    rig.submit("i0")
    rig.finish(62)
    assert rig.ledger.order().index("b") == AGED_S


@pytest.mark.parametrize("is_saving", [True, False])
def test_the_youngest_batch_row_gives_way_and_goes_on_where_it_stopped(rigs: Rigs, *, is_saving: bool) -> None:
    rig = rigs(2, is_saving=is_saving)
    rig.ledger.on("decode", "b1", 1, lambda: rig.clock.pass_(1.0))
    rig.ledger.on("decode", "b1", 2, lambda: rig.submit("b2", prompt=20, tokens=30))
    rig.ledger.on("decode", "b2", 4, lambda: rig.submit("i"))
    rig.submit("b1", tokens=30)
    rig.finish(3)
    tally, ledger, again = rig.loop.tally, rig.ledger, int(not is_saving)
    assert (tally.preemptions, ledger.count("prefill", "b1"), ledger.count("decode", "b1")) == (1, 5, 29)
    assert (ledger.count("prefill", "b2"), tally.replayed_tokens) == (20 + 20 * again, 4 * again)
    assert ledger.count("decode", "b2") == 29 + 4 * again
    served = ledger.events[ledger.events.index(("prefill", "i", 5)) :]
    assert ("decode", "b2", 1) not in served[: served.index(("decode", "i", 1))]


def test_one_that_gave_way_is_the_next_of_its_class(rigs: Rigs) -> None:
    rig = rigs(1)
    rig.ledger.on("decode", "b1", 2, lambda: rig.submit_all("b2", "i"))
    rig.submit("b1", tokens=20)
    rig.finish(3)
    assert rig.loop.tally.preemptions == 1
    assert list(dict.fromkeys(id_ for _, id_, _ in reversed(rig.ledger.events))) == ["b2", "b1", "i"]


def test_an_aged_batch_row_does_not_give_way_again(rigs: Rigs) -> None:
    rig = rigs(1)
    rig.ledger.on("decode", "b", 2, lambda: rig.submit("i1"))
    rig.ledger.on("decode", "i1", 1, lambda: rig.clock.pass_(AGED_S))
    rig.ledger.on("decode", "b", 4, lambda: rig.submit("i2"))
    rig.submit("b", tokens=20)
    rig.finish(3)
    assert rig.loop.tally.preemptions == 1
    assert [id_ for what, id_, _ in rig.ledger.events if what == "decode"][-3:] == ["b", "i2", "i2"]


def test_a_batch_prompt_that_is_being_read_gives_way(rigs: Rigs) -> None:
    rig = rigs(2)
    rig.ledger.on("prefill", "b", 3, lambda: rig.submit("i"))
    rig.submit("b", prompt=100)
    rig.finish(2)
    assert [id_ for what, id_, _ in rig.ledger.events if what == "prefill"][:4] == ["b", "b", "b", "i"]
    assert rig.loop.tally.preemptions == 1


def test_an_interactive_prompt_that_is_being_read_does_not(rigs: Rigs) -> None:
    rig = rigs(2)
    rig.ledger.on("prefill", "i1", 3, lambda: rig.submit("i2"))
    rig.submit("i1", prompt=100)
    rig.finish(2)
    names = [id_ for what, id_, _ in rig.ledger.events if what == "prefill"]
    assert (names[:13], set(names[13:])) == (["i1"] * 13, {"i2"})
    assert rig.loop.tally.preemptions == 0


def test_a_long_prompt_holds_up_nobody_for_more_than_a_chunk(rigs: Rigs) -> None:
    rig = rigs(4, prefill_chunk=64)
    rig.ledger.on("decode", "i1", 3, lambda: rig.submit("i2", prompt=4096))
    rig.ledger.on("decode", "i1", 4, lambda: rig.submit("b", prompt=1000))
    rig.submit("i1", tokens=200)
    rig.finish(3)
    stalls = [0]
    for what, id_, tokens in rig.ledger.events:
        stalls[-1] += tokens if what == "prefill" else 0
        if (what, id_) == ("decode", "i1"):
            stalls.append(0)
    assert max(stalls[:-1]) <= 64  # after its last token nobody is held up
    assert stalls.count(LEAST) >= 190  # one beside each of its tokens


def test_prompts_that_come_together_share_one_step(rigs: Rigs) -> None:
    rig = rigs(8, prefill_chunk=64)
    rig.submit_at_once(*(f"i{number}" for number in range(8)))
    rig.finish(8)
    assert [what for what, _, _ in rig.ledger.events[:9]] == ["prefill"] * 8 + ["decode"]


def test_after_a_fault_all_begin_again_in_order_of_arrival(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, sort, faults = rigs(3), Rows.sort, ["copy failed"]

    def broken(self: Rows) -> None:
        if len(self.active) == 3 and faults:
            rig.ledger.events.clear()
            raise RuntimeError(faults.pop())
        sort(self)

    monkeypatch.setattr(Rows, "sort", broken)
    rig.submit_at_once("i1", "i2", "i3", "i4")
    rig.finish(4)
    assert rig.ledger.order() == ["i1", "i2", "i3", "i4"]
    assert rig.loop.tally.restarts == 3


def test_a_run_of_the_model_that_does_not_return_makes_the_engine_unhealthy(rigs: Rigs) -> None:
    rig, seen = rigs(1), list[bool]()

    def look() -> None:
        seen.append(rig.loop.is_healthy)
        rig.clock.pass_(STUCK_S + 1)
        seen.append(rig.loop.is_healthy)

    rig.ledger.on("decode", "i", 2, look)
    rig.submit("i", tokens=9)
    rig.finish(1)
    rig.submit_at_once()
    assert (seen, rig.loop.is_healthy) == ([True, False], True)


ENDS = {"cancel": (Finish.CANCELLED, type(None)), "deadline": (Finish.ERROR, DeadlineExceeded)}
STATES: dict[str, tuple[str, str, int]] = {
    "waiting": ("decode", "i", 2),
    "filling": ("prefill", "b", 3),
    "active": ("decode", "b", 3),
    "kept": ("decode", "i", 2),
    "to be written again": ("decode", "i", 2),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("state", STATES)
def test_a_request_can_end_in_every_state(rigs: Rigs, state: str, how: str) -> None:
    rig = rigs(1, is_saving=state == "kept")
    end = {"cancel": lambda: rig.cancel("b"), "deadline": lambda: rig.clock.pass_(100.0)}[how]
    rig.ledger.on(*STATES[state], end)
    if state == "waiting":
        rig.ledger.on("prefill", "i", 1, lambda: rig.submit("b", prompt=100, tokens=90, deadline_s=50.0))
        rig.submit("i", tokens=9)
    else:
        rig.ledger.on("decode", "b", 5, lambda: rig.submit("i", tokens=9))
        rig.submit("b", prompt=100, tokens=90, deadline_s=50.0)
    rig.finish(1 if state in {"filling", "active"} else 2)
    final, ended = rig.inboxes["b"].final(), rig.sequences["b"]
    assert (final.finish, type(final.error)) == ENDS[how]
    assert text_of(ended).startswith(rig.inboxes["b"].text)
    assert ended.saved is None
    read, decoded = {"waiting": (0, 0), "filling": (24, 0), "active": (100, 3)}.get(state, (100, 5))
    assert rig.ledger.count("prefill", "b") == read
    assert decoded <= rig.ledger.count("decode", "b") <= decoded + 1


PLANS = st.lists(
    st.tuples(st.sampled_from("bbi"), st.integers(1, 40), st.integers(1, 12), st.sampled_from("xy"), st.integers(0, 9)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(slots=st.integers(1, 6), is_saving=st.booleans(), plan=PLANS)
def test_no_schedule_mixes_rows_up(*, slots: int, is_saving: bool, plan: list[tuple[str, int, int, str, int]]) -> None:
    rig = Rig(slots, is_saving=is_saving)

    def submit(number: int) -> None:
        kind, prompt, tokens, adapter, chance = plan[number]
        id_ = f"{kind}{number}"
        if number + 1 < len(plan):
            rig.ledger.on("prefill", id_, 1, lambda: submit(number + 1))
        if chance == 9:
            rig.ledger.on("decode", id_, 2, lambda: rig.cancel(id_))
        rig.submit(id_, prompt, tokens, lane=Lane(adapter))

    submit(0)
    rig.finish(len(plan))
    rig.close()
    assert [inbox.final().error for inbox in rig.inboxes.values()] == [None] * len(plan)


class WaitingByHand:
    """What Waiting promises, in its plainest form."""

    def __init__(self) -> None:
        self.lines: dict[bool, deque[Sequence]] = {True: deque(), False: deque()}
        self.was_aged = False

    def pop(self, now_s: float) -> Sequence | None:
        batch, interactive = self.lines[True], self.lines[False]
        is_aged = bool(batch) and now_s - batch[0].submitted_s >= AGED_S
        takes_batch = bool(batch) and (not interactive or (is_aged and not self.was_aged))
        self.was_aged = takes_batch and is_aged
        line = batch if takes_batch else interactive
        return line.popleft() if line else None


KINDS = st.sampled_from(["put", "put", "pop", "put back", "remove"])
OPERATIONS = st.lists(st.tuples(KINDS, st.booleans(), st.sampled_from([0, 0, 9, 20])), min_size=8)


@settings(max_examples=300)
@given(OPERATIONS)
def test_the_queue_keeps_its_promise(operations: list[tuple[str, bool, int]]) -> None:
    waiting, by_hand, now_s, popped = Waiting(), WaitingByHand(), 0.0, list[Sequence]()
    for number, (operation, is_batch, seconds) in enumerate(operations):
        now_s += seconds
        line = by_hand.lines[is_batch]
        if operation == "put":
            made = sequence(str(number), 2, 1, Inbox(), Priority.BATCH if is_batch else Priority.INTERACTIVE)
            made.submit(now_s)
            waiting.put(made)
            line.append(made)
        elif operation == "pop":
            expected = by_hand.pop(now_s)
            assert waiting.pop(now_s) is expected
            popped += [expected] if expected is not None else []
        elif operation == "put back" and popped:
            back = popped.pop()
            waiting.put_back(back)
            by_hand.lines[back.is_batch].appendleft(back)
        elif line:
            waiting.remove(line.pop())
        assert (len(waiting), waiting.interactive) == (sum(map(len, by_hand.lines.values())), len(by_hand.lines[False]))


class Floor:
    """Rows over a ledger, with what everyone should find in theirs."""

    def __init__(self, slots: int) -> None:
        self.ledger = Ledger(slots)
        self.rows = Rows(slots, self.ledger)
        self._made = 0

    def begin(self, lane: Lane) -> None:
        self._made += 1
        entered = sequence(f"s{self._made}", 1 + self._made % 7, 9, Inbox())
        entered.lane = lane
        row = self.rows.begin(entered)
        self.ledger.prefill(row, entered, len(entered.prompt))
        entered.length = len(entered.prompt)

    def check(self) -> None:
        for row, held in enumerate(self.rows.active):
            assert self.ledger.rows[row][: held.length] == held.tokens[: held.length]
        filling = self.rows.filling
        if filling is not None:
            assert self.ledger.rows[self.rows.filling_row] == list(filling.prompt)
            assert len(self.rows.active) <= self.rows.filling_row < self.rows.slots


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["begin", "activate", "leave", "sort"]), st.integers(0, 5)), max_size=60),
)
def test_rows_keep_what_they_hold(slots: int, operations: list[tuple[str, int]]) -> None:
    floor = Floor(slots)
    rows = floor.rows
    for operation, number in operations:
        if operation == "begin" and rows.has_room:
            floor.begin(Lane("ab"[number % 2]))
        elif operation == "activate" and rows.filling is not None:
            rows.activate()
        elif operation == "leave":
            for left in [*rows.active[number:][:2], *([rows.filling] if rows.filling and number == 5 else [])]:
                left.is_done = True
            rows.compact()
        elif operation == "sort":
            rows.sort()
        floor.check()
        assert rows.used == len(rows.active) + (rows.filling is not None) <= slots


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_an_exchange_a_step_brings_lanes_together(lanes: list[int]) -> None:
    floor = Floor(len(lanes))
    for lane in lanes:
        floor.begin(Lane(str(lane)))
        floor.rows.activate()
    for _ in 2 * lanes:
        floor.rows.sort()
        floor.check()
    groups = list(floor.rows.groups())
    assert len(groups) == len(set(lanes))
    assert [row for row, _ in groups] == [
        sum(len(group) for _, group in groups[:place]) for place in range(len(groups))
    ]


def test_prompts_take_a_chunk_for_each_that_waits_beside_an_answer_and_many_where_nobody_streams() -> None:
    pace = Pace(64, 2.0)
    pace.decoded(0.01)
    pace.prefilled(8, 1.0)
    cases = {(0, 0): 1024, (0, 1): 1024, (1, 99): 1024, (1, 2): 128, (2, 3): 64, (1, 1): LEAST, (3, 0): LEAST}
    assert {case: pace.budget(streaming=case[0], prompts=case[1]) for case in cases} == cases


@dataclass
class Reader:
    """Reads a prompt without end beside one answer. A chunk takes a constant, worth so many tokens, and its tokens."""

    constant_s: float
    worth: float
    decode_s: float
    ratio: float
    sizes: list[int] = field(default_factory=list)

    def took_s(self, tokens: int) -> float:
        return self.constant_s * (1 + tokens / self.worth) if tokens else 0.0

    def read(self, steps: int) -> None:
        pace = Pace(64, self.ratio)
        for _ in range(steps):
            pace.decoded(self.decode_s)
            self.sizes.append(pace.budget(streaming=1, prompts=1))
            if self.sizes[-1]:
                pace.prefilled(self.sizes[-1], self.took_s(self.sizes[-1]))


readers = st.builds(  # on the bundled model a chunk's constant is worth 5 tokens at first, and 20 behind 4,000 others
    Reader, st.floats(0.001, 0.05), st.floats(1.0, 20.0), st.floats(0.002, 0.2), st.floats(1.1, 4.0)
)


@settings(max_examples=300)
@given(readers)
def test_a_chunk_comes_to_take_what_it_may(reader: Reader) -> None:
    share_s = (reader.ratio - 1) * reader.decode_s
    assume(reader.took_s(LEAST) <= share_s)
    reader.read(60)
    wanted = min(64.0, max(LEAST, (share_s / reader.constant_s - 1) * reader.worth))
    assert max(reader.sizes[10:]) <= wanted + 1
    assert max(reader.sizes[-3:]) >= 0.65 * wanted - 1


@settings(max_examples=300)
@given(readers)
def test_where_the_smallest_chunk_takes_too_long_the_ratio_holds_in_the_mean(reader: Reader) -> None:
    share_s = (reader.ratio - 1) * reader.decode_s
    assume(reader.took_s(LEAST) > share_s)
    reader.read(400)
    read_s = sum(map(reader.took_s, reader.sizes))
    assert read_s <= 400 * share_s + reader.took_s(LEAST) + reader.took_s(EVEN)
    assert set(reader.sizes) <= {0, LEAST, EVEN}
    assert sum(reader.sizes) >= 0.7 * EVEN / reader.took_s(EVEN) * min(read_s, 400 * share_s) - EVEN


def test_a_disturbance_of_the_smallest_chunk_does_not_count_for_more_than_a_quarter() -> None:
    pace = Pace(64, 2.0)
    pace.decoded(0.01)
    for seconds in (0.007, 0.1):
        pace.began()
        assert pace.budget(streaming=1, prompts=1) == LEAST
        pace.prefilled(LEAST, seconds)
    while pace.budget(streaming=1, prompts=1) == 0:
        pace.decoded(0.01)
    assert pace.budget(streaming=1, prompts=1) != EVEN


def test_a_clock_that_stands_still_gives_the_smallest_chunks() -> None:
    pace = Pace(64, 2.0)
    pace.decoded(0.0)
    pace.prefilled(64, 0.0)
    assert pace.budget(streaming=1, prompts=1) == LEAST


def test_a_short_prompt_beside_a_running_answer_is_not_cut(rigs: Rigs) -> None:
    rig = rigs(2, prefill_chunk=8)
    rig.ledger.on("decode", "a", 2, lambda: rig.submit("short", prompt=8))
    rig.ledger.on("decode", "a", 6, lambda: rig.submit("long", prompt=9))
    rig.submit("a", tokens=30)
    rig.finish(3)
    chunks = [(id_, tokens) for what, id_, tokens in rig.ledger.events if what == "prefill" and id_ != "a"]
    assert chunks[0] == ("short", 8)
    assert len(chunks) > 2


def test_decoding_pays_for_a_prompt_that_is_not_cut_before_the_next_one_is() -> None:
    pace, waits = Pace(64, 1.5), list[int]()
    for _ in range(3):
        waits.append(0)
        while (budget := pace.budget(streaming=2, prompts=1)) == 0:
            waits[-1] += 1
            pace.decoded(0.01)
        assert (pace.most(40, budget, may_borrow=True), pace.most(40, budget, may_borrow=False)) == (40, budget)
        pace.prefilled(40, 0.1, is_whole=True)
    assert waits == [0, 20, 20]


def test_nobody_pays_where_nobody_streams() -> None:
    pace = Pace(64, 1.5)
    pace.budget(streaming=0, prompts=2)
    pace.prefilled(40, 0.1, is_whole=True)
    assert pace.budget(streaming=1, prompts=1) > 0


def test_a_crowd_that_comes_together_is_read_in_one_step(rigs: Rigs) -> None:
    rig = rigs(8, prefill_chunk=8)
    rig.submit_at_once(*(f"i{number}" for number in range(8)))
    rig.finish(8)
    assert [what for what, _, _ in rig.ledger.events[:9]] == ["prefill"] * 8 + ["decode"]


def test_a_long_prompt_gets_one_chunk_of_a_step_even_where_nobody_streams(rigs: Rigs) -> None:
    rig, sweeps = rigs(2, prefill_chunk=8), list[int]()
    rig.ledger.on("prefill", "long", 1, lambda: sweeps.append(rig.loop.tally.steps))
    rig.ledger.on("prefill", "long", 2, lambda: sweeps.append(rig.loop.tally.steps))
    rig.submit("long", prompt=20)
    rig.finish(1)
    assert sweeps[1] == sweeps[0] + 1


def test_whoever_leaves_while_a_crowd_is_read_leaves_at_the_next_chunk(rigs: Rigs) -> None:
    rig = rigs(4, prefill_chunk=8)
    rig.ledger.on("prefill", "i0", 1, lambda: rig.cancel("i1"))
    rig.submit_at_once("i0", "i1", "i2")
    rig.finish(3)
    assert rig.ledger.count("prefill", "i1") == 0
