"""What bodies of this dialect can ask for that no model here can do.

Each such field has values that ask for nothing; with any other the call is `Unsupported` here, and a cloud of the same
dialect, which gets the body as it is, may do it. The names are OpenAI's and vLLM's.
"""

from collections.abc import Mapping
from typing import TypeAlias

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from replicas.errors import Unsupported
from router.body import Flag, Wire

Limits: TypeAlias = Mapping[str, tuple[tuple[object, ...], str]]
"""By field: the values that ask for nothing beside null, and what a caller can do instead."""

_OUT = "leave it out"
_LIMITS: Limits = {
    "use_beam_search": ((False,), _OUT),
    "length_penalty": ((1.0,), "it belongs to beam search, which there is none of"),
    "skip_special_tokens": ((True,), "control tokens are never told as text"),
    "spaces_between_special_tokens": ((True,), "control tokens are never told as text"),
    "truncate_prompt_tokens": ((), "send a shorter prompt"),
    "prompt_logprobs": ((), "there are log-probabilities of answers alone"),
    "allowed_token_ids": (([],), "logit_bias or a grammar can say it"),
    "bad_words": (([],), "logit_bias can say it"),
    "logits_processors": (([],), _OUT),
    "return_tokens_as_token_ids": ((False,), _OUT),
    "return_token_ids": ((False,), _OUT),
    "guided_whitespace_pattern": ((), "a schema's answer has white space as it likes"),
    "cache_salt": ((), _OUT),
    "kv_transfer_params": (({},), _OUT),
    "vllm_xargs": (({},), _OUT),
    "priority": ((0,), "over HTTP it is the header x-shoal-priority"),
}
_CHAT: Limits = {
    "echo": ((False,), "/v1/completions can repeat its prompt"),
    "add_special_tokens": ((False,), "the chat template has them all"),
    "documents": (([],), "put their text into a message"),
    "chat_template": ((), "the model's own is used"),
    "chat_template_kwargs": (({},), "the model's own template is used as it is"),
    "mm_processor_kwargs": (({},), _OUT),
    "modalities": ((["text"],), "local models write text alone"),
    "audio": ((), "local models write text alone"),
    "web_search_options": ((), "local models search nothing"),
    "store": ((False,), "nothing is stored here"),
}
_COMPLETION: Limits = {
    "suffix": (("",), "local models go on from the end of a prompt alone"),
    "add_special_tokens": ((True,), _OUT),
    "prompt_embeds": ((), _OUT),
}


class LimitFields(Wire):
    """The fields that both kinds of completions have. Documented are the values that ask for nothing."""

    use_beam_search: object = None
    length_penalty: object = None
    skip_special_tokens: object = None
    spaces_between_special_tokens: object = None
    truncate_prompt_tokens: object = None
    prompt_logprobs: object = None
    allowed_token_ids: object = None
    bad_words: object = None
    logits_processors: object = None
    return_tokens_as_token_ids: object = None
    return_token_ids: object = None
    guided_whitespace_pattern: object = None
    cache_salt: object = None
    kv_transfer_params: object = None
    vllm_xargs: object = None
    priority: object = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        for name, (nothing, _) in {**_LIMITS, **_CHAT, **_COMPLETION}.items():
            if name in schema["properties"]:
                schema["properties"][name] = {"enum": [None, *nothing]}
        return schema

    def beyond(self) -> Unsupported | None:
        """The first field that asks for something."""
        return _first(self, _LIMITS)


class ChatLimitFields(LimitFields):
    """Those of chat completions."""

    echo: object = None
    add_special_tokens: object = None
    documents: object = None
    chat_template: object = None
    chat_template_kwargs: object = None
    mm_processor_kwargs: object = None
    modalities: object = None
    audio: object = None
    web_search_options: object = None
    store: object = None
    add_generation_prompt: Flag | None = None
    continue_final_message: Flag | None = None

    def beyond(self) -> Unsupported | None:
        """The first field that asks for something."""
        return super().beyond() or _first(self, _CHAT)

    def misplaced(self, is_continued: bool) -> Unsupported | None:
        """Where the answer is wanted elsewhere than it goes: behind a last turn of the assistant's, if there is one."""
        begins, continues = self.add_generation_prompt, self.continue_final_message
        if continues is True and (begins is not False or not is_continued):
            words = "needs `add_generation_prompt: false`, and a last message of the assistant's"
            return Unsupported(f"continue_final_message: {words}", "continue_final_message")
        if begins is False and continues is not True:
            words = "an answer has to begin somewhere; false goes with `continue_final_message: true`"
            return Unsupported(f"add_generation_prompt: {words}", "add_generation_prompt")
        if is_continued and (begins is True or continues is False):
            words = "a last message of the assistant's is always continued; end with a user's"
            return Unsupported(f"messages: {words}", "messages")
        return None


class CompletionLimitFields(LimitFields):
    """Those of completions."""

    suffix: object = None
    add_special_tokens: object = None
    prompt_embeds: object = None

    def beyond(self) -> Unsupported | None:
        """The first field that asks for something."""
        return super().beyond() or _first(self, _COMPLETION)


def _first(body: Wire, limits: Limits) -> Unsupported | None:
    for name, (nothing, instead) in limits.items():
        value: object = getattr(body, name)
        if value is not None and value not in nothing:
            return Unsupported(f"{name}: no model here can do this; {instead}", name)
    return None
