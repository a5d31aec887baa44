"""Another model's word on an answer: how it is asked, and how its word is read. Here it is only words.

The judge sees what the user said last and the answer as far as it is held back, both cut. Its call has the id and the
origin of the request that it judges, so it is as private as that, and paid for by the same.
"""

import json
import re
from dataclasses import dataclass

from replicas.engine import Message, Sampling
from replicas.errors import EngineFailed
from router.call import Call
from router.chain.gate import JUDGE_WAIT_S, Prefix

PROMPT = (
    "You check answers. You get a request, and an answer to it or the beginning of one. Say yes if the answer is right "
    "and does what was asked as far as it goes, else no. Reply with that one word."
)
REQUEST_CHARS = 6_000
"""Of what was asked, its end; a judge with a small context must be able to read it."""

ANSWER_CHARS = 4_000
VERDICT_TOKENS = 8
_VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Judging:
    """Which model judges (a candidate's name), told what to do by `prompt`, and for how long it is waited for."""

    model: str
    prompt: str = PROMPT
    wait_s: float = JUDGE_WAIT_S


def question(judging: Judging, call: Call, prefix: Prefix) -> Call:
    """What the judge is asked about an answer to `call` that begins so."""
    asked = next((message.content for message in reversed(call.messages) if message.role == "user"), "")
    calls = "".join(f"\ncalls {one.name} with {one.arguments}" for one in prefix.calls)
    told = {
        "request": asked[-REQUEST_CHARS:],
        "answer" if prefix.is_whole else "beginning of the answer": (prefix.text + calls)[:ANSWER_CHARS],
    }
    return Call(
        id=call.id,
        model=judging.model,
        messages=(Message("system", judging.prompt), Message("user", json.dumps(told, ensure_ascii=False, indent=1))),
        sampling=Sampling(VERDICT_TOKENS),
        priority=call.priority,
        deadline_s=judging.wait_s,
        origin=call.origin,
    )


def approves(verdict: str) -> bool:
    """Whether that is a yes. Raises EngineFailed for what is neither a yes nor a no."""
    found = _VERDICT.match(verdict)
    if found is None:
        raise EngineFailed("the judge said neither yes nor no")
    return found[1].lower() == "yes"
