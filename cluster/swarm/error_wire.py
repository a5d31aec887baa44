"""Errors of the swarm routes as JSON, and back: a client raises the class that the service raised.

`{"error": {"type", "message", "param", "args"}}`: `args` is what the class is built from (see replicas/errors.py), so
nothing has to be parsed out of the message. A body of any other shape becomes the error that fits its status.
"""

import re

from pydantic import BaseModel, ValidationError

from replicas import errors
from replicas.errors import Forbidden, Overloaded, ShoalError, Unauthenticated, Unavailable

Scalar = str | int | float | None

_CLASSES: dict[str, type[ShoalError]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): found
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, ShoalError)
}
_NAMES = {found: name for name, found in _CLASSES.items()}


class _Detail(BaseModel):
    type: str = ""
    message: str = ""
    param: str | None = None
    args: list[Scalar] = []


class _Body(BaseModel):
    error: _Detail


def error_json(error: ShoalError) -> str:
    """The body of `error`; what its class or arguments are is told only as far as they are plain."""
    name = next((_NAMES[kind] for kind in type(error).__mro__ if kind in _NAMES), "shoal_error")
    args = [arg for arg in error.args if isinstance(arg, str | int | float | None)]
    param = getattr(error, "param", None)
    return _Body(error=_Detail(type=name, message=str(error), param=param, args=args)).model_dump_json()


def read_error(status: int, body: bytes, retry_after: str | None = None) -> ShoalError:
    """The error in a response of `status`."""
    words = body.decode(errors="replace")[:500]
    try:
        detail = _Body.model_validate_json(body).error
        words = detail.message or words
        return _CLASSES[detail.type](*detail.args)
    except (ValidationError, KeyError, TypeError):
        pass
    if status == Unauthenticated.status:
        return Unauthenticated(words)
    if status == Forbidden.status:
        return Forbidden(words)
    if status == Overloaded.status:
        is_number = retry_after is not None and retry_after.isdigit()
        return Overloaded("the service", float(retry_after or 1) if is_number else 1.0)
    if status in (502, 503, 504):
        return Unavailable("the service", words)
    return ShoalError(f"HTTP {status}: {words}")
