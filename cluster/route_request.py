"""Requests that never came over HTTP, as calls: a prompt, or the JSON body of either protocol."""

from collections.abc import Mapping

from replicas.engine import Message, Sampling
from replicas.errors import InvalidRequest
from router.anthropic.request import parse_messages
from router.body import member, parsed_json
from router.call import Call
from router.openai.request import DEFAULT_MAX_TOKENS, parse_chat

CALL_ID = "explained"


def call_of_prompt(prompt: str) -> Call:
    """What a user says, and nothing else."""
    return Call(CALL_ID, None, (Message("user", prompt),), Sampling(DEFAULT_MAX_TOKENS))


def call_of_body(body: bytes, headers: Mapping[str, str], source: str) -> Call:
    """The call that `body` is. One that says no `max_tokens`, or has tools by OpenAI's shape, is a chat completion.
    Raises InvalidRequest in the words of `source`."""
    try:
        value = parsed_json(body)
    except ValueError as error:
        raise InvalidRequest(f"{source} is not JSON: {error}") from error
    tools = member(value, "tools")
    is_chat = member(value, "max_tokens") is None or (
        isinstance(tools, list) and any(member(tool, "function") is not None for tool in tools)
    )
    return parse_chat(body, headers, CALL_ID)[0] if is_chat else parse_messages(body, headers, CALL_ID)
