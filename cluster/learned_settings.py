"""The section `routing.learned:` of the settings, and what the router makes of it."""

from pathlib import Path

from pydantic import Field

from cluster.section import Section
from replicas.errors import SettingsError
from router.policy.rule import OTHERWISE, Learning, ReadyName


class LearnedSettings(Section):
    """The policy `learned`. `threshold` null: the lowest by which answers keep the share `quality` of the cloud's
    quality, by the figures in the model file. Both defaults are choices."""

    model_file: Path | None = None
    threshold: float | None = Field(None, ge=0, le=1)
    quality: float = Field(0.95, gt=0, le=1)
    explore: float = Field(0.0, ge=0, le=1)
    seed: int = 0
    otherwise: ReadyName = OTHERWISE


def learning_of(settings: LearnedSettings, *, is_used: bool) -> Learning | None:
    """How `learned` decides; None where nobody has asked for it. Raises SettingsError if `is_used` without a file."""
    if settings.model_file is None:
        if is_used:
            raise SettingsError(
                "routing.learned.model_file is not set, and a rule or the policy is `learned`: name a file; it may "
                "come later, from `shoal route train`"
            )
        return None
    path = settings.model_file.expanduser().absolute()
    return Learning(path, settings.threshold, settings.quality, settings.explore, settings.seed, settings.otherwise)
