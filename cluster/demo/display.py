"""Shows the agents at work: a table that is drawn over on a terminal, a line per change where there is none."""

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cluster.demo.board import Agent, Board
from cluster.swarm.event import Event, EventType

DRAWS_PER_S = 8
STYLES = {"waiting": "dim", "working": "cyan", "retrying": "yellow", "done": "green", "failed": "red"}


class Display(Protocol):
    """Shows a board while it is entered."""

    def __enter__(self) -> "Display":
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave what was shown last."""
        ...

    def show(self, event: Event) -> None:
        """The board has just taken `event`."""
        ...


class LiveTable:
    """A row per agent: what it reads, its state, tokens, the end of what it writes until it is done."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console
        self._live = Live(console=console, refresh_per_second=DRAWS_PER_S, get_renderable=self._table)

    def __enter__(self) -> "LiveTable":
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Nothing: the table draws itself at its own pace."""

    def _table(self) -> Table:
        table = Table(box=None, expand=True, pad_edge=False)
        table.add_column("agent", justify="right")
        table.add_column("reads", no_wrap=True, max_width=max(20, self._console.width // 3))
        table.add_column("state")
        table.add_column("tokens", justify="right")
        table.add_column("writes", no_wrap=True, ratio=1)
        room = max(20, self._console.width // 2 - 12)
        for number, agent in enumerate(self._board.agents, 1):
            words = " ".join((agent.error or agent.text).split())
            shown = words[:room] if agent.is_over else words[-room:]
            state = f"[{STYLES[agent.state]}]{agent.state}[/]"
            table.add_row(str(number), escape(agent.name), state, counted(agent), escape(shown))
        return table


class Lines:
    """A line when an agent begins, tries again or is done."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to take back."""

    def show(self, event: Event) -> None:
        """Say what changed."""
        if event.agent is None or event.type is EventType.DELTA:
            return
        agent = self._board.agents[event.agent]
        line = f"agent {event.agent + 1:>2}  {agent.state:<8}  {agent.name}"
        if event.type is EventType.OUTPUT:
            line += f"  {agent.tokens} tokens in {agent.time_s:.1f} s: {' '.join((agent.error or agent.text).split())}"
        elif event.error:
            line += f"  {event.error}"
        self._console.print(line, markup=False, highlight=False)


def display(board: Board, console: Console) -> Display:
    """What suits `console`."""
    return LiveTable(board, console) if console.is_terminal else Lines(board, console)


def counted(agent: Agent) -> str:
    """The tokens of an agent; `~` before an estimate."""
    return str(agent.tokens) if agent.is_over else f"~{agent.tokens}" if agent.text else ""
