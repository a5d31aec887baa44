"""What was decided of a request, noted as soon as it is known: whatever becomes of the request, headers tell it. Who is
refused needs it most. A request that was refused before anything was decided has nothing noted.
"""

from dataclasses import dataclass

from starlette.requests import Request

from router.policy import explain
from router.policy.decision import Decision


@dataclass(frozen=True, slots=True)
class Noted:
    """A decision, and how the tightest budget stood then; empty: there are none."""

    decision: Decision
    budget: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The same as headers, in either protocol."""
        headers = {"x-shoal-route": explain.header(self.decision)}
        if self.decision.trial is not None:
            headers["x-shoal-experiment"] = str(self.decision.trial)
        if self.budget:
            headers["x-shoal-budget"] = self.budget
        return headers


def note(request: Request, decision: Decision, budget: str = "") -> None:
    """From now on `decision` is what was decided of `request`."""
    request.state.noted = Noted(decision, budget)


def noted(request: Request) -> dict[str, str]:
    """Headers that tell what was decided of `request` last; none before."""
    found = getattr(request.state, "noted", None)
    assert found is None or isinstance(found, Noted)
    return {} if found is None else found.headers
