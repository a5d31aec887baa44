"""The board, and how it is shown."""

import io
from collections.abc import Iterable

from rich.console import Console

from cluster.demo.board import Board
from cluster.demo.display import LiveTable, display
from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import JobStatus
from replicas.engine import Usage

STARTED = Event(EventType.STARTED, agent=0)
DELTA = Event(EventType.DELTA, agent=0, text="some [bold]text")
OUTPUT = Event(EventType.OUTPUT, agent=0, text="whole text", usage=Usage(30, 7), finish="end")


def board_after(events: Iterable[Event], times_s: Iterable[float] = ()) -> Board:
    ticks = iter(times_s)
    board = Board(["a.md", "b.md"], lambda: next(ticks, 0.0))
    for event in events:
        board.take(event)
    return board


def test_an_agent_goes_from_waiting_to_done() -> None:
    agent = board_after([STARTED, DELTA, OUTPUT], [10.0, 12.0]).agents[0]
    assert (agent.state, agent.text, agent.tokens, agent.time_s, agent.tokens_s) == ("done", "whole text", 7, 2.0, 3.5)
    assert board_after([]).agents[0].state == "waiting"


def test_tokens_of_an_agent_that_writes_are_estimated_from_its_text() -> None:
    assert board_after([STARTED, DELTA]).agents[0].tokens == 4


def test_a_retry_takes_back_the_text_so_far() -> None:
    board = board_after([STARTED, DELTA, Event(EventType.RETRY, agent=0, error="lost")])
    assert (board.agents[0].state, board.agents[0].text) == ("retrying", "")


def test_an_output_with_an_error_is_a_failed_agent() -> None:
    board = board_after([Event(EventType.OUTPUT, agent=1, text="", error="too long")])
    assert (board.agents[1].state, board.agents[1].error) == ("failed", "too long")


def test_the_end_of_the_job_is_noted() -> None:
    board = board_after([Event(EventType.DONE, status=JobStatus.FAILED, error="deadline")])
    assert (board.status, board.error) == (JobStatus.FAILED, "deadline")


def test_without_a_terminal_there_is_a_line_per_change_and_none_per_token() -> None:
    printed = io.StringIO()
    board = board_after([])
    with display(board, Console(file=printed, width=200)) as shown:
        for event in (STARTED, DELTA, DELTA, OUTPUT, Event(EventType.STATUS, status=JobStatus.RUNNING)):
            board.take(event)
            shown.show(event)
    lines = printed.getvalue().splitlines()
    assert len(lines) == 2
    assert "agent  1  working   a.md" in lines[0]
    assert "7 tokens in" in lines[1]
    assert "whole text" in lines[1]


def test_on_a_terminal_every_agent_has_a_row_and_markup_in_its_text_is_harmless() -> None:
    printed = io.StringIO()
    board = board_after([STARTED, DELTA])
    console = Console(file=printed, force_terminal=True, width=120)
    with display(board, console) as shown:
        assert isinstance(shown, LiveTable)
    assert "some [bold]text" in printed.getvalue()
    assert all(name in printed.getvalue() for name in ("a.md", "b.md", "waiting", "working"))
