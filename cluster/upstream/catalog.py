"""The models of the script as each protocol lists them, and what is checked before a model is asked."""

from typing import NoReturn

from cluster.upstream.asked import Asked, Dialect, Json, Problem
from cluster.upstream.request import Request
from cluster.upstream.script import ModelCard, Script
from cluster.upstream.tokens import prompt_tokens

_SINCE = "2026-01-01T00:00:00Z"
_SINCE_S = 1_767_225_600


def check_key(request: Request, dialect: Dialect, script: Script) -> None:
    """Raises Problem 401 without a key, or with one that the script does not know."""
    bearer = request.headers.get("authorization", "").partition(" ")[2]
    key = bearer or (request.headers.get("x-api-key", "") if dialect is Dialect.ANTHROPIC else "")
    if not key:
        missing = "x-api-key header is required" if dialect is Dialect.ANTHROPIC else "You didn't provide an API key."
        raise Problem(401, missing)
    if script.keys and key not in script.keys:
        raise Problem(401, "invalid x-api-key" if dialect is Dialect.ANTHROPIC else "Incorrect API key provided.")


def check_headers(request: Request, dialect: Dialect) -> None:
    """Raises Problem for a version or a content type that the service would refuse."""
    if dialect is Dialect.ANTHROPIC and "anthropic-version" not in request.headers:
        raise Problem(400, "anthropic-version: header is required")
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Problem(400, "content-type: must be application/json")


def card(script: Script, asked: Asked, dialect: Dialect) -> ModelCard:
    """The model that is asked for. Raises Problem 404."""
    for known in script.models:
        if known.id == asked.model:
            return known
    if not script.models:
        return ModelCard(id=asked.model)
    return _unknown(asked.model, dialect)


def check_context(asked: Asked, model: ModelCard) -> None:
    """Raises Problem 400 for a prompt past the context, in the words that clients parse."""
    tokens, limit = prompt_tokens(asked, model), model.context_tokens
    if tokens <= limit:
        return
    if asked.dialect is Dialect.ANTHROPIC:
        raise Problem(400, f"prompt is too long: {tokens} tokens > {limit} maximum")
    words = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} tokens."
    )
    raise Problem(400, words, "context", "messages")


def models(request: Request, dialect: Dialect, script: Script) -> Json:
    """The list of models, or one of them. Raises Problem 404."""
    path = request.path.removeprefix("/api")
    entries = {model.id: _LISTED[dialect](model) for model in script.models}
    if path == "/v1/models":
        tree: Json = {"data": list(entries.values())}
        if dialect is Dialect.ANTHROPIC:
            ids = [*entries] or [""]
            return tree | {"has_more": False, "first_id": ids[0] or None, "last_id": ids[-1] or None}
        return tree | {"object": "list"}
    name = path.removeprefix("/v1/models/")
    if name == path:
        raise Problem(404, f"Not Found: GET {request.path}")
    return entries.get(name) or _unknown(name, dialect)


def _unknown(name: str, dialect: Dialect) -> NoReturn:
    words = f"model: {name}" if dialect is Dialect.ANTHROPIC else f"The model `{name}` does not exist"
    raise Problem(404, words, param="model")


def _anthropic(model: ModelCard) -> Json:
    name = model.display_name or model.id
    return {"type": "model", "id": model.id, "display_name": name, "created_at": _SINCE, "lifecycle": "active"}


def _openai(model: ModelCard) -> Json:
    return {"id": model.id, "object": "model", "created": _SINCE_S, "owned_by": "upstream"}


def _openrouter(model: ModelCard) -> Json:
    price = model.price
    pricing = {"prompt": price.input, "completion": price.output, "input_cache_read": price.cache_read}
    return {
        "id": model.id,
        "name": model.display_name or model.id,
        "created": _SINCE_S,
        "context_length": model.context_tokens,
        "pricing": {name: f"{usd / 1_000_000:.10f}".rstrip("0").rstrip(".") for name, usd in pricing.items()},
    }


_LISTED = {Dialect.ANTHROPIC: _anthropic, Dialect.OPENAI: _openai, Dialect.OPENROUTER: _openrouter}
