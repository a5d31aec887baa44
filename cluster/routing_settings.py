"""The sections `clouds:` and `routing:` of the settings; cluster/routing.py turns them into a routing.

A key is never written here: `key_env` names the environment variable that holds it.
"""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from cluster.chain_settings import BreakerSettings, GateSettings, RetrySettings, Seconds
from cluster.learned_settings import LearnedSettings
from cluster.section import Section
from replicas.cloud.release import CloudKind
from router.policy.rule import AtLimit, PolicyName
from router.privacy.kinds import HARMLESS_ADDRESSES, KINDS, Kind

KEY_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1, max_length=64)]
"""One text or several, of which one must match."""

Budgets = Annotated[tuple[Literal["ok", "low", "spent"], ...], BeforeValidator(_listed), Field(min_length=1)]


class CloudModelSettings(Section):
    """One model of a cloud. `price` names an entry of the price list; null: the one of the same name, if there is."""

    name: str = Field(min_length=1, max_length=200)
    aliases: tuple[str, ...] = ()
    price: str | None = None
    context_tokens: int | None = Field(None, ge=16)
    sees_images: bool = False
    ttft_s: float | None = Field(None, ge=0)
    tokens_per_s: float | None = Field(None, gt=0)


class CloudSettings(Section):
    """A cloud: a service that answers by one of two protocols. `key_env` null: it wants no key."""

    name: Name
    kind: CloudKind
    base_url: str
    key_env: str | None = Field(None, pattern=r"^[A-Z_][A-Z0-9_]*$")
    models: tuple[CloudModelSettings, ...] = Field(min_length=1)

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write an address like https://api.example.com")
        if parts.username or parts.password or parts.query:
            raise ValueError("an address holds no key; name the environment variable that does in `key_env`")
        return url


class RangeSettings(Section):
    """Whole numbers from `min` to `max`, both included; null has no end."""

    min: int = Field(0, ge=0)
    max: int | None = Field(None, ge=0)


class ConditionSettings(Section):
    """What must be so of a request: everything that is written here. Texts are patterns: `*` stands for anything;
    alone, of a header, role or agent, for whatever is there: a request without one does not match.

    Without `model` it holds for requests that name none, or `auto`. `time` is `22:00-06:00`, its end not included.
    """

    private: bool | None = None
    code: bool | None = None
    image: bool | None = None
    model: Texts | None = None
    role: Texts | None = None
    agent: Texts | None = None
    language: Texts | None = None
    budget: Budgets | None = None
    tools: RangeSettings | None = None
    tokens_in: RangeSettings | None = None
    tokens_out: RangeSettings | None = None
    headers: dict[str, Texts] = Field(default_factory=dict)
    time: str | None = None
    all: tuple["ConditionSettings", ...] = ()
    any: tuple["ConditionSettings", ...] = ()

    @field_validator("headers")
    @classmethod
    def _are_no_keys(cls, headers: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if any(name.lower() in KEY_HEADERS for name in headers):
            raise ValueError("a rule may not look at keys: what rules see is told in headers and journals")
        return headers

    @field_validator("time")
    @classmethod
    def _is_a_span(cls, time: str | None) -> str | None:
        found = None if time is None else TIME.fullmatch(time)
        if time is not None and (found is None or time[:5] == time[6:]):
            raise ValueError("write a span of the day like 22:00-06:00")
        return time


class RuleSettings(Section):
    """Who answers what `when` holds for. `private` makes such requests private. After `hedge_after_s` the second model
    is asked beside the first; one that says nothing for `patience_s` is given up while another is left."""

    name: str = Field(pattern=r"^[ -~]{1,64}$")
    when: ConditionSettings = ConditionSettings()
    to: Texts
    private: bool = False
    gate: GateSettings = GateSettings()
    hedge_after_s: Seconds | None = None
    patience_s: Seconds | None = None


class PrivacySettings(Section):
    """What makes a request private beside its sender's mark."""

    detectors: tuple[Kind, ...] = KINDS
    harmless_addresses: tuple[str, ...] = HARMLESS_ADDRESSES


class RoutingSettings(Section):
    """Who answers requests that leave the choice. `policy` decides where no rule does."""

    policy: PolicyName = "prefer-local"
    chains: dict[Name, Texts] = Field(default_factory=dict)
    rules: tuple[RuleSettings, ...] = ()
    privacy: PrivacySettings = PrivacySettings()
    time_zone: str = "UTC"
    at_limit: AtLimit = "degrade"
    learned: LearnedSettings = LearnedSettings()
    retries: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
