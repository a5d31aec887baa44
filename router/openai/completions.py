"""A body of the older completions dialect: one call for each prompt and choice, to go on from bare text.

There is no conversation: the prompt is the caller's to the last character, control tokens included. Token ids mean
something to one model alone, and nobody but that can read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from replicas.engine import Message
from replicas.errors import InvalidRequest
from router.answer_id import numbered_id
from router.body import Count, Flag, FormFields, SamplingFields, Stops, read, session_id
from router.call import Call, RawPrompt
from router.openai.choices import MOST, several
from router.openai.limits import CompletionLimitFields
from router.openai.request import StreamOptions, Wording, wants_usage
from router.origin import origin_of
from router.shapes import AnyText, Prompts
from router.structured import openai_grammar
from router.translate.source import COMPLETIONS, Source, changed
from router.urgency import priority_of

DEFAULT_MAX_TOKENS = 16
"""The real API's."""


@dataclass(frozen=True, slots=True)
class Completions:
    """A request as calls, in the order of the choices, and the text that is said again before each of them."""

    calls: tuple[Call, ...]
    wording: Wording
    echoed: tuple[str, ...]


class CompletionsBody(FormFields, CompletionLimitFields, SamplingFields):
    """The body of /v1/completions."""

    model: str | None = None
    prompt: Prompts
    max_tokens: Count | None = None
    stop: Stops | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Count, Field(le=MOST)] | None = None
    best_of: Count | None = None
    echo: Flag | None = None
    logprobs: Annotated[int, Field(strict=True, ge=0, le=20)] | None = None
    session_id: AnyText = None
    prompt_cache_key: AnyText = None
    service_tier: AnyText = None

    def prompts(self) -> tuple[RawPrompt, ...]:
        """A text or token ids, or a list of either. Raises InvalidRequest."""
        value = self.prompt
        if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], int)):
            return (_prompt(value, "prompt"),)
        if not isinstance(value, list) or not 1 <= len(value) * (self.n or 1) <= MOST:
            words = f"Input should be a string, token ids, or a list of either, for at most {MOST} answers in all"
            raise InvalidRequest(f"prompt: {words}", "prompt")
        return tuple(_prompt(item, f"prompt[{i}]") for i, item in enumerate(value))

    def check(self, prompts: tuple[RawPrompt, ...]) -> None:
        """Raises InvalidRequest for what goes with nothing here."""
        if self.best_of not in (None, self.n or 1):
            raise InvalidRequest("best_of: all answers that are made are told; ask for as many as `n`", "best_of")
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("echo: a prompt has no log-probabilities here; leave out one of the two", "echo")
        if self.echo and not all(isinstance(prompt, str) for prompt in prompts):
            raise InvalidRequest("echo: only a prompt that is text can be repeated", "echo")


def parse_completions(body: bytes, headers: Mapping[str, str], call_id: str) -> Completions:
    """Read a request (header names in lower case). Raises InvalidRequest."""
    request = read(CompletionsBody, body)
    prompts = request.prompts()
    request.check(prompts)
    limit = request.max_tokens or max(DEFAULT_MAX_TOKENS, request.min_tokens or 0)
    base = Call(
        id=call_id,
        model=request.model or None,
        messages=(),
        sampling=request.sampling(limit, request.stop),
        is_stream=bool(request.stream),
        priority=priority_of(headers, request.service_tier),
        session_id=session_id(headers.get("x-session-id"), request.session_id, request.prompt_cache_key),
        grammar=openai_grammar(request.form),
        top_logprobs=request.logprobs,
        origin=origin_of(headers),
        source=Source.of("openai", body, headers, COMPLETIONS),
        unsupported=request.beyond(),
    )
    count = request.n or 1
    asked = [_asking(base, prompt, is_alone=len(prompts) == 1) for prompt in prompts]
    calls = [one for call in asked for one in several(call, count)]
    numbered = tuple(replace(call, id=numbered_id(call_id, number)) for number, call in enumerate(calls))
    echoed = tuple(_text(call.raw) if request.echo else "" for call in numbered)
    return Completions(numbered, Wording(wants_usage(request.stream_options), choices=count), echoed)


def _asking(base: Call, prompt: RawPrompt, *, is_alone: bool) -> Call:
    """The call for one prompt. Its text is a message too, for whoever looks at what is asked."""
    source = base.source
    if not is_alone and source is not None:
        source = changed(source, prompt=prompt)
    return replace(base, messages=(Message("user", _text(prompt)),), raw=prompt, source=source)


def _text(prompt: RawPrompt | None) -> str:
    return prompt if isinstance(prompt, str) else ""


def _prompt(value: object, where: str) -> RawPrompt:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(type(i) is int for i in value):
        return tuple(value)  # the engine knows its vocabulary
    raise InvalidRequest(f"{where}: Input should be a string or a list of token ids, and not empty", where)
