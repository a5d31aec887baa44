"""The seam between what is said and the protocol it is said in."""

import json
from dataclasses import dataclass
from typing import Protocol

from cluster.upstream.asked import Asked, Json, Problem
from cluster.upstream.reply import Reply, Usage
from cluster.upstream.response import Frame
from cluster.upstream.script import FaultKind


def compact(tree: object) -> str:
    """JSON as the services send it: no blanks, letters as they are."""
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Telling:
    """How a reply is told. `name` makes the ids, `created_s` is Unix time, `usage` what is claimed (null: nothing is).

    `quirk` is a fault that changes the protocol's form and not the bytes.
    """

    name: str
    created_s: int
    usage: Usage | None
    cost_usd: float
    quirk: FaultKind | None = None


class Wire(Protocol):
    """One protocol."""

    def read(self, body: Json) -> Asked:
        """What `body` asks for. Raises Problem in the cases in which the real service would refuse it."""
        ...

    def write(self, asked: Asked, reply: Reply, telling: Telling) -> tuple[Frame, ...]:
        """`reply` as events if a stream is asked for, else as one frame."""
        ...

    def error(self, problem: Problem, is_event: bool, name: str) -> bytes:
        """`problem` as a body, or as an event in a stream; `name` makes its id."""
        ...
