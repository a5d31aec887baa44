"""The source of a call that came in no dialect, such as a swarm's: a plain conversation as a chat completions body."""

import json

from replicas.errors import InvalidRequest
from router.call import Call
from router.translate.source import Source


def source_of(call: Call) -> Source:
    """What of `call` a cloud would be sent. Raises InvalidRequest for more than a conversation."""
    if call.tools or call.grammar is not None or any(one.tool_calls or one.role == "tool" for one in call.messages):
        raise InvalidRequest("only a plain conversation can be put to a cloud without a body in its words")
    sampling = call.sampling
    body: dict[str, object] = {
        "messages": [{"role": message.role, "content": message.content} for message in call.messages],
        "max_completion_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": call.is_stream,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    return Source("openai", json.dumps(body).encode("ascii"))
