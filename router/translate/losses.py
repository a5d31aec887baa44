"""What a caller asks that a cloud's protocol has no word for, and that the answer would lack: refused, not dropped.

A seed is dropped: both protocols call it a wish. So is `top_k` on the way to OpenAI's, which has no such thing.
"""

from collections.abc import Mapping

from replicas.cloud.release import CloudKind
from replicas.errors import InvalidRequest

NOTHING: dict[str, tuple[object, ...]] = {
    "min_p": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "logprobs": (False,),
}
"""By name, the values beside null that ask for nothing."""

CHAT = ("frequency_penalty", "presence_penalty", "logit_bias", "logprobs")
"""Those that chat completions have a word for."""


def refuse_losses(asked: Mapping[str, object], kind: CloudKind) -> None:
    """Raises InvalidRequest for the first member of `asked` that a cloud of `kind` cannot be told."""
    for name, nothing in NOTHING.items():
        value = asked.get(name)
        is_told = kind == "openai" and name in CHAT
        if value is not None and value not in nothing and not is_told:
            raise InvalidRequest(f"{name}: this cloud's protocol has no word for it; leave it out", name)
