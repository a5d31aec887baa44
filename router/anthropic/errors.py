"""Errors in the words of the Messages dialect: the type follows from the HTTP status."""

from replicas.errors import ShoalError
from router import sse
from router.wording import public_words

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_value(error: ShoalError) -> dict[str, sse.Json]:
    """The error object, as in a body or in the `error` event of a stream."""
    return {
        "type": "error",
        "error": {"type": _TYPES.get(error.status, "api_error"), "message": public_words(error)},
    }
