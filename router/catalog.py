"""Which models there are, by every name that a caller may use, and how /v1/models lists them.

One JSON serves both SDKs: the members that OpenAI's page and model have beside those that Anthropic's have. Claude
clients drop every id that does not begin with `claude`, so each model is listed once more as `claude-local-<id>`. A
model with a LoRA adapter is an entry of its own, `<id>:<adapter>`, with the model as its `parent`, as in vLLM.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeAlias

from replicas.errors import NotFound, SettingsError
from router import sse

CLAUDE_PREFIX = "claude-local-"
NAME_CHARS = 120
"""Of an unknown name that much comes back in the error."""

NAMES_IN_HINT = 20
Adapters: TypeAlias = Mapping[str, Collection[str]]
"""The LoRA adapters that are loaded, by the id of their model. Which they are changes while the service runs."""
NONE: Adapters = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that can be asked. `created_at` knows its time zone; `aliases` resolve but are not listed. `owner` is the
    cloud whose it is; of one whose context nobody knows, nothing is told."""

    id: str
    display_name: str
    created_at: datetime
    context_tokens: int | None
    aliases: tuple[str, ...] = ()
    owner: str = "shoal"


class Catalog:
    """The models of this cluster. `default` is the id, or an alias, of the one that answers if none is named. Models of
    `clouds` are listed too, but resolve to nothing here: whoever routes knows them."""

    def __init__(self, cards: Sequence[ModelCard], default: str, clouds: Sequence[ModelCard] = ()) -> None:
        """Raises SettingsError when two models share a name, or none is called `default`."""
        self.cards = tuple(cards)
        self._by_name = _by_name(self.cards)
        self._clouds = {name: card for card in reversed(clouds) for name in _cloud_names(card)}
        self._listed_clouds = {name: card for card in clouds for name in _listed_cloud_names(card)}
        if default not in self._by_name:
            raise SettingsError(f"the default model {default!r} is not among the models: {', '.join(self._by_name)}")
        self.default = self._by_name[default]

    def resolve(self, name: str | None) -> ModelCard:
        """The model called `name`; the default when there is no name. Raises NotFound with the nearest name."""
        if not name:
            return self.default
        card = self._by_name.get(name)
        if card is None:
            raise NotFound("model", name[:NAME_CHARS], self._hint(name[:NAME_CHARS]))
        return card

    def list_body(self, adapters: Adapters = NONE) -> bytes:
        """The body of GET /v1/models: one page with every model, and with every adapter of one."""
        listed = [
            (name, card, adapter)
            for card in self.cards
            for adapter in (None, *adapters.get(card.id, ()))
            for name in _listed_names(card)
        ]
        entries = [_entry(name, card, adapter) for name, card, adapter in listed]
        entries += [_entry(name, card, None) for name, card in self._listed_clouds.items() if name not in self._by_name]
        page: dict[str, sse.Json] = {
            "object": "list",
            "data": [*entries],
            "has_more": False,
            "first_id": entries[0]["id"],
            "last_id": entries[-1]["id"],
        }
        return sse.encoded(page)

    def one_body(self, name: str, adapters: Adapters = NONE) -> bytes:
        """The body of GET /v1/models/{name}, under the name that was asked for. Raises NotFound."""
        if name not in self._by_name and (cloud := self._clouds.get(name)) is not None:
            return sse.encoded(_entry(name, cloud, None))
        base, adapter = self.split(name)
        card = self.resolve(base)
        loaded = adapters.get(card.id, ())
        if adapter is not None and adapter not in loaded:
            raise NotFound("adapter", adapter[:NAME_CHARS], f"loaded: {', '.join(loaded) or 'none'}")
        return sse.encoded(_entry(base, card, adapter))

    def split(self, name: str) -> tuple[str, str | None]:
        """Model and adapter of `MODEL:ADAPTER`; every other name is a model's, whether there is one or not."""
        base, _, adapter = name.rpartition(":")
        return (base, adapter) if name not in self._by_name and base in self._by_name and adapter else (name, None)

    def _hint(self, name: str) -> str:
        near = difflib.get_close_matches(name, [*self._by_name, *self._clouds], n=1, cutoff=0.5)
        known = dict.fromkeys(card.id for card in (*self.cards, *self._clouds.values()))
        there_is = "there is " + ", ".join(list(known)[:NAMES_IN_HINT])
        return f"did you mean {near[0]!r}? {there_is}" if near else there_is


def _by_name(cards: Sequence[ModelCard]) -> dict[str, ModelCard]:
    found: dict[str, ModelCard] = {}
    for card in cards:
        for name in dict.fromkeys((*_listed_names(card), *card.aliases)):
            if name in found:
                raise SettingsError(f"two models are called {name!r}: {found[name].id} and {card.id}")
            found[name] = card
    return found


def _listed_names(card: ModelCard) -> tuple[str, ...]:
    return (card.id,) if card.id.startswith("claude") else (card.id, CLAUDE_PREFIX + card.id)


def _cloud_names(card: ModelCard) -> tuple[str, ...]:
    return card.id, *card.aliases, card.id.partition("/")[2]


def _listed_cloud_names(card: ModelCard) -> tuple[str, ...]:
    """Its name, and the part behind the cloud's where Claude clients will show that."""
    short = card.id.partition("/")[2]
    return (card.id, short) if short.startswith("claude") else (card.id,)


def _entry(name: str, card: ModelCard, adapter: str | None) -> dict[str, sse.Json]:
    created = card.created_at.astimezone(UTC)
    limits = ("max_input_tokens", "max_tokens", "max_model_len")
    return {
        "id": name if adapter is None else f"{name}:{adapter}",
        "object": "model",
        "created": int(created.timestamp()),
        "owned_by": card.owner,
        "type": "model",
        "display_name": card.display_name if adapter is None else f"{card.display_name} with {adapter}",
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        **({} if card.context_tokens is None else dict.fromkeys(limits, card.context_tokens)),
        **({} if adapter is None else {"parent": name}),
    }
