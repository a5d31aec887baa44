"""Whose job it is: the key that it was submitted with, and whether its sender marked it private.

It goes with every call of the job: on that key's account, out of its budgets, within its limits. The limits hold for
each job by itself, beside those of the key's requests; its shards get a part of them each.
"""

from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from router.budget import Payer
from router.keys import Key, Limits
from router.origin import Origin


@dataclass(frozen=True, slots=True)
class Owner:
    """`key` None: the service wanted none."""

    key: Key | None = None
    is_private: bool = False

    def origin(self, job: str, role: str) -> Origin:
        """Where a call of the agent `role` in `job` comes from."""
        key = self.key
        payer = Payer(job=job) if key is None else Payer(key.id, key.name, job)
        is_tenant_private = key is not None and key.is_private
        return Origin(role, is_private=self.is_private, payer=payer, is_tenant_private=is_tenant_private)

    def shards(self, most: int) -> int:
        """How many of `most` shards may run at once, so that each has some of every limit."""
        return min([most, *(limit for limit in self._limits if limit is not None)])

    def part(self, parts: int) -> "Owner":
        """With the limits for one of so many shards."""
        if self.key is None:
            return self
        parted = [None if limit is None else max(1, limit // parts) for limit in self._limits]
        return replace(self, key=replace(self.key, limits=Limits(*parted)))

    def calls(self, most: int) -> int:
        """How many of `most` calls may be under way at once."""
        limit = None if self.key is None else self.key.limits.concurrency
        return most if limit is None else min(most, limit)

    @property
    def _limits(self) -> tuple[int | None, ...]:
        limits = Limits() if self.key is None else self.key.limits
        return limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency


NOBODY = Owner()
OWNER = TypeAdapter(Owner)
