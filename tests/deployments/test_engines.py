"""Engines of a plan: every setting reaches them, adapters are loaded, one that broke costs only itself."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from deployments.engines import build_engine, slot_config
from deployments.plan import EnginePlan, PoolPlan
from replicas.collect import collect
from replicas.engine import Generation, Sampling
from replicas.errors import NotFound
from replicas.slot import SlotConfig
from tests.replicas.engines import tiny
from tests.replicas.peft import random_pairs, write_peft


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model with an adapter that fits, and one that is no adapter."""
    directory = tmp_path / "tiny"
    shutil.copytree(tiny().directory, directory)
    (directory / "adapters").mkdir()
    write_peft(directory / "adapters" / "fits", random_pairs())
    (directory / "adapters" / "broken").mkdir()
    return directory


def test_every_setting_of_a_plan_reaches_the_engine(tmp_path: Path) -> None:
    engine = EnginePlan(
        slots=3,
        context_tokens=100,
        threads=2,
        prefill_chunk_tokens=8,
        queue_limit=5,
        provider="cpu",
        is_spinning=False,
        determinism="relaxed",
        speculation=True,
        cache_bytes=1000,
        stall_ratio=1.5,
    )
    plan = PoolPlan("tiny", tmp_path, engine, context_tokens=100, calibrations=tmp_path, memory_share=0.5)
    assert slot_config(plan) == SlotConfig(
        slots=3,
        max_len=100,
        threads=2,
        prefill_chunk=8,
        queue_limit=5,
        provider="cpu",
        is_spinning=False,
        determinism="relaxed",
        speculation=True,
        cache_bytes=1000,
        stall_ratio=1.5,
        calibrations=tmp_path,
        memory_share=0.5,
    )


def test_what_a_plan_leaves_open_the_engine_chooses() -> None:
    config = slot_config(PoolPlan("tiny", Path(), EnginePlan()))
    assert (config.slots, config.threads, config.cache_bytes) == (None, None, None)
    assert config.prefill_chunk == SlotConfig().prefill_chunk


def test_adapters_are_loaded_and_one_that_broke_since_the_plan_costs_only_itself(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = PoolPlan("tiny", model, EnginePlan(slots=2), context_tokens=128, adapters=("broken", "fits"))
    asked = Generation("a", (5, 6, 7), Sampling(max_tokens=4), adapter="fits")
    engine = build_engine(plan)
    with closing(engine):
        assert engine.stats().adapters == ("fits",)
        assert collect(engine, asked).final.usage.generated == 4
        with pytest.raises(NotFound):
            engine.submit(Generation("b", (5,), Sampling(max_tokens=1), adapter="broken"), lambda _: None)
    assert "adapter broken of tiny is not served" in caplog.text


def test_a_paged_model_runs_on_its_own_engine() -> None:
    engine = build_engine(PoolPlan("tiny", tiny().directory, EnginePlan(kind="paged"), context_tokens=64))
    with closing(engine):
        assert (engine.stats().engine, engine.stats().context_tokens) == ("paged", 64)
        assert collect(engine, Generation("a", (5, 6, 7), Sampling(max_tokens=4))).final.usage.generated > 0
