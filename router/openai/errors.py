"""Errors in the words of the OpenAI dialect: the type follows from the HTTP status, the code from the class."""

from replicas.cloud.errors import CloudBusy
from replicas.errors import BudgetSpent, ContextOverflow, InvalidRequest, NotFound, Overloaded, ShoalError
from router import sse
from router.wording import public_words

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def error_value(error: ShoalError) -> dict[str, sse.Json]:
    """The error object, as in a body or in the last event of a stream that broke."""
    return {
        "error": {
            "message": public_words(error),
            "type": _TYPES.get(error.status, "server_error"),
            "param": _param(error),
            "code": _code(error),
        }
    }


def _param(error: ShoalError) -> str | None:
    if isinstance(error, NotFound) and error.kind == "model":
        return "model"
    return error.param if isinstance(error, InvalidRequest) else None


def _code(error: ShoalError) -> str | None:
    if isinstance(error, ContextOverflow):
        return "context_length_exceeded"
    if isinstance(error, BudgetSpent):
        return "insufficient_quota"
    if isinstance(error, NotFound):
        return f"{error.kind}_not_found"
    is_busy = isinstance(error, Overloaded) or (isinstance(error, CloudBusy) and error.status == Overloaded.status)
    return "rate_limit_exceeded" if is_busy else None
