"""What `bench.phi4mini` measures, on a tiny model with the same kind of rotary caches."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.phi4mini.__main__ import table
from bench.phi4mini.memory import read_bytes_s, resident_bytes
from bench.phi4mini.session import Crossing, Found, session, size_of
from replicas.export import Export
from tests.models import tiny_longrope_export

FOUND = Found(2 << 30, 3 << 30, 4112, 40.0, 5.0, 4.0, Crossing(4096, 90.0, is_right=True))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return Export.load(tiny_longrope_export(tmp_path_factory.mktemp("m") / "tiny", switch_tokens=96))


def test_a_session_crosses_the_switch_and_goes_on_as_if_it_began_beyond(export: Export) -> None:
    found = session(export, threads=1, prompt_tokens=90)
    assert found.crossing is not None
    assert (found.crossing.switch_tokens, found.crossing.is_right) == (96, True)
    assert found.context_tokens >= 96 + 16


def test_a_prompt_beyond_the_switch_crosses_nothing(export: Export) -> None:
    assert session(export, threads=1, prompt_tokens=120).crossing is None


def test_decoding_is_held_against_weights_and_cache(export: Export) -> None:
    weights = size_of(export.model_file)
    assert weights == (export.directory / "model.onnx.data").stat().st_size
    lines = table(export, FOUND, bytes_s=10.0 * weights)
    assert "3.00 GiB with 4112 tokens, aim below 4: reached" in lines
    assert "short context: 5.00 tokens/s, 50% of the 10.00" in lines
    assert "crossing 4096 tokens: 90.0 s, then the same tokens" in lines


def test_what_was_not_reached_is_said(export: Export) -> None:
    wrong = replace(FOUND, full_bytes=5 << 30, crossing=Crossing(4096, 90.0, is_right=False))
    assert "MISSED" in table(export, wrong, 1e9)
    assert "WRONG tokens" in table(export, wrong, 1e9)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc/self/status")
def test_memory_is_read_at_more_than_nothing_and_held_at_more_than_a_little() -> None:
    assert read_bytes_s(1) > 1e6
    assert resident_bytes() > 10 << 20
