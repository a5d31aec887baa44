"""One run: submit the swarm through the Python client as any program would, follow it, count."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from rich.console import Console

from cluster.client import connect
from cluster.demo.board import Board
from cluster.demo.display import display
from cluster.demo.documents import Passage
from cluster.demo.engines import ServiceState, batches_between, service_state
from cluster.demo.service import Ended
from cluster.demo.tally import Answering, Tally, tally
from cluster.swarm.swarm import Agent, Swarm
from replicas.errors import ShoalError, Unavailable

SUMMARY_TOKENS = 64
DEADLINE_S = 900.0
# Of the wordings tried, the one to which the default model repeats itself least.
PROMPT = """Here is the beginning of the document {name}:

{text}

What is this document about? Answer in one sentence."""


def swarm(passages: Sequence[Passage]) -> Swarm:
    """One summarizer over all passages: an agent instance for each."""
    return Swarm(
        agents=[Agent(role="summarizer", prompt=PROMPT)],
        over={"name": [passage.name for passage in passages], "text": [passage.text for passage in passages]},
        max_tokens=SUMMARY_TOKENS,
        name="demo",
        deadline_s=DEADLINE_S,
    )


def run(
    url: str, passages: Sequence[Passage], console: Console, clock: Callable[[], float] = time.monotonic
) -> tuple[Board, Tally]:
    """Run the demo's swarm on the instance at `url`; a signal cancels it. Raises ShoalError."""
    board = Board([passage.name for passage in passages], clock)
    before = service_state(url)
    with connect(url) as client:
        began_s = clock()
        job = client.submit(swarm(passages))
        try:
            with display(board, console) as shown:
                for event in job.events():
                    board.take(event)
                    shown.show(event)
        except Ended:
            with suppress(ShoalError):
                job.cancel()
            raise
        time_s = clock() - began_s
    after = service_state(url)
    return board, tally(board.agents, time_s, batches_between(before, after), answering(after))


def answering(state: ServiceState) -> Answering:
    """The default model and its engine. Raises Unavailable if no replica is up."""
    engine = next(iter(state.engines().values()), None)
    if engine is None:
        raise Unavailable(f"a replica of {state.default_model}", "`shoal status` shows what is up")
    return Answering(state.default_model, engine.engine, engine.provider, engine.slots)
