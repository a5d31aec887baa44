"""From a decision to a chain: who is asked in which order, what of local answers is judged, and by whom.

One local model with nothing to judge needs no chain, and neither do the local models that a policy ranks: the first
whose context fits answers, so that what it says does not hang on how busy others are. A local pool that is full, or has
failed, has been tried enough where it runs: among local models alone nobody is asked twice.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

from prometheus_client import CollectorRegistry

from deployments.clouds import Clouds, Escort, LocalBackend, PaidBackend
from deployments.judged import JudgedBackend
from deployments.money import Money
from deployments.plan import HttpPlan
from deployments.routed import Routed
from replicas.engine import Chunk, Priority
from replicas.errors import Unavailable
from router.call import Call
from router.chain.backend import Asked, Backend, Link
from router.chain.backoff import Retries
from router.chain.chain import Chain
from router.chain.gate import Gate, Judge, Prefix
from router.chain.judge import Judging, approves, question
from router.chain.terms import USUAL, Terms
from router.policy.decide import Policy
from router.policy.decision import Decision

ONCE = Retries(times=0)

Local: TypeAlias = Callable[[str, Call, float], AsyncGenerator[list[Chunk], None]]
"""Answers a call with the local model of that name, within so many seconds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call, what was decided about it, and how local models answer it."""

    call: Call
    decision: Decision
    local: Local


class Chains:
    """Makes chains. One per process that asks for answers; their metrics are in `registry`."""

    def __init__(self, policy: Policy, clouds: Clouds, money: Money, http: HttpPlan) -> None:
        self.registry = CollectorRegistry()
        self._policy = policy
        self._clouds = clouds
        self._escort = Escort(policy.guard, money, policy.speeds)
        self._http = http
        self._chain = Chain(self.registry, policy.routing.breaker)
        self._rules = {rule.name: rule for rule in policy.routing.rules}

    def are_needed(self, decision: Decision) -> bool:
        """Whether more is to be done than to ask one local model."""
        if any(name in self._clouds.models for name in decision.names):
            return True
        rule = self._rules.get(decision.rule) if decision.by == "rule" else None
        if rule is None:
            return False
        if len(decision.names) > 1:
            return bool(rule.to) or rule.terms != USUAL
        return bool(decision.names) and rule.terms.has_gate and not rule.terms.serves_rejected

    def routed(self, wanted: Wanted) -> Routed:
        """The chain of a decision, of which nothing is asked yet."""
        call, decision = wanted.call, wanted.decision
        names, terms = decision.names, self._terms(decision)
        links = tuple(self._link(wanted, name, terms, is_last=name == names[-1]) for name in names)
        is_hurried = call.priority is Priority.INTERACTIVE
        asked = Asked(
            links,
            min(call.deadline_s, self._http.request_deadline_s),
            terms.hedge_after_s if is_hurried else None,
            self._http.ping_interval_s,
            terms.serves_rejected,
            self._policy.routing.retries if any(map(self._is_cloud, names)) else ONCE,
        )
        return Routed(call, asked, self._chain, decision)

    def _terms(self, decision: Decision) -> Terms:
        return self._rules[decision.rule].terms if decision.by == "rule" else USUAL

    def _is_cloud(self, name: str) -> bool:
        return name in self._clouds.models

    def _link(self, wanted: Wanted, name: str, terms: Terms, *, is_last: bool) -> Link:
        """Whoever is last is judged only if an answer that is not good enough is worse than none."""
        if self._is_cloud(name) or terms.bar is None or (is_last and terms.serves_rejected):
            return Link(name, self._backend(wanted, name), None, terms.patience_s)
        call, keeps_scores = wanted.call, True
        if terms.bar.wants_scores and call.top_logprobs is None:
            call, keeps_scores = replace(call, top_logprobs=0), False
        backend = JudgedBackend(self._backend(replace(wanted, call=call), name))
        return Link(name, backend, self._gate(wanted, terms, backend.judged), terms.patience_s, keeps_scores)

    def _gate(self, wanted: Wanted, terms: Terms, told: Callable[[float], None]) -> Gate:
        assert terms.bar is not None
        if terms.judging is None:
            return terms.bar.gate(wanted.call)
        return terms.bar.gate(wanted.call, self._judge(wanted, terms.judging, told), terms.judging.wait_s)

    def _judge(self, wanted: Wanted, judging: Judging, told: Callable[[float], None]) -> Judge:
        """The judge is asked like anybody: a cloud through the guard, on the same account and budget. `told` hears what
        each verdict has cost, also one that came to nothing."""

        async def judge(prefix: Prefix) -> bool:
            asked = replace(wanted, call=question(judging, wanted.call, prefix))
            if (why := self._clouds.missing.get(judging.model)) is not None:
                raise Unavailable(f"the judge {judging.model}", why)
            said: list[str] = []
            backend = self._backend(asked, judging.model)
            try:
                async with aclosing(backend.ask(judging.wait_s)) as stream:
                    async for chunks in stream:
                        said += [chunk.text for chunk in chunks]
            finally:
                told(backend.spent_usd())
            return approves("".join(said))

        return judge

    def _backend(self, wanted: Wanted, name: str) -> Backend:
        if (cloud := self._clouds.models.get(name)) is not None:
            return PaidBackend(cloud, wanted.call, wanted.decision, self._escort)
        return LocalBackend(lambda left_s: wanted.local(name, wanted.call, left_s))
