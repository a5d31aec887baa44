"""Masks let through exactly what a grammar allows."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from llguidance import LLMatcher
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bench.schemas import generated
from replicas.engine import Grammar
from replicas.errors import EngineFailed, InvalidRequest
from replicas.grammar import Constraint, GrammarCompiler, keep_allowed
from replicas.grammar.constraint import Compiled
from replicas.grammar.source import source
from replicas.grammar.vocabulary import open_vocabulary
from tests.models import IM_END, IM_START, Tiny, sentencepiece, tiny_export
from tests.replicas.engines import tiny
from tests.replicas.grammars import (
    END_IDS,
    allowed,
    compiler,
    follows,
    ids_of,
    schema,
    text_of,
    walked,
)

SEEDS = st.integers(0, 2**32)
RECORD = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


@given(SEEDS, SEEDS)
def test_any_walk_within_the_masks_of_a_schema_ends_in_json_that_the_schema_validates(seed: int, walk: int) -> None:
    wanted = generated(seed)
    tokens = walked(compiler().compile(schema(wanted)), walk)
    assume(tokens is not None)
    Draft202012Validator(wanted).validate(json.loads(text_of(tokens or [])))


@pytest.mark.parametrize(
    "pattern", [r"[a-c]{2,5}x?", r"(\d{1,3}\.){3}\d{1,3}", "(é|日本|🌍)+z", r"\w+@\w+\.(com|org)", ""]
)
@given(SEEDS)
def test_any_walk_within_the_masks_of_an_expression_matches_it(pattern: str, walk: int) -> None:
    tokens = walked(compiler().compile(Grammar("regex", pattern)), walk)
    assume(tokens is not None)
    assert re.fullmatch(pattern, text_of(tokens or []))


@given(SEEDS, SEEDS)
def test_what_is_forced_is_all_that_the_masks_allow(seed: int, walk: int) -> None:
    walking, constraint = (compiler().compile(schema(generated(seed))) for _ in range(2))
    for token in walked(walking, walk, most=100) or []:
        assert token not in END_IDS
    for token in constraint.forced():
        assert allowed(constraint.mask()) == [token]
        constraint.accept(token)


@given(SEEDS, SEEDS)
def test_the_same_tokens_lead_to_the_same_masks_whatever_was_asked_between(seed: int, walk: int) -> None:
    walking, asked, replayed = (compiler().compile(schema(generated(seed))) for _ in range(3))
    tokens = walked(walking, walk, most=60) or []
    for token in tokens:
        asked.begin()
        assert asked.forced() == replayed.forced()
        asked.accept(token)
        replayed.accept(token)
    assert allowed(asked.mask()) == allowed(replayed.mask())


def test_what_has_one_continuation_is_forced_up_to_the_first_choice() -> None:
    constraint = compiler().compile(schema(RECORD))
    for token in constraint.forced():
        constraint.accept(token)
    assert not constraint.is_over
    assert len(allowed(constraint.mask())) > 1


def test_the_end_is_never_forced_but_it_is_all_that_the_mask_allows_when_it_is_over() -> None:
    constraint = compiler().compile(Grammar("regex", "the user"))
    for token in constraint.forced():
        constraint.accept(token)
    assert constraint.is_over
    assert constraint.forced() == []
    assert set(allowed(constraint.mask())) == set(END_IDS)


def test_an_answer_may_end_or_go_on_where_the_grammar_leaves_it_open() -> None:
    constraint = compiler().compile(Grammar("regex", "a*"))
    assert {*END_IDS, *ids_of("a")} <= set(allowed(constraint.mask()))
    assert not constraint.is_over
    constraint.accept(IM_END)
    assert constraint.is_over


def test_control_tokens_of_the_chat_are_no_text() -> None:
    assert IM_START not in allowed(compiler().compile(Grammar("regex", "(?s:.*)")).mask())


def test_json_has_one_space_after_colon_and_comma_and_no_other() -> None:
    record = schema(RECORD)
    assert follows(record, '{"name": "x", "age": 4}')
    assert not follows(record, '{"name":"x"}')
    assert not follows(record, '{"name":  "x"}')
    assert not follows(record, '{\n"name": "x"}')


def test_an_object_that_lists_its_properties_takes_no_others_unless_it_says_so() -> None:
    more = '{"name": "x", "more": 1}'
    assert not follows(schema(RECORD), more)
    assert follows(schema({**RECORD, "additionalProperties": {"type": "integer"}}), more)


def test_objects_that_are_joined_stay_open_so_that_an_answer_exists() -> None:
    parts = [{"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]} for name in "ab"]
    assert follows(schema({"allOf": parts}), '{"a": 1, "b": 2}')


def test_a_required_member_that_is_not_listed_keeps_the_object_open() -> None:
    assert follows(schema({"type": "object", "properties": {"a": {}}, "required": ["b"]}), '{"a": 1, "b": 2}')


@pytest.mark.parametrize("bound", [0, 1, -2, 25, 0.5, -0.25, 1e6, 12345.75])
def test_a_number_beyond_an_open_bound_is_beyond_it_as_a_float_too(bound: float) -> None:
    above = schema({"type": "number", "exclusiveMinimum": bound, "maximum": bound + 10})
    below = schema({"type": "number", "exclusiveMaximum": bound, "minimum": bound - 10})
    assert follows(above, repr(bound + 3.5))
    assert follows(below, repr(bound - 3.5))
    sharp = repr(float(bound)) + "0" * 20 + "1"
    assert not follows(above, sharp)
    assert not follows(below, sharp)


def test_an_open_bound_does_not_shut_a_narrow_range() -> None:
    assert follows(schema({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}), "4")
    narrow = {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.0000001}
    assert follows(schema(narrow), "1.00000005")


def test_strings_hold_escapes_and_any_character() -> None:
    assert follows(schema({"type": "string"}), json.dumps('a"\\\n日本🌍', ensure_ascii=False))
    assert not follows(schema({"type": "string"}), '"a\nb"')


def test_a_format_that_nobody_checks_is_an_annotation() -> None:
    assert follows(schema({"type": "string", "format": "binary"}), '"anything"')


def test_a_client_cannot_switch_white_space_on() -> None:
    loose = {**RECORD, "x-guidance": {"whitespace_flexible": True, "lenient": True}}
    assert not follows(schema(loose), '{ "name": "x"}')


def test_references_may_hold_any_characters_and_lead_to_their_own_schema() -> None:
    link = {"properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/é~1 x"}]}}, "required": ["next"]}
    tree = {"$defs": {"é/ x": {"type": "object", **link}}, "$ref": "#/$defs/é~1 x"}
    assert follows(schema(tree), '{"next": {"next": null}}')


def test_gbnf_is_taken_for_what_it_is() -> None:
    gbnf = Grammar("lark", 'root ::= "yes" | "no" [0-9]+')
    assert follows(gbnf, "no42")
    assert not follows(gbnf, "yes42")


def test_a_token_that_is_not_allowed_is_our_own_failure_and_changes_nothing() -> None:
    constraint = compiler().compile(Grammar("regex", "[ab]c"))
    with pytest.raises(EngineFailed, match="not one that the grammar allows"):
        constraint.accept(ids_of("z")[0])
    assert set(ids_of("a") + ids_of("b")) <= set(allowed(constraint.mask()))


def test_a_mask_does_not_wait_for_a_worker_that_is_busy_elsewhere() -> None:
    gate, worker = threading.Event(), ThreadPoolExecutor(1)
    worker.submit(gate.wait)
    vocabulary = open_vocabulary(tiny().directory, tiny().vocab, END_IDS)
    compiled = Compiled(LLMatcher(vocabulary, source(Grammar("regex", "[ab]c")), log_level=0), "regex")
    constraint = Constraint(compiled, (tiny().vocab + 31) // 32, END_IDS, worker)
    constraint.begin()
    tokens = allowed(constraint.mask())
    gate.set()
    worker.shutdown()
    assert set(tokens) == {*ids_of("a"), *ids_of("b")}


def test_a_grammar_is_compiled_once_and_answers_do_not_disturb_each_other() -> None:
    one, other = (compiler().compile(Grammar("regex", "(ab|cd)e")) for _ in range(2))
    one.accept(ids_of("a")[0])
    assert one.forced() == ids_of("be")
    assert set(allowed(other.mask())) >= {*ids_of("a"), *ids_of("c")}


def test_threads_that_compile_at_once_all_get_their_own_grammar() -> None:
    texts, found = [f"answer {number}[ab]" for number in range(40)], dict[str, str]()

    def compile_one(text: str) -> None:
        found[text] = text_of(compiler().compile(Grammar("regex", text)).forced())

    threads = [threading.Thread(target=compile_one, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: text.removesuffix("[ab]") for text in texts}


def test_logits_past_the_tokenizers_last_token_are_never_allowed() -> None:
    wide = GrammarCompiler(tiny().directory, 1001, END_IDS)
    mask = wide.compile(Grammar("regex", "(?s:.*)")).mask()
    wide.close()
    assert len(mask) == 32
    assert max(allowed(mask)) < tiny().vocab


def test_a_byte_fallback_vocabulary_writes_the_same_text(tmp_path: Path) -> None:
    export = tiny_export(tmp_path / "pieces", Tiny(metadata=sentencepiece()))
    own = GrammarCompiler(export, 269, (2,))
    tokens = own.compile(Grammar("regex", "abc é 🌍")).forced()
    own.close()
    assert tokens
    assert Tokenizer.from_file(str(export / "tokenizer.json")).decode(tokens) == "abc é 🌍"


def test_a_tokenizer_that_truncates_does_not_cut_what_is_forced(tmp_path: Path) -> None:
    fast = Tokenizer.from_file(str(tiny().directory / "tokenizer.json"))
    fast.enable_truncation(4)
    fast.enable_padding(length=8)
    fast.save(str(tmp_path / "tokenizer.json"))
    own = GrammarCompiler(tmp_path, tiny().vocab, END_IDS)
    assert text_of(own.compile(Grammar("regex", "x" * 40)).forced()) == "x" * 40
    own.close()


def test_a_model_whose_tokenizer_is_of_another_kind_says_so(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordLevel", "vocab": {"a": 0}}, "added_tokens": []}')
    own = GrammarCompiler(tmp_path, 32, (0,))
    with pytest.raises(InvalidRequest, match="cannot follow grammars"):
        own.compile(Grammar("regex", "a"))
    own.close()


@given(st.integers(1, 300), SEEDS)
def test_logits_of_any_length_keep_what_is_allowed_and_lose_the_rest(vocab: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    row: NDArray[np.float32] = random.normal(size=vocab).astype(np.float32)
    mask = random.integers(-(2**31), 2**31, (vocab + 31) // 32).astype(np.int32)
    kept = row.copy()
    keep_allowed(kept, mask)
    bits = [bool(mask[token // 32] >> (token % 32) & 1) for token in range(vocab)]
    assert kept.tolist() == [value if bit else -np.inf for value, bit in zip(row.tolist(), bits, strict=True)]


def test_logits_that_are_broken_stay_broken() -> None:
    row = np.full(32, np.nan, np.float32)
    keep_allowed(row, np.zeros(1, np.int32))
    assert np.isnan(row).all()
