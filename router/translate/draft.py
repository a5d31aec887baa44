"""From what a caller sent to what a cloud would get: the draft that the privacy guard reads and a client sends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from replicas.cloud.fields import fields
from replicas.cloud.release import CloudKind, Draft
from router.body import FormFields, SamplingFields, parsed_json
from router.translate.chat import LimitKey, chat_body
from router.translate.form import wanted_form
from router.translate.messages import messages_body
from router.translate.source import Source

_OURS = (set(FormFields.model_fields) | set(SamplingFields.model_fields)) - {
    *("temperature", "top_p", "top_k", "output_config", "output_format")
}
"""Members that our Messages dialect takes beyond Anthropic's, who refuses a body with any it does not know."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a draft is for. `model` is the cloud's name of the model; `limit_key` is what the model's service calls the
    most tokens that it may write: the old name where the new one is unknown."""

    kind: CloudKind
    model: str
    limit_key: LimitKey = "max_completion_tokens"


def drafted(source: Source, target: Target, id_: str, deadline_s: float) -> Draft:
    """The draft of `source` for `target`. Raises InvalidRequest for what only a local model can do."""
    asked = fields(parsed_json(source.body))
    body = _translated(asked, source.dialect, target)
    headers = source.headers if source.dialect == target.kind else ()
    return Draft(id_, target.kind, json.dumps(body, separators=(",", ":")).encode("ascii"), headers, deadline_s)


def _translated(asked: Mapping[str, object], dialect: CloudKind, target: Target) -> Mapping[str, object]:
    match dialect, target.kind:
        case "anthropic", "anthropic":
            return _anthropic(asked, target.model)
        case "openai", "openai":
            return _openai(asked, target.model)
        case "anthropic", _:
            return chat_body(asked, target.model, target.limit_key)
        case _:
            return messages_body(asked, target.model)


def _anthropic(asked: Mapping[str, object], model: str) -> Mapping[str, object]:
    kept = {name: value for name, value in asked.items() if name not in _OURS} | {"model": model}
    form = wanted_form(asked, "anthropic")
    if form is None or form.is_native:
        return kept
    return kept | {"output_config": {**fields(asked.get("output_config")), "format": form.messages_format()}}


def _openai(asked: Mapping[str, object], model: str) -> Mapping[str, object]:
    """The usage of a stream is asked for in any case: what it cost has to be known."""
    kept = {**asked, "model": model}
    if asked.get("stream") is True:
        kept["stream_options"] = {**fields(asked.get("stream_options")), "include_usage": True}
    return kept
