"""How urgent a request is: by the header `x-shoal-priority`, or OpenAI's `service_tier: "flex"`, its word for later."""

from collections.abc import Mapping

from replicas.engine import Priority
from replicas.errors import InvalidRequest

HEADER = "x-shoal-priority"
FLEX = "flex"


def priority_of(headers: Mapping[str, str], service_tier: object = None) -> Priority:
    """The header decides, then the tier. Raises InvalidRequest for a header that is neither of the two."""
    named = headers.get(HEADER)
    if named is None:
        return Priority.BATCH if service_tier == FLEX else Priority.INTERACTIVE
    try:
        return Priority(named.strip().lower())
    except ValueError:
        known = " or ".join(priority.value for priority in Priority)
        raise InvalidRequest(f"{HEADER}: Input should be {known}", HEADER) from None
