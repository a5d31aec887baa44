"""Who asks, apart from what: what the headers of a request, or a swarm's agent, say of it before anything is read.

A request is marked private by its header; whatever is not clearly a no counts as a yes, because a typing error must not
send a secret out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.budget.payer import JOB, Payer
from router.budget.payer import NOBODY as NO_PAYER

PRIVATE = "x-shoal-private"
ROLE = "x-shoal-role"
AGENT = ("x-shoal-agent-id", "x-claude-code-agent-id")
NOT_PRIVATE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Origin:
    """`headers` by names in lower case, keys among them: only those that a rule names are ever looked at.

    `is_private` by its own mark; `is_tenant_private`: whatever this tenant asks stays here.
    """

    role: str = ""
    agent: str = ""
    is_private: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    payer: Payer = NO_PAYER
    is_tenant_private: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Who has marked the request private, in the words of a `Marking`."""
        return ("header",) * self.is_private + ("tenant",) * self.is_tenant_private


NOBODY = Origin()


def origin_of(headers: Mapping[str, str]) -> Origin:
    """What `headers` (names in lower case) say. A header may be there twice: one mark that is no clear no is enough."""
    marks = (value.strip().lower() for name, value in headers.items() if name == PRIVATE)
    return Origin(
        role=headers.get(ROLE, ""),
        agent=next((headers[name] for name in AGENT if headers.get(name)), ""),
        is_private=any(mark not in NOT_PRIVATE for mark in marks),
        headers=headers,
        payer=Payer(job=headers.get(JOB, "")),
    )
