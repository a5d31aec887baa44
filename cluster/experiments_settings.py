"""The sections `journal:` and `experiments:` of the settings; cluster/experiments.py reads the second one."""

from typing import Annotated

from pydantic import Field, model_validator

from cluster.routing_settings import Name, Texts
from cluster.section import Section

SYSTEM_CHARS = 20_000


class JournalSettings(Section):
    """Whether decisions are kept, without a word of what was asked, for how many days, and how many; those of the
    experiments in the settings stay for `keep_experiment_days`, and as many of them again. `journal: off` is
    short for `enabled: false`."""

    enabled: bool = True
    keep_days: float = Field(30.0, gt=0, le=3660)
    keep_rows: int = Field(1_000_000, ge=1, le=1_000_000_000)
    keep_experiment_days: float = Field(180.0, gt=0, le=3660)

    @model_validator(mode="before")
    @classmethod
    def _may_be_off(cls, written: object) -> object:
        switched = {"on": True, "off": False}.get(written) if isinstance(written, str) else written
        return {"enabled": switched} if isinstance(switched, bool) else written


class VariantSettings(Section):
    """What requests get: another target (what a rule may send to), a text before their system prompt, both, or nothing,
    which leaves them as they are."""

    name: Name
    weight: float = Field(1.0, gt=0, le=1_000_000, allow_inf_nan=False)
    to: Texts | None = None
    system: Annotated[str, Field(min_length=1, max_length=SYSTEM_CHARS)] | None = None


class ExperimentSettings(Section):
    """Between `variants`, the first of which is the control, with the part `share` of the requests that `rule` decides;
    null: of those that leave the choice and that no rule takes."""

    name: Name
    rule: str | None = None
    share: float = Field(1.0, gt=0, le=1)
    variants: tuple[VariantSettings, ...] = Field(min_length=2, max_length=16)
