"""The paged engine beside the contract: what it refuses, what it passes on to GenAI, and what a broken model does."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from deployments.replica import Preparing
from replicas.collect import collect
from replicas.completeness import require_complete
from replicas.echo import EchoTokenizer
from replicas.engine import Finish, Generation, Grammar
from replicas.errors import EngineFailed, InvalidRequest, ModelImportError, NotFound, SettingsError
from replicas.grammar import GrammarCompiler
from replicas.paged import PagedExport, is_paged
from replicas.paged.engine import PagedConfig, PagedEngine
from replicas.paged.genai import Event, Refused, Turn
from replicas.paged.loop import PagedLoop
from replicas.paged.owner import Owner
from replicas.slot.place import PREFERENCE
from replicas.slot.request.answer import Answer
from replicas.slot.request.sequence import Sequence
from replicas.slot.start.providers import available
from replicas.slot.step.requests import LoopLimits
from tests.replicas.engines import Inbox, asked, sampled, slot_engine, tiny

CUDA = PREFERENCE[0]
CONFIG = PagedConfig(slots=2, max_len=256, threads=1)


@pytest.fixture(scope="module")
def engine() -> Iterator[PagedEngine]:
    made = PagedEngine(PagedExport.load(tiny().directory), CONFIG)
    yield made
    made.close()


def chosen(request: Generation, **fields: object) -> Generation:
    return replace(request, **fields)  # type: ignore[arg-type]  # fields by name


def test_greedy_answers_are_those_of_the_slot_engine(engine: PagedEngine) -> None:
    slot = slot_engine()
    for text in ("the user", "and the system is", "x"):
        request = asked(text=text, max_tokens=40)
        mine, its = collect(engine, request), collect(slot, request)
        assert mine.text == its.text
    slot.close()


@pytest.mark.parametrize("grammar", [Grammar("regex", "(the|user)"), Grammar("lark", 'start: "the" | "user"')])
def test_a_grammar_is_followed(engine: PagedEngine, grammar: Grammar) -> None:
    answer = collect(engine, chosen(asked(), grammar=grammar))
    assert (answer.text in {"the", "user"}, answer.final.finish) == (True, Finish.END)


def test_a_schema_gives_json_in_the_slot_engines_style(engine: PagedEngine) -> None:
    schema = '{"type": "object", "properties": {"a": {"enum": ["the", "user"]}}, "required": ["a"]}'
    answer = collect(engine, chosen(asked(max_tokens=60), grammar=Grammar("json_schema", schema)))
    assert answer.text in {'{"a": "the"}', '{"a": "user"}'}


def test_a_bad_grammar_is_refused_at_submit(engine: PagedEngine) -> None:
    with pytest.raises(InvalidRequest):
        engine.submit(chosen(asked(), grammar=Grammar("json_schema", '{"type": 7}')), Inbox())


def test_a_grammar_that_is_prepared_is_not_compiled_at_submit(
    engine: PagedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(engine, Preparing)
    request = chosen(asked(), grammar=Grammar("regex", "(the|user|system) is"))
    engine.prepare(request)
    with pytest.raises(InvalidRequest):
        engine.prepare(chosen(asked(), grammar=Grammar("regex", "[")))
    monkeypatch.setattr(GrammarCompiler, "_thread", lambda compiler: pytest.fail("a grammar is compiled"))
    assert collect(engine, request).text.endswith(" is")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 0}, "logprobs"),
        ({"wants_embedding": True}, "model"),
        ({"sampling": sampled(seed=1, temperature=1.0)}, "seed"),
    ],
)
def test_what_genai_cannot_do_is_refused_by_field(engine: PagedEngine, fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        engine.submit(chosen(asked(), **fields), Inbox())
    assert refused.value.param == param
    with pytest.raises(NotFound):
        engine.submit(chosen(asked(), adapter="any"), Inbox())


def test_sampling_is_passed_on(engine: PagedEngine) -> None:
    greedy = collect(engine, asked(ignore_eos=True)).text
    wild = {collect(engine, asked(temperature=5.0, top_k=10**6, ignore_eos=True)).text for _ in range(3)}
    assert wild != {greedy}
    assert collect(engine, asked(temperature=5.0, top_k=1, ignore_eos=True)).text == greedy
    assert collect(engine, asked(repetition_penalty=50.0, ignore_eos=True)).text != greedy


def test_no_log_probability_is_told(engine: PagedEngine) -> None:
    final = collect(engine, asked()).final
    assert (final.mean_logprob, final.min_logprob) == (None, None)


def test_stats_say_what_is_relaxed(engine: PagedEngine) -> None:
    stats = engine.stats()
    assert (stats.engine, stats.provider, stats.slots, stats.determinism) == ("paged", "cpu", 2, "relaxed")


def paged_copy(folder: Path) -> Path:
    """The tiny export with a configuration that says that it is paged."""
    directory = Path(shutil.copytree(tiny().directory, folder / "paged"))
    file = directory / "genai_config.json"
    file.write_text(file.read_text().rstrip().removesuffix("}") + ', "engine": {"dynamic_batching": {}}}')
    return directory


def test_a_paged_export_is_recognised_and_refused_on_the_cpu_with_the_fix(tmp_path: Path) -> None:
    directory = paged_copy(tmp_path)
    assert (is_paged(tiny().directory), is_paged(directory)) == (False, True)
    before = threading.active_count()
    with pytest.raises(EngineFailed, match="export without use_paged_attention"):
        PagedEngine(PagedExport.load(directory), PagedConfig(provider="cpu"))
    assert threading.active_count() == before


@pytest.mark.skipif(
    CUDA.ort_name not in available(), reason="paged attention needs a GPU; this onnxruntime has no CUDA"
)
def test_on_a_gpu_a_graph_without_paged_attention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed):
        PagedEngine(PagedExport.load(paged_copy(tmp_path)))


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("{}", "model"), ("[", "genai_config.json")])
def test_an_unreadable_configuration_is_told(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "genai_config.json").write_text(content)
    with pytest.raises(ModelImportError, match=words):
        PagedExport.load(tmp_path)


@pytest.mark.parametrize("field_", ["slots", "max_len", "queue_limit", "threads"])
def test_sizes_that_cannot_work_name_the_setting(field_: str) -> None:
    with pytest.raises(SettingsError, match=field_):
        PagedConfig(**{field_: 0})  # type: ignore[arg-type]  # fields by name


@dataclass
class Scripted:
    """Turns that do what a test says: `steps` are called one by one, each gives events or raises."""

    steps: list[Callable[[], list[Event]]]
    begun: list[Turn] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    refuses: Exception | None = None

    def begin(self, turn: Turn) -> int:
        if self.refuses is not None:
            error, self.refuses = self.refuses, None
            raise error
        self.begun.append(turn)
        return len(self.begun)

    def run(self) -> list[Event]:
        return self.steps.pop(0)() if self.steps else []

    def end(self, turn: int) -> None:
        self.ended.append(turn)


def broken() -> list[Event]:
    raise EngineFailed("GenAI reports ENGINE_EXECUTION_FAILURE")


@pytest.fixture
def start() -> Iterator[Callable[[Scripted], PagedLoop]]:
    """Runs loops on threads of their own, and ends them."""
    made: list[tuple[PagedLoop, Owner]] = []

    def start(turns: Scripted) -> PagedLoop:
        owner = Owner("shoal-scripted")
        loop = PagedLoop(turns, LoopLimits("scripted", 1, 64, 8), is_seedable=True)
        owner.call(loop.run)
        made.append((loop, owner))
        return loop

    yield start
    for loop, owner in made:
        loop.close()
        owner.close()


def sequence(id_: str, inbox: Inbox) -> Sequence:
    request = Generation(id_, (104,), sampled(max_tokens=4, seed=7))
    tokenizer = EchoTokenizer()
    answer = Answer(request.sampling, tokenizer.detokenizer(), tokenizer.stop_ids, 4)
    return Sequence(request, (104,), answer, inbox, 4)


Start = Callable[[Scripted], PagedLoop]


def test_a_broken_engine_fails_all_and_every_later_request_and_is_unhealthy(start: Start) -> None:
    turns, inboxes = Scripted([broken]), [Inbox(), Inbox()]
    loop = start(turns)
    for number, inbox in enumerate(inboxes):
        loop.submit(sequence(str(number), inbox))
    errors = [inbox.final().error for inbox in inboxes]
    assert [str(error) for error in errors] == ["the engine failed: GenAI reports ENGINE_EXECUTION_FAILURE"] * 2
    assert not loop.is_healthy
    with pytest.raises(EngineFailed, match="ENGINE_EXECUTION_FAILURE"):
        loop.submit(sequence("late", Inbox()))


def test_every_request_to_a_broken_engine_gets_an_error_of_its_own(start: Start) -> None:
    loop, inbox = start(Scripted([broken])), Inbox()
    loop.submit(sequence("first", inbox))
    errors = [inbox.final().error]
    for number in range(2):
        with pytest.raises(EngineFailed) as refused:
            loop.submit(sequence(str(number), Inbox()))
        errors.append(refused.value)
    assert len(set(map(id, errors))) == 3


def test_a_refused_turn_harms_nobody_else(start: Start) -> None:
    turns = Scripted([lambda: [Event(1, ord("x"), "length", cached=2)]], refuses=Refused("too long"))
    loop, refused, good = start(turns), Inbox(), Inbox()
    loop.submit(sequence("refused", refused))
    assert str(refused.final().error) == "the engine failed: too long"
    loop.submit(sequence("good", good))
    assert (good.final().finish, good.text, loop.is_healthy) == (Finish.LENGTH, "x", True)
    assert good.final().usage.cached == loop.tally.cached_tokens == 2


def test_a_failed_turn_gets_its_error_and_its_memory_is_freed(start: Start) -> None:
    turns = Scripted([lambda: [Event(1, None, "failed", "REQUEST_UNSERVICEABLE")], list, list])
    loop, inbox, after = start(turns), Inbox(), Inbox()
    loop.submit(sequence("failed", inbox))
    assert "REQUEST_UNSERVICEABLE" in str(inbox.final().error)
    turns.steps = [lambda: [Event(2, None, "end", cached=1)]]
    loop.submit(sequence("after", after))
    final = after.final()
    assert (final.finish, final.usage.cached, turns.ended) == (Finish.END, 1, [1, 2])


def test_steps_that_bring_nothing_are_waited_out(start: Start) -> None:
    turns = Scripted([list, list, lambda: [Event(1, ord("a"))], list, lambda: [Event(1, ord("b"), "end")]])
    inbox = Inbox()
    start(turns).submit(sequence("blocked", inbox))
    assert (inbox.final().finish, inbox.text) == (Finish.END, "ab")
    assert turns.begun[0].seed == 7


def test_a_paged_model_is_whole_or_not_like_any_other(tmp_path: Path) -> None:
    directory = paged_copy(tmp_path)
    assert require_complete(directory) == PagedExport.load(directory)
    (directory / "model.onnx").unlink()
    with pytest.raises(ModelImportError, match=r"model\.onnx cannot be read"):
        require_complete(directory)
