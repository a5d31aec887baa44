"""Vocabularies come across: text is cut and merged as llama.cpp would, and decodes to what it was."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from replicas.gguf.header import read_header
from replicas.gguf.metadata import Metadata, Value
from replicas.gguf.tokenizer import read_tokenizer, score_merges
from tests.models import ENDOFTEXT, IM_END, IM_START, Tiny, sentencepiece, tiny_gguf, vocabulary

SPACE = "▁"
SPM = sentencepiece()


def tokenizer_of(folder: Path, metadata: Mapping[str, Value]) -> Tokenizer:
    return read_tokenizer(read_header(tiny_gguf(folder / "tiny.gguf", Tiny(metadata=metadata))))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_of(tmp_path_factory.mktemp("bpe"), {})


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_of(tmp_path_factory.mktemp("spm"), SPM)


@given(st.text())
def test_byte_level_text_decodes_to_what_it_was(byte_level: Tokenizer, text: str) -> None:
    assert byte_level.decode(byte_level.encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_are_cut_out_whole_and_left_out_of_decoded_text(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("<|im_start|>user\nthe<|im_end|><|endoftext|>").ids
    tokens, _ = vocabulary()
    assert [ids[0], *ids[-2:]] == [IM_START, IM_END, ENDOFTEXT]
    assert [tokens[index] for index in ids[1:-2]] == ["user", "Ċ", "the"]
    assert byte_level.decode(ids) == "user\nthe"


@pytest.mark.parametrize(
    ("rule", "cut"),
    [
        ("smollm", ["ab", "1", "2", "3", "4", "Ġc", "'s", "ĠĠ", "Ġd"]),
        ("gpt-2", ["ab", "1234", "Ġc", "'s", "ĠĠ", "Ġd"]),
        ("llama-bpe", ["ab", "123", "4", "Ġc", "'s", "ĠĠ", "Ġd"]),
    ],
)
def test_words_are_cut_by_the_files_rule(tmp_path: Path, rule: str, cut: list[str]) -> None:
    tokenizer = tokenizer_of(tmp_path, {"tokenizer.ggml.pre": rule})
    assert [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str("ab1234 c's   d")] == cut


def test_a_bos_token_is_added_when_the_file_says_so(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path, {"tokenizer.ggml.add_bos_token": True}).encode("the").ids[0] == IM_START
    assert tokenizer_of(tmp_path, {"tokenizer.ggml.add_bos_token": False}).encode("the").ids[0] != IM_START


def test_llama_3_takes_a_word_of_the_vocabulary_without_merging_up_to_it(tmp_path: Path) -> None:
    few = [merge for merge in vocabulary()[1] if not merge.startswith("use")]
    without_user: dict[str, Value] = {"tokenizer.ggml.merges": few, "tokenizer.ggml.add_bos_token": False}
    assert len(tokenizer_of(tmp_path, {**without_user, "tokenizer.ggml.pre": "llama-bpe"}).encode("user").ids) == 1
    assert len(tokenizer_of(tmp_path, {**without_user, "tokenizer.ggml.pre": "gpt-2"}).encode("user").ids) == 2


def test_every_token_of_the_tiny_vocabulary_is_reached_by_its_merges(byte_level: Tokenizer) -> None:
    tokens, _ = vocabulary()
    words = [token for token in tokens if len(token) > 1]
    assert [byte_level.encode(word.replace("Ġ", " ")).tokens for word in words] == [[word] for word in words]


@given(st.text(alphabet="abc é\n€"))
def test_sentencepiece_merges_the_best_scored_pair_first(spm: Tokenizer, text: str) -> None:
    assert spm.encode(text).ids == [1, *spm_ids(text)]


@given(st.text(alphabet="abc é\n€😀"))
def test_sentencepiece_text_decodes_to_what_it_was(spm: Tokenizer, text: str) -> None:
    assert spm.decode(spm.encode(text).ids) == text


def test_merges_come_in_the_order_of_their_scores() -> None:
    scores = {"a": -9.0, "b": -9.0, "ab": -2.0, "aab": -1.0}
    merges = score_merges({piece: index for index, piece in enumerate(scores)}, list(scores.values()), [1] * 4)
    assert merges == [("a", "ab"), ("a", "b")]


def spm_ids(text: str) -> list[int]:
    """SentencePiece's BPE, as llama.cpp has it: while two neighbours make a known piece, join the best scored pair."""
    data = Metadata(Path(), SPM)
    tokens, scores = data.texts("tokenizer.ggml.tokens"), data.numbers("tokenizer.ggml.scores")
    index = {piece: number for number, piece in enumerate(tokens)}
    parts = list((SPACE + text if text else text).replace(" ", SPACE))
    while True:
        pairs = [
            (-scores[index[left + right]], at)
            for at, (left, right) in enumerate(pairwise(parts))
            if left + right in index
        ]
        if not pairs:
            break
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [
        number
        for part in parts
        for number in ([index[part]] if part in index else [index[f"<0x{byte:02X}>"] for byte in part.encode()])
    ]
