"""From what a caller sent to what a cloud would get: the draft that the privacy guard reads and a client sends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from replicas.cloud.fields import fields
from replicas.cloud.release import CloudKind, Draft
from replicas.errors import InvalidRequest
from router.body import FormFields, SamplingFields, parsed_json
from router.translate.bounds import limited, refuse_dearer
from router.translate.chat import LimitKey, chat_body
from router.translate.form import wanted_form
from router.translate.losses import refuse_losses
from router.translate.messages import messages_body
from router.translate.source import COMPLETIONS, Source

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


def drafted(source: Source, target: Target, id_: str, deadline_s: float, limit: int | None = None) -> Draft:
    """The draft of `source` for `target`, of whose answer no more than `limit` tokens are paid for; None: nobody
    reckons them. Raises InvalidRequest for what only a local model can do, or only who pays without a limit."""
    asked = fields(parsed_json(source.body))
    is_bare = source.asking == COMPLETIONS
    body = _bare(asked, target) if is_bare else _translated(asked, source.dialect, target)
    headers = source.headers if source.dialect == target.kind else ()
    if limit is not None:
        refuse_dearer(body, headers)
        is_old = is_bare or target.kind == "anthropic"
        body = limited(body, limit, "max_tokens" if is_old else target.limit_key, is_only=is_old)
    raw = json.dumps(body, separators=(",", ":")).encode("ascii")
    return Draft(id_, target.kind, raw, headers, deadline_s, source.asking)


def _bare(asked: Mapping[str, object], target: Target) -> Mapping[str, object]:
    """A text to go on from. What would be repeated is known here; token ids are another model's, and nobody who guards
    what leaves can read them."""
    if target.kind != "openai":
        raise InvalidRequest("this cloud answers conversations alone; ask /v1/chat/completions", "prompt")
    if not isinstance(prompt := asked.get("prompt"), str) and not _is_one_text(prompt):
        raise InvalidRequest("prompt: token ids stay with the local models; send text to a cloud", "prompt")
    return _openai({name: value for name, value in asked.items() if name != "echo"}, target.model)


def _is_one_text(prompt: object) -> bool:
    return isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str)


def _translated(asked: Mapping[str, object], dialect: CloudKind, target: Target) -> Mapping[str, object]:
    if dialect == target.kind == "openai":
        return _openai(asked, target.model)
    refuse_losses(asked, target.kind)
    if dialect == "openai":
        return messages_body(asked, target.model)
    if target.kind == "anthropic":
        return _anthropic(asked, target.model)
    return chat_body(asked, target.model, target.limit_key)


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
