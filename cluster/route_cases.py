"""Labelled requests in a file: JSON lines, each a request and how good the answers to it were.

`{"prompt": "...", "local": 1, "cloud": 1, "cost_usd": 0.0004}`. Instead of `prompt`, `request` holds a body of either
protocol. `local` is the quality of the local model's answer (0 to 1), all that training needs; `cloud` and `cost_usd`
are those of the cloud's answer, which comparisons need too. Private requests are refused: nothing is learned of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.route_request import call_of_body, call_of_prompt
from replicas.errors import InvalidRequest, SettingsError
from router.call import Call
from router.learned.cloud_quality import UNKNOWN, CloudQuality
from router.learned.frontier import Case
from router.learned.training import Example
from router.learned.traits import Traits, traits_of
from router.policy.decide import Policy
from router.policy.rule import LEARNED, Routing
from router.privacy.guard import Guard


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: str | None = None
    request: dict[str, object] | None = None
    local: float = Field(ge=0, le=1)
    cloud: float | None = Field(None, ge=0, le=1)
    cost_usd: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _says_what_was_asked(self) -> "_Line":
        if (self.prompt is None) == (self.request is None):
            raise ValueError("one of `prompt` and `request` is needed")
        return self


@dataclass(frozen=True, slots=True)
class Labelled:
    """A request of the file, with what is known of both answers."""

    call: Call
    traits: Traits
    local: float
    cloud: float | None
    cost_usd: float | None


def labelled(path: Path, routing: Routing) -> list[Labelled]:
    """The requests in `path`. Raises SettingsError that names the line."""
    guard = Guard(routing.detectors, routing.harmless)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    return [_labelled(line, f"{path}:{at}", guard) for at, line in enumerate(lines, 1) if line.strip()]


def _labelled(line: str, source: str, guard: Guard) -> Labelled:
    try:
        found = _Line.model_validate_json(line)
        if found.prompt is not None:
            call = call_of_prompt(found.prompt)
        else:
            call = call_of_body(json.dumps(found.request).encode(), {}, source)
    except ValidationError as error:
        problem = error.errors()[0]
        words = problem["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{source}: {'.'.join(map(str, problem['loc'])) or 'line'}: {words}") from error
    except InvalidRequest as error:
        raise SettingsError(f"{source}: {error}") from error
    marking = guard.mark(call)
    if marking.is_private:
        raise SettingsError(f"{source}: the request is private ({', '.join(marking.reasons)}): take it out")
    return Labelled(call, traits_of(call), found.local, found.cloud, found.cost_usd)


def examples_in(requests: Sequence[Labelled]) -> list[Example]:
    """What training needs."""
    return [Example(one.traits, one.local) for one in requests]


def cloud_quality_in(requests: Sequence[Labelled]) -> CloudQuality:
    """The mean quality of the cloud's answers to these requests, where some are known."""
    told = [one.cloud for one in requests if one.cloud is not None]
    return CloudQuality(sum(told) / len(told), "labels") if told else UNKNOWN


def cases_in(requests: Sequence[Labelled], routing: Routing, path: Path) -> list[Case]:
    """What comparisons need. Raises SettingsError if the cloud's side is missing."""
    rules = Policy(without_learning(routing))
    found = []
    for at, one in enumerate(requests, 1):
        if one.cloud is None or one.cost_usd is None:
            raise SettingsError(f"{path}: request {at} has no `cloud` or no `cost_usd`: policies cannot be compared")
        names = rules.decide(replace(one.call, model=None)).names
        is_local = bool(names) and not rules.is_cloud(names[0])
        found.append(Case(one.traits, one.local, one.cloud, one.cost_usd, float(is_local)))
    return found


def without_learning(routing: Routing) -> Routing:
    """The rules alone: what decides where `learned` abstains."""
    if routing.learning is None:
        return routing
    policy = routing.learning.otherwise if routing.policy == LEARNED else routing.policy
    return replace(routing, policy=policy, learning=None)
