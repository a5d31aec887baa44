"""Edges with clouds: scripted upstreams over sockets behind a real edge, in both protocols."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import httpx
import pytest

from deployments.plan import AppPlan, CloudPlan
from replicas.cloud.endpoint import Endpoint
from replicas.engine import Engine
from router.budget import Budgets
from router.journal.archive import Archive
from router.keys.keyring import Keyring
from router.policy.candidate import Candidate
from router.policy.condition import one
from router.policy.constraints import Like
from router.policy.rule import PolicyName, Routing, Rule
from router.prices import price_list
from tests.cluster.upstream.played import Played, playing
from tests.deployments.asking import body
from tests.deployments.served import PLAN, Served, serving

KEY_ENV = "SHOAL_TEST_CLOUD_KEY"
KEY = "the-key-of-the-cloud"
PRICE = price_list().price("claude-haiku-4-5")
CLAUDE, GPT = "ant/claude-haiku-4-5", "oai/gpt"
CLOUDS = [Candidate(CLAUDE, False, price=PRICE), Candidate(GPT, False, price=PRICE)]


def rule(*names: str) -> Rule:
    """Requests with the role `NAME>NAME` go along these."""
    role = one("role", Like((frozenset({">".join(names)}),)))
    return Rule(">".join(names), role, to=names)


RULES = (rule(CLAUDE, "echo"), rule(GPT, "echo"), rule("echo", CLAUDE), rule("tiny", GPT), rule(CLAUDE, GPT))


@dataclass
class Far:
    """An edge, and the upstream that all of its clouds are."""

    served: Served
    upstream: Played

    def ask(self, path: str, text: str, route: str = "", **changes: object) -> httpx.Response:
        """Ask along `route`, or for the `model` of `changes`."""
        tree = body(text, **{"model": "auto", **changes})
        return httpx.post(self.served.url + path, json=tree, headers={"x-shoal-role": route}, timeout=60)


def planned(url: str, policy: PolicyName = "prefer-local") -> AppPlan:
    """A plan whose clouds are at `url`."""
    clouds = (
        CloudPlan("anthropic", Endpoint("ant", url, KEY_ENV)),
        CloudPlan("openai", Endpoint("oai", f"{url}/v1", KEY_ENV)),
    )
    routing = Routing((*PLAN.routes.candidates, *CLOUDS), RULES, policy)
    return replace(PLAN, routing=routing, clouds=clouds)


@contextmanager
def far(
    script: str = "",
    policy: PolicyName = "prefer-local",
    keyring: Keyring | None = None,
    budgets: Budgets | None = None,
    changed: Callable[[AppPlan], AppPlan] = lambda plan: plan,
    archive: Archive | None = None,
    **engines: list[Engine],
) -> Iterator[Far]:
    """An edge with clouds that play `script`; `changed` has the last word on its plan."""
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv(KEY_ENV, KEY)
        upstream = stack.enter_context(playing(script))
        plan = changed(planned(upstream.url, policy))
        yield Far(stack.enter_context(serving(plan, keyring, budgets, archive, **engines)), upstream)
