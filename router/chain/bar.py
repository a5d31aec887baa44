"""What a rule asks of an answer, as data, and the gate for one request that it comes to."""

from dataclasses import dataclass

from router.call import Call
from router.chain.checks import Length, Refusal, Repetition, Sureness
from router.chain.gate import JUDGE_WAIT_S, Check, Gate, Judge
from router.chain.validity import Calls, Form


@dataclass(frozen=True, slots=True)
class Bar:
    """What must be so of an answer for it to go out; None and False are not looked at.

    `mean_logprob` is the least mean log-probability of its tokens (natural): about -0.3 is sure, -2 is a guess, but it
    is each model's own scale. `min_logprob` is the least of any one token. `hold_tokens` are held back before the first
    one leaves.
    """

    mean_logprob: float | None = None
    min_logprob: float | None = None
    form: bool = False
    refusals: bool = False
    repetition: bool = False
    least_characters: int | None = None
    hold_tokens: int = 32

    @property
    def wants_scores(self) -> bool:
        """The backend must be asked for log-probabilities; `Link.keeps_scores` is for callers who did not."""
        return self.mean_logprob is not None or self.min_logprob is not None

    def gate(self, call: Call, judge: Judge | None = None, judge_wait_s: float = JUDGE_WAIT_S) -> Gate:
        """The gate for an answer to `call`."""
        checks: list[Check] = []
        if self.least_characters is not None:
            checks.append(Length(self.least_characters))
        if self.form and call.tools and call.tool_choice.mode != "none":
            checks.append(Calls(call.tools, call.tool_choice))
        if self.form and call.grammar is not None:
            checks.append(Form(call.grammar))
        if self.refusals:
            checks.append(Refusal())
        if self.repetition:
            checks.append(Repetition())
        if self.wants_scores:
            checks.append(Sureness(self.mean_logprob, self.min_logprob))
        return Gate(tuple(checks), judge, self.hold_tokens, judge_wait_s=judge_wait_s)
