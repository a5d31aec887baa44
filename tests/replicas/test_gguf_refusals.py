"""What cannot be imported is refused with words that say why, and leaves nothing behind."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicas.errors import ModelImportError
from replicas.gguf.export import export
from replicas.gguf.header import read_header
from tests.models import TINY, Tiny, tiny_gguf

FACTORS = np.ones(9, np.float32)
BROKEN = {
    "an architecture other than llama": (Tiny(metadata={"general.architecture": "qwen3"}), "'qwen3'"),
    "no architecture": (Tiny(without=("general.architecture",)), "lacks 'general.architecture'"),
    "an unsupported tensor type": (Tiny(kind="Q5_1"), "type Q5_1; F32, F16, Q8_0, Q4_0, Q4_1"),
    "a norm that is quantized": (Tiny(tensors={"output_norm.weight": np.zeros((2, 32), np.float32)}), "shape"),
    "a tensor missing": (Tiny(without=("blk.1.ffn_up.weight",)), "tensor blk.1.ffn_up.weight is missing"),
    "a layer too few": (Tiny(metadata={"llama.block_count": 3}), "tensor blk.2.attn_norm.weight is missing"),
    "a layer too many": (Tiny(metadata={"llama.block_count": 1}), "has no tensor blk.1"),
    "a tensor of another architecture": (Tiny(tensors={"blk.0.attn_q_norm.weight": FACTORS}), "attn_q_norm"),
    "a wrong shape": (Tiny(metadata={"llama.feed_forward_length": 160}), r"ffn_gate.weight has shape \(128, 64\)"),
    "metadata missing": (Tiny(without=("llama.attention.head_count",)), "lacks 'llama.attention.head_count'"),
    "metadata of another kind": (Tiny(metadata={"llama.block_count": "two"}), "'llama.block_count' is not one whole"),
    "no tokens": (Tiny(without=("tokenizer.ggml.tokens",)), "lacks 'tokenizer.ggml.tokens'"),
    "no end token": (Tiny(without=("tokenizer.ggml.eos_token_id",)), "lacks 'tokenizer.ggml.eos_token_id'"),
    "an end token outside": (Tiny(metadata={"tokenizer.ggml.eos_token_id": 999}), "eos_token_id' is 999"),
    "an unknown word rule": (Tiny(metadata={"tokenizer.ggml.pre": "klingon"}), "'klingon'; known are smollm"),
    "an unknown tokenizer": (Tiny(metadata={"tokenizer.ggml.model": "bert"}), "tokenizer is 'bert'"),
    "merges of unknown tokens": (Tiny(metadata={"tokenizer.ggml.merges": ["qq zz"]}), "merge 'qq zz'"),
    "another scaling": (Tiny(metadata={"llama.rope.scaling.type": "yarn"}), "rotary scaling is 'yarn'"),
    "experts": (Tiny(metadata={"llama.expert_count": 8}), "mixture of experts"),
    "a part of a split": (Tiny(metadata={"split.count": 2}), "llama-gguf-split --merge"),
    "heads of a size the kernel lacks": (Tiny(kind="F32", head_size=24), "multiples of 16"),
    "values unlike keys": (Tiny(metadata={"llama.attention.value_length": 32}), "differ in size"),
    "heads that do not divide": (Tiny(metadata={"llama.attention.head_count_kv": 3}), "cannot be those of a llama"),
    "no layers": (Tiny(metadata={"llama.block_count": 0}), "cannot be those of a llama"),
    "no heads": (Tiny(metadata={"llama.attention.head_count": 0}), "cannot be those of a llama"),
    "weights that are no numbers": (Tiny(kind="F32", tensors={"output.weight": np.full((283, 64), np.nan)}), "no num"),
    "a norm that is no number": (Tiny(tensors={"output_norm.weight": np.full(64, np.inf, np.float32)}), "no numbers"),
}


@pytest.mark.parametrize(("tiny", "words"), BROKEN.values(), ids=list(BROKEN))
def test_a_file_with_this_is_refused_and_leaves_nothing(tmp_path: Path, tiny: Tiny, words: str) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", tiny)
    with pytest.raises(ModelImportError, match=words):
        export(source, tmp_path / "models" / "export")
    assert list((tmp_path / "models").iterdir()) == []


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "not a GGUF file"),
    "something else": (lambda data: b"PK\x03\x04" + data[4:], "not a GGUF file"),
    "an old version": (lambda data: data[:4] + b"\x01\0\0\0" + data[8:], "version 1; versions 2 and 3"),
    "big-endian": (lambda data: data[:4] + b"\0\0\0\x03" + data[8:], "big-endian"),
    "cut in its header": (lambda data: data[:3000], "not downloaded whole"),
    "cut in its weights": (lambda data: data[:-5000], "not downloaded whole"),
    "cut by the least that can be": (lambda data: data[:-32], "tensor output.weight lacks"),
    "a count beyond reason": (lambda data: data[:8] + b"\xff" * 8 + data[16:], "damaged"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_file_is_refused_and_leaves_nothing(
    tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf")
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(ModelImportError, match=words):
        export(source, tmp_path / "models" / "export")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match=r"absent\.gguf: it cannot be read \(No such file"):
        export(tmp_path / "absent.gguf", tmp_path / "export")


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(ModelImportError, match="the disk has 0 MB left; free some space"):
        export(tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "models" / "export", lambda *step: heard.append(step[0]))
    assert heard == []
    assert list((tmp_path / "models").iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(stage: str, done_bytes: int, total_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "models" / "export", interrupt)
    assert list((tmp_path / "models").iterdir()) == []


def test_the_header_agrees_with_the_gguf_packages_reader(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", TINY)
    header, reader = read_header(source), GGUFReader(source)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert header.metadata.entries == fields
    expected = {t.name: (t.tensor_type.name, tuple(t.shape[::-1]), t.data_offset, t.n_bytes) for t in reader.tensors}
    assert {t.name: (t.type, t.shape, t.offset, t.size_bytes) for t in header.tensors.values()} == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_to_a_header_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    source = tmp_path / "tiny.gguf"
    whole = bytearray((source if source.exists() else tiny_gguf(source)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 9000))
        whole[at : at + 4] = data.draw(st.binary(min_size=1, max_size=9))
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(whole)
    try:
        export(damaged, tmp_path / "export")
    except ModelImportError:
        assert not (tmp_path / "export").exists()
    else:
        shutil.rmtree(tmp_path / "export")
