"""What the settings say of the way to an answer: `routing.rules[].gate`, `routing.retries` and `routing.breaker`."""

from typing import Annotated

from pydantic import Field, model_validator

from cluster.section import Section
from router.chain.bar import Bar
from router.chain.breaker import WINDOW
from router.chain.gate import JUDGE_WAIT_S

LogProbability = Annotated[float, Field(le=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
HOLD_TOKENS = Bar().hold_tokens


class JudgeSettings(Section):
    """Another model that judges answers. It is told what to do by `prompt` (null: in our words), and says yes or no."""

    model: str | None = None
    prompt: str | None = Field(None, min_length=1, max_length=4000)
    wait_s: Seconds = JUDGE_WAIT_S


class GateSettings(Section):
    """What a local answer must pass before its first byte goes out; nothing of it set: no gate."""

    mean_logprob: LogProbability | None = None
    min_logprob: LogProbability | None = None
    form: bool = False
    refusals: bool = False
    repetition: bool = False
    least_characters: int | None = Field(None, ge=1)
    hold_tokens: int = Field(HOLD_TOKENS, ge=1, le=4096)
    judge: JudgeSettings = JudgeSettings()
    serves_rejected: bool = True

    @model_validator(mode="after")
    def _looks_at_something(self) -> "GateSettings":
        if self.bar is None and (self.hold_tokens != HOLD_TOKENS or not self.serves_rejected):
            raise ValueError("a gate looks at something: set one of its checks, or its judge's model")
        return self

    @property
    def bar(self) -> Bar | None:
        """What of it is looked at without another model; None: there is no gate at all."""
        bar = Bar(
            self.mean_logprob,
            self.min_logprob,
            self.form,
            self.refusals,
            self.repetition,
            self.least_characters,
            self.hold_tokens,
        )
        return None if bar == Bar(hold_tokens=self.hold_tokens) and self.judge.model is None else bar


class RetrySettings(Section):
    """How often a model that failed is asked again, and after how long: up to `base_s`, doubled each time, at most
    `cap_s`; while another model is left, at most `elsewhere_s`."""

    times: int = Field(2, ge=0, le=10)
    base_s: Seconds = 0.25
    cap_s: Seconds = 8.0
    elsewhere_s: Seconds = 2.0


class BreakerSettings(Section):
    """When a model is left alone: of the results of the last `window_s`, at least `failures` and the part `ratio` are
    failures. It rests for `rest_s`, longer each time; then `probes` must succeed one after another."""

    failures: int = Field(5, ge=1)
    ratio: float = Field(0.5, gt=0, le=1)
    window_s: Seconds = 30.0
    rest_s: Seconds = 5.0
    rest_cap_s: Seconds = 120.0
    probes: int = Field(2, ge=1, le=100)

    @model_validator(mode="after")
    def _can_open(self) -> "BreakerSettings":
        if self.failures > WINDOW:
            raise ValueError(f"failures {self.failures}: at most {WINDOW} results are remembered")
        if self.rest_cap_s < self.rest_s:
            raise ValueError(f"rest_cap_s {self.rest_cap_s:g} is below rest_s {self.rest_s:g}")
        return self
