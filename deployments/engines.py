"""Builds the engine that a plan names, and the tokenizer that goes with it."""

import logging
import secrets
from dataclasses import replace

from deployments.plan import PoolPlan
from replicas.adapters import FOLDER as ADAPTERS
from replicas.chat import ChatTokenizer, Tokenizer
from replicas.echo import EchoConfig, EchoEngine, EchoTokenizer
from replicas.engine import Engine, Generation, Message, Sampling
from replicas.errors import ShoalError
from replicas.export import Export
from replicas.paged import PagedExport
from replicas.slot import SlotConfig, SlotEngine

logger = logging.getLogger(__name__)

WARM_UP_DEADLINE_S = 50.0  # below the pool's health_check_timeout_s


def build_engine(plan: PoolPlan) -> Engine:
    """Load the model. Raises ShoalError if it cannot run here."""
    if plan.engine.kind == "echo":
        engine = plan.engine
        return EchoEngine(
            EchoConfig(plan.model, engine.assumed_slots, plan.context_tokens, engine.queue_limit, engine.echo_delay_s)
        )
    if plan.engine.kind == "paged":
        return _paged_engine(plan)
    slot_engine = SlotEngine(Export.load(plan.path), slot_config(plan))
    load_adapters(slot_engine, plan)
    return slot_engine


def _paged_engine(plan: PoolPlan) -> Engine:
    from replicas.paged.engine import PagedConfig, PagedEngine  # brings ONNX Runtime GenAI with it

    engine = plan.engine
    config = PagedConfig(engine.slots, plan.context_tokens, engine.queue_limit, engine.provider, engine.threads)
    return PagedEngine(PagedExport.load(plan.path), config)


def load_adapters(engine: SlotEngine, plan: PoolPlan) -> None:
    """Load the adapters of `plan`; all of them fitted when it was made, or `shoal up` had stopped.

    One that was changed or taken away since is logged, for a replica that Serve starts later must start all the same:
    who names the adapter is refused, the others are not.
    """
    for name in plan.adapters:
        try:
            engine.load_adapter(name, plan.path / ADAPTERS / name)
        except ShoalError as error:
            logger.warning("adapter %s of %s is not served: %s", name, plan.model, error)


def slot_config(plan: PoolPlan) -> SlotConfig:
    """The engine's own settings; what the plan leaves open the engine chooses."""
    engine = plan.engine
    config = SlotConfig(
        slots=engine.slots,
        threads=engine.threads,
        max_len=engine.context_tokens,
        queue_limit=engine.queue_limit,
        provider=engine.provider,
        is_spinning=engine.is_spinning,
        determinism=engine.determinism,
        cache_bytes=engine.cache_bytes,
        stall_ratio=engine.stall_ratio,
        speculation=engine.speculation,
        calibrations=plan.calibrations,
        memory_share=plan.memory_share,
    )
    if engine.prefill_chunk_tokens is not None:
        config = replace(config, prefill_chunk=engine.prefill_chunk_tokens)
    return config


def build_tokenizer(plan: PoolPlan) -> Tokenizer:
    """The exact tokenizer of the plan's model; small enough to live in every ingress."""
    return EchoTokenizer() if plan.engine.kind == "echo" else ChatTokenizer(plan.path)


def warm_up_generation() -> Generation:
    """A prompt of a few tokens: enough to touch prefill and decode once."""
    prompt = (Message("user", "Hello"),)
    return Generation(f"warm-up-{secrets.token_hex(4)}", prompt, Sampling(max_tokens=2), deadline_s=WARM_UP_DEADLINE_S)
