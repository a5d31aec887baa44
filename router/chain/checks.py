"""What is plainly wrong with an answer, by its own words and numbers: unsure, refused, looping, too short.

Each is cheap and errs on the side of letting an answer go: a wrong alarm costs a second answer, from a dearer model.
"""

import re
from dataclasses import dataclass

from replicas.engine import Finish
from router.chain.gate import Held, Prefix

FEWEST_SCORES = 8
"""A mean of fewer tokens says little, unless there are no more."""

REFUSAL_CHARACTERS = 240
"""A refusal says so at its beginning; later on the same words are mostly quoted."""

LONGEST_LOOP = 120
LOOP_TIMES = 4
LOOP_CHARACTERS = 80

_REFUSAL = re.compile(
    r"\b(?:i am|i'm|im) (?:\w+ ){0,2}(?:sorry|afraid)\b[^.!?]{0,60}\b(?:can ?not|can't|cant|unable|won't|not able)\b"
    r"|\b(?:as|being|i am|i'm) an? (?:ai|artificial intelligence|(?:large )?language model|ai (?:\w+ )?assistant)\b"
    r"|\bi (?:can ?not|can't|cant|won't|will not|must decline|am unable to|am not able to|'m unable to|'m not able to)"
    r" (?:\w+ )?(?:help|assist|answer|comply|provide|fulfill|fulfil|do that|do this|engage|generate|create|discuss)\b"
    r"|\bi (?:do not|don't) (?:know|have (?:access|enough information|the ability|information))\b"
)


@dataclass(frozen=True, slots=True)
class Sureness:
    """The mean log-probability (natural) of its tokens is at least `least_mean`, and that of each at least `least`;
    None is no bar. Tokens without scores say nothing."""

    least_mean: float | None = None
    least: float | None = None
    name: str = "logprob"

    def waits(self, held: Held) -> bool:
        """Never."""
        return False

    def fault(self, prefix: Prefix) -> str:
        """Too low a mean, or one token that is too unlikely."""
        told = [score.chosen.logprob for score in prefix.scores]
        final = prefix.final
        worst = min(told, default=None if final is None else final.min_logprob)
        if self.least is not None and worst is not None and worst < self.least:
            return f"a token's log-probability is {worst:.2f}, below {self.least:g}"
        if not told:
            mean = None if final is None else final.mean_logprob
        else:
            mean = sum(told) / len(told) if len(told) >= FEWEST_SCORES or prefix.is_whole else None
        if self.least_mean is None or mean is None or mean >= self.least_mean:
            return ""
        return f"its mean log-probability is {mean:.2f}, below {self.least_mean:g}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """It does not begin by declining, in English; an answer with calls does what it was asked to."""

    name: str = "refusal"

    def waits(self, held: Held) -> bool:
        """Never."""
        return False

    def fault(self, prefix: Prefix) -> str:
        """Words of refusal."""
        beginning = prefix.text[:REFUSAL_CHARACTERS].lower().replace("\u2019", "'")
        return "it declines to answer" if not prefix.calls and _REFUSAL.search(beginning) else ""


@dataclass(frozen=True, slots=True)
class Repetition:
    """It does not end in a loop: the same LOOP_TIMES times in a row. Rules and blanks (no letter or digit) may."""

    name: str = "repetition"

    def waits(self, held: Held) -> bool:
        """Never."""
        return False

    def fault(self, prefix: Prefix) -> str:
        """A loop."""
        return "it says the same again and again" if is_looping(prefix.text) else ""


@dataclass(frozen=True, slots=True)
class Length:
    """A whole answer has at least `least_characters` beside blanks, or calls; and the context was not too small."""

    least_characters: int = 1
    name: str = "length"

    def waits(self, held: Held) -> bool:
        """Never."""
        return False

    def fault(self, prefix: Prefix) -> str:
        """Too short, or cut off."""
        if prefix.final is None or prefix.calls:
            return ""
        if prefix.final.finish is Finish.CONTEXT:
            return "the context was full before its end"
        size = len(prefix.text.strip())
        return f"it has {size} characters, less than {self.least_characters}" if size < self.least_characters else ""


def is_looping(text: str) -> bool:
    """Whether `text` ends in copies of one piece of at most LONGEST_LOOP characters: at least LOOP_TIMES of them, and
    LOOP_CHARACTERS in all."""
    tail = text.rstrip()
    for period in range(1, min(LONGEST_LOOP, len(tail) // LOOP_TIMES) + 1):
        needed = max(period * LOOP_TIMES, LOOP_CHARACTERS)
        end = tail[-needed:]
        is_copied = len(end) == needed and end[period:] == end[:-period]
        if is_copied and any(letter.isalnum() for letter in end[:period]):
            return True
    return False
