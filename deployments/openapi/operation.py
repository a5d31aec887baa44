"""A route that says what it takes and gives."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

JSON = "application/json"
EVENTS = "text/event-stream"
OCTETS = "application/octet-stream"
TEXT = "text/plain"
NOTHING = ""

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
Method: TypeAlias = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Of the query or, `in_header`, a header; always a choice. One of `values`, if there are any."""

    name: str
    about: str
    in_header: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of a path does, beside the errors that all have.

    `body` is the model that a JSON body is read by, or the content type of another one. `gives` are the content types
    of what comes with `status`. `is_open`: no key is needed.
    """

    summary: str
    body: type[BaseModel] | str | None = None
    gives: tuple[str, ...] = (JSON,)
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    is_open: bool = False


class Documented(Route):
    """A route for one method (and HEAD beside GET), with its `operation`."""

    def __init__(self, path: str, endpoint: Endpoint, operation: Operation, method: Method = "GET") -> None:
        super().__init__(path, endpoint, methods=[method])
        self.operation = operation
        self.method = method
