"""What every engine promises. Each test runs on all of them."""

import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from replicas.collect import collect, iterate
from replicas.echo import EchoConfig, EchoEngine
from replicas.engine import Chunk, Engine, Finish, Generation, Message, Priority
from replicas.errors import ContextOverflow, DeadlineExceeded, EngineFailed, InvalidRequest, Overloaded, ShoalError
from replicas.paged import PagedExport
from replicas.paged.engine import PagedConfig, PagedEngine
from tests.replicas.engines import WAIT_S, Inbox, asked, sampled, slot_engine, tiny

Make: TypeAlias = Callable[[int, int], Engine]
ENDLESS = 200


def _echo(slots: int, queue_limit: int) -> Engine:
    return EchoEngine(EchoConfig(slots=slots, max_len=256, queue_limit=queue_limit))


def _slot(slots: int, queue_limit: int) -> Engine:
    return slot_engine(slots, queue_limit=queue_limit)


def _paged(slots: int, queue_limit: int) -> Engine:
    """In static batches, which is what GenAI makes of a stock export: paged attention has no CPU kernel."""
    export = PagedExport.load(tiny().directory)
    return PagedEngine(export, PagedConfig(slots=slots, max_len=256, queue_limit=queue_limit, threads=1))


@pytest.fixture(params=[_echo, _slot, _paged], ids=["echo", "slot", "paged"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes engines with (slots, queue limit), and closes them."""
    made: list[Engine] = []

    def make(slots: int = 4, queue_limit: int = 64) -> Engine:
        made.append(request.param(slots, queue_limit))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make: Make) -> Engine:
    return make(4, 64)


def test_the_final_comes_once_and_last(engine: Engine) -> None:
    chunks = list(iterate(engine, asked()))
    assert [chunk.final is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.id for chunk in chunks} == {"one"}


def test_usage_counts_what_the_chunks_report(engine: Engine) -> None:
    chunks = list(iterate(engine, asked(ignore_eos=True)))
    final = chunks[-1].final
    assert final is not None
    assert final.usage.generated == sum(chunk.tokens for chunk in chunks) == 16
    assert final.usage.prompt > len("the user")


def test_max_tokens_ends_with_length(engine: Engine) -> None:
    final = collect(engine, asked(max_tokens=5, ignore_eos=True)).final
    assert (final.finish, final.usage.generated) == (Finish.LENGTH, 5)


def test_a_full_slot_ends_with_context(engine: Engine) -> None:
    final = collect(engine, asked(max_tokens=10_000, ignore_eos=True)).final
    assert (final.finish, final.usage.prompt + final.usage.generated) == (Finish.CONTEXT, 256)


def test_a_stop_string_ends_the_text_before_it(engine: Engine) -> None:
    whole = collect(engine, asked(max_tokens=60, ignore_eos=True)).text
    stop = whole[8:11]
    stopped = collect(engine, asked(max_tokens=60, ignore_eos=True, stop=(stop, "never in any answer")))
    assert (stopped.final.finish, stopped.final.stop_sequence) == (Finish.STOP, stop)
    assert stopped.text == whole[: whole.index(stop)]


def test_the_same_request_gives_the_same_answer(engine: Engine) -> None:
    assert collect(engine, asked()).text == collect(engine, asked()).text


def test_a_prompt_can_be_token_ids(engine: Engine) -> None:
    answer = collect(engine, Generation("ids", (104, 105, 106), sampled(ignore_eos=True)))
    assert (answer.final.usage.prompt, answer.final.usage.generated) == (3, 16)


def test_cancel_ends_the_stream_and_frees_the_slot(engine: Engine) -> None:
    gate, inbox = threading.Event(), Inbox()
    blocked = Inbox(gate)
    stream = engine.submit(asked("blocked", max_tokens=ENDLESS, ignore_eos=True), blocked)
    blocked.begun()
    stream.cancel()
    stream.cancel()
    steps = engine.stats().steps_total
    gate.set()
    assert blocked.final().finish is Finish.CANCELLED
    engine.submit(asked("after"), inbox)
    inbox.final()
    assert engine.stats().slots_used == 0
    # One step was under way at the cancel and one more swept it out: no further token came.
    assert sum(chunk.tokens for chunk in blocked.chunks) <= steps + 2


def test_cancel_works_while_queued(make: Make) -> None:
    engine, gate = make(1, 8), threading.Event()
    first, second = Inbox(gate), Inbox()
    engine.submit(asked("first", ignore_eos=True), first)
    first.begun()
    engine.submit(asked("second"), second).cancel()
    gate.set()
    final = second.final()
    assert (final.finish, final.usage.generated) == (Finish.CANCELLED, 0)
    assert first.final().finish is Finish.LENGTH


@pytest.mark.parametrize("slots_before", [0, 1])
def test_a_deadline_ends_running_and_queued_requests(make: Make, slots_before: int) -> None:
    engine, gate = make(1, 8), threading.Event()
    blocker, late = Inbox(gate), Inbox()
    if slots_before:
        engine.submit(asked("blocker", ignore_eos=True), blocker)
        blocker.begun()
    engine.submit(Generation("late", (Message("user", "hi"),), sampled(), deadline_s=0.0), late)
    gate.set()
    final = late.final()
    assert final.finish is Finish.ERROR
    assert isinstance(final.error, DeadlineExceeded)


def test_a_full_queue_refuses_with_a_time_to_retry(make: Make) -> None:
    engine, gate = make(1, 2), threading.Event()
    first = Inbox(gate)
    engine.submit(asked("first", ignore_eos=True), first)
    first.begun()
    rest = [Inbox(), Inbox()]
    for number, inbox in enumerate(rest):
        engine.submit(asked(f"queued-{number}"), inbox)
    assert engine.stats().queued == 2
    with pytest.raises(Overloaded) as refused:
        engine.submit(asked("too many"), Inbox())
    assert refused.value.retry_after_s > 0
    gate.set()
    assert all(inbox.final().error is None for inbox in rest)


def test_interactive_requests_go_before_batch_ones(make: Make) -> None:
    engine, gate, order = make(1, 8), threading.Event(), list[str]()
    first, last = Inbox(gate), Inbox()

    def noted(chunk: Chunk) -> None:
        order.extend([chunk.id] if chunk.final is not None else [])
        last(chunk) if len(order) == 3 else None

    engine.submit(asked("first", ignore_eos=True), first)
    first.begun()
    for id_, priority in (("b", Priority.BATCH), ("i1", Priority.INTERACTIVE), ("i2", Priority.INTERACTIVE)):
        engine.submit(Generation(id_, (Message("user", "x"),), sampled(max_tokens=2), priority=priority), noted)
    gate.set()
    last.final()
    assert order == ["i1", "i2", "b"]


def test_an_id_is_unique_while_under_way_and_free_at_the_final(engine: Engine) -> None:
    gate, again = threading.Event(), Inbox()
    errors: list[ShoalError] = []

    def resubmit(chunk: Chunk) -> None:
        if chunk.final is not None:
            engine.submit(asked("same"), again)
        elif not errors:
            with pytest.raises(InvalidRequest) as refused:
                engine.submit(asked("same"), Inbox())
            errors.append(refused.value)
            gate.set()

    engine.submit(asked("same", ignore_eos=True, max_tokens=40), resubmit)
    assert gate.wait(WAIT_S)
    assert again.final().error is None


def test_a_prompt_beyond_the_slot_is_refused(engine: Engine) -> None:
    with pytest.raises(ContextOverflow, match="prompt is too long: 256 tokens > 255 maximum"):
        engine.submit(Generation("long", (104,) * 256, sampled()), Inbox())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_k", -1),
        ("repetition_penalty", 0.0),
        ("min_tokens", 17),
        ("stop", ("",)),
        ("stop", ("x",) * 65),
    ],
)
def test_what_cannot_work_is_refused_by_field(engine: Engine, field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        engine.submit(Generation("bad", (104,), sampled(**{field: value})), Inbox())
    assert refused.value.param == field


@pytest.mark.parametrize("prompt", [(), (-1,), (10**6,)])
def test_an_impossible_prompt_is_refused(engine: Engine, prompt: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest):
        engine.submit(Generation("bad", prompt, sampled()), Inbox())


def test_a_sink_that_raises_harms_nobody(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    def raising(chunk: Chunk) -> None:
        raise RuntimeError("sink")

    engine.submit(asked("bad sink"), raising)
    assert collect(engine, asked("good")).final.error is None
    assert "a sink raised" in caplog.text


def test_many_submitters_are_all_answered(make: Make) -> None:
    engine = make(4, 64)
    expected = collect(engine, asked()).text
    texts: list[str] = []

    def ask(submitter: int) -> None:
        texts.extend(collect(engine, asked(f"{submitter}-{number}")).text for number in range(4))

    threads = [threading.Thread(target=ask, args=(submitter,)) for submitter in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert texts == [expected] * 48


def test_stats_agree_with_what_was_answered(engine: Engine) -> None:
    finals = [collect(engine, asked(str(number), ignore_eos=True)).final for number in range(3)]
    stats = engine.stats()
    assert stats.prompt_tokens_total == sum(final.usage.prompt for final in finals)
    assert stats.generated_tokens_total == sum(final.usage.generated for final in finals)
    assert stats.batch_sizes == ((1, 3 * 15),)  # the first token of each comes from its prompt
    assert (stats.slots, stats.slots_used, stats.queued, stats.kv_used_ratio) == (4, 0, 0, 0.0)


def test_200_cancels_leave_no_slot_used(make: Make) -> None:
    engine = make(4, 256)
    inboxes = [Inbox() for _ in range(200)]
    streams = [
        engine.submit(asked(f"{number}", max_tokens=ENDLESS, ignore_eos=True), inbox)
        for number, inbox in enumerate(inboxes)
    ]
    inboxes[0].begun()
    for stream in streams:
        stream.cancel()
    assert all(inbox.final().finish in {Finish.CANCELLED, Finish.CONTEXT, Finish.LENGTH} for inbox in inboxes)
    stats = engine.stats()
    assert (stats.slots_used, stats.queued, stats.kv_used_ratio) == (0, 0, 0.0)


def test_close_cancels_everything_and_ends_the_thread(make: Make) -> None:
    before = threading.active_count()
    engine = make(1, 8)
    running, queued = Inbox(), Inbox()
    engine.submit(asked("running", max_tokens=ENDLESS, ignore_eos=True), running)
    engine.submit(asked("queued", max_tokens=ENDLESS, ignore_eos=True), queued)
    engine.close()
    engine.close()
    assert running.final().finish in {Finish.CANCELLED, Finish.LENGTH}
    assert queued.final().finish in {Finish.CANCELLED, Finish.LENGTH}
    assert threading.active_count() == before
    with pytest.raises(EngineFailed, match="closed"):
        engine.submit(asked(), Inbox())


def test_a_sink_may_close_the_engine(engine: Engine) -> None:
    inbox = Inbox()

    def closing(chunk: Chunk) -> None:
        engine.close()
        inbox(chunk)

    engine.submit(asked(max_tokens=ENDLESS, ignore_eos=True), closing)
    assert inbox.final().finish is Finish.CANCELLED


def test_an_idle_engine_takes_its_slots_and_its_queue_at_once(make: Make) -> None:
    engine, inboxes = make(2, 4), [Inbox() for _ in range(6)]
    for number, inbox in enumerate(inboxes):
        engine.submit(asked(f"burst-{number}"), inbox)
    assert all(inbox.final().error is None for inbox in inboxes)


def test_batch_requests_leave_half_of_the_queue_to_interactive_ones(make: Make) -> None:
    engine, gate = make(1, 2), threading.Event()
    first, inboxes = Inbox(gate), [Inbox(), Inbox()]
    engine.submit(asked("first", ignore_eos=True), first)
    first.begun()
    batch = [Generation(f"b{n}", (Message("user", "x"),), sampled(max_tokens=2), priority=Priority.BATCH) for n in "12"]
    engine.submit(batch[0], inboxes[0])
    with pytest.raises(Overloaded):
        engine.submit(batch[1], Inbox())
    engine.submit(asked("interactive"), inboxes[1])
    gate.set()
    assert all(inbox.final().error is None for inbox in inboxes)
