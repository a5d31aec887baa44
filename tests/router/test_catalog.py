"""The catalogue."""

import json
from datetime import UTC, datetime

import pytest

from replicas.errors import NotFound, SettingsError
from router.catalog import Catalog, ModelCard
from tests.router.exchanges import CATALOG


def card(name: str, *aliases: str) -> ModelCard:
    return ModelCard(name, name, datetime(2026, 1, 1, tzinfo=UTC), 100, aliases)


@pytest.mark.parametrize("name", ["smol", "tiny", "claude-local-smol", None, ""])
def test_a_model_answers_to_its_id_its_aliases_and_to_no_name(name: str | None) -> None:
    assert CATALOG.resolve(name).id == "smol"


def test_an_unknown_model_is_not_found_and_the_nearest_is_named() -> None:
    with pytest.raises(NotFound, match="did you mean 'smol'") as caught:
        CATALOG.resolve("smoll")
    assert "there is smol, claude-shaped" in str(caught.value)


def test_an_unknown_name_like_no_other_gets_what_there_is() -> None:
    with pytest.raises(NotFound, match="does not exist: there is smol"):
        CATALOG.resolve("gpt-zzzzzz")


def test_the_models_of_clouds_are_named_too() -> None:
    far = card("acme/opus", "mini")
    with pytest.raises(NotFound, match=r"did you mean 'mini'.*there is smol, claude-shaped, acme/opus"):
        Catalog(CATALOG.cards, "smol", [far]).resolve("minii")


def test_an_endless_unknown_name_does_not_come_back_in_full() -> None:
    with pytest.raises(NotFound) as caught:
        CATALOG.resolve("x" * 100_000)
    assert len(str(caught.value)) < 1000


def test_every_listed_name_resolves_and_one_of_each_model_begins_with_claude() -> None:
    names = [entry["id"] for entry in json.loads(CATALOG.list_body())["data"]]
    assert {CATALOG.resolve(name).id for name in names} == {"smol", "claude-shaped"}
    assert {CATALOG.resolve(name).id for name in names if name.startswith("claude")} == {"smol", "claude-shaped"}


def test_one_model_is_told_under_the_name_asked_for() -> None:
    assert json.loads(CATALOG.one_body("claude-local-smol"))["id"] == "claude-local-smol"
    with pytest.raises(NotFound):
        CATALOG.one_body("nothing")


def test_every_adapter_is_listed_after_its_model_and_shown_under_each_name_of_it() -> None:
    adapters = {"smol": ("poet", "tools")}
    listed = {entry["id"]: entry for entry in json.loads(CATALOG.list_body(adapters))["data"]}
    assert list(listed)[2:6] == ["smol:poet", "claude-local-smol:poet", "smol:tools", "claude-local-smol:tools"]
    assert (listed["smol:poet"]["parent"], "parent" in listed["smol"]) == ("smol", False)
    for name in ("smol:tools", "tiny:tools", "claude-local-smol:tools"):
        assert json.loads(CATALOG.one_body(name, adapters))["id"] == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smol:none", "adapter 'none' does not exist: loaded: poet"),
        ("claude-shaped:poet", "loaded: none"),
        ("smol:", "model 'smol:' does not exist"),
        ("ghost:poet", "model 'ghost:poet' does not exist"),
    ],
)
def test_an_adapter_that_is_not_loaded_is_not_shown(name: str, words: str) -> None:
    with pytest.raises(NotFound, match=words):
        CATALOG.one_body(name, {"smol": ("poet",)})


@pytest.mark.parametrize(
    "cards", [[card("a"), card("a")], [card("a", "b"), card("b")], [card("a"), card("b", "claude-local-a")]]
)
def test_two_models_with_one_name_are_a_mistake_in_the_settings(cards: list[ModelCard]) -> None:
    with pytest.raises(SettingsError, match="two models are called"):
        Catalog(cards, "a")


def test_a_model_may_repeat_its_own_name() -> None:
    assert Catalog([card("a", "a", "b", "b")], "b").default.id == "a"


@pytest.mark.parametrize("cards", [[], [card("a")]])
def test_the_default_must_be_there(cards: list[ModelCard]) -> None:
    with pytest.raises(SettingsError, match="default model 'x'"):
        Catalog(cards, "x")
