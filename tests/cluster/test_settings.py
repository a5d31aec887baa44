"""Settings: one tree, read once; what is wrong in it is told by its path, with the nearest right key."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.cli import effective_settings
from cluster.settings import Settings, load_settings
from replicas.errors import SettingsError


def refusal(tmp_path: Path, text: str) -> str:
    """What is said of a file that holds `text`."""
    file = tmp_path / "shoal.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("htp: {}", "htp", "http"),
        ("http: {prot: 1}", "http.prot", "port"),
        ("models: [{name: a, engin: {}}]", "models.0.engin", "engine"),
        ("models: [{name: a, engine: {slotz: 4}}]", "models.0.engine.slotz", "slots"),
        ("models: [{name: a, replicas: {maxx: 4}}]", "models.0.replicas.maxx", "max"),
        ("ray: {adress: x}", "ray.adress", "address"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(tmp_path: Path, text: str, key: str, nearest: str) -> None:
    assert f"unknown key {key!r}; did you mean {nearest!r}?" in refusal(tmp_path, text)


def test_a_key_that_is_near_to_none_is_told_with_all_that_are_known(tmp_path: Path) -> None:
    assert "unknown key 'http.qqq'; known here: allowed_hosts, allowed_origins, body_limit_bytes" in refusal(
        tmp_path, "http: {qqq: 1}"
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("http: {port: eight}", "http.port"),
        ("http: {port: 70000}", "http.port"),
        ("http: [1]", "http"),
        ("models: 3", "models"),
        ("models: [{}]", "models.0.name"),
        ("models: [{name: a, engine: {kind: magic}}]", "models.0.engine.kind"),
        ("models: [{name: a, replicas: {min: 3, max: 2}}]", "models.0.replicas"),
        ("models: [{name: a, cpus_per_replica: 0}]", "models.0.cpus_per_replica"),
        ("models: [{name: a, engine: {determinism: loose}}]", "models.0.engine.determinism"),
        ("models: [{name: a, engine: {stall_ratio: 1}}]", "models.0.engine.stall_ratio"),
        ("models: [{name: a, engine: {cache_bytes: -1}}]", "models.0.engine.cache_bytes"),
        ("models: [{name: a, engine: {provider: rocm}}]", "models.0.engine.provider"),
        ("models: [{name: a, engine: {speculation: true}}]", "models.0.engine"),
        ("- just\n- a list", "settings"),
        ("just words", "settings"),
    ],
)
def test_a_wrong_value_is_told_by_its_path(tmp_path: Path, text: str, path: str) -> None:
    assert f"shoal.yaml: {path}: " in refusal(tmp_path, text)


def test_relaxed_answers_may_be_guessed_ahead() -> None:
    tree = {"models": [{"name": "a", "engine": {"speculation": True, "determinism": "relaxed"}}]}
    assert Settings.model_validate(tree).models[0].engine.speculation


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, "http: {prot: 1, host: [2]}\nrey: {}").splitlines()) == 3


@pytest.mark.parametrize("text", ["http: {", "a: b: c", "\tx", "{[}]"])
def test_what_is_not_yaml_is_said_to_be_so(tmp_path: Path, text: str) -> None:
    assert "is not YAML" in refusal(tmp_path, text)


def test_bytes_that_are_no_text_are_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not YAML"):
        load_settings(tmp_path / "shoal.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*none\.yaml: No such file"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("[]", "models is empty"),
        ("[{name: a}, {name: a}]", "two models answer to 'a'"),
        ("[{name: a, aliases: [b]}, {name: b}]", "two models answer to 'b'"),
        ("[{name: a}]\ndefault_model: c", "default_model 'c' is none of a"),
    ],
)
def test_names_that_do_not_fit_together_are_refused(tmp_path: Path, models: str, words: str) -> None:
    assert words in refusal(tmp_path, f"models: {models}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    (tmp_path / "shoal.yaml").write_text(text)
    assert load_settings(tmp_path / "shoal.yaml") == Settings()


def test_without_a_file_the_one_of_the_folder_is_read_if_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None) == Settings()
    (tmp_path / "shoal.yaml").write_text("http: {port: 8123}")
    assert load_settings(None).http.port == 8123


@given(
    st.builds(
        lambda port, slots, aliases, high: Settings.model_validate(
            {
                "http": {"port": port},
                "models": [
                    {"name": "m", "aliases": sorted(aliases), "replicas": {"max": high}, "engine": {"slots": slots}}
                ],
            }
        ),
        st.integers(1, 65534),
        st.integers(1, 1024),
        st.sets(st.text("abcdef", min_size=1), max_size=3),
        st.integers(1, 9),
    )
)
def test_settings_survive_json_and_yaml(settings: Settings) -> None:
    tree = settings.model_dump(mode="json")
    assert Settings.model_validate(json.loads(json.dumps(tree))) == settings
    assert Settings.model_validate(yaml.safe_load(yaml.safe_dump(tree))) == settings


def test_the_command_lines_choices_win(tmp_path: Path) -> None:
    file = tmp_path / "shoal.yaml"
    file.write_text("http: {port: 1234, host: 0.0.0.0}\nmodels: [{name: a}, {name: b, engine: {slots: 3}}]")
    settings = effective_settings(file, 99, "b")
    assert (settings.http.port, settings.http.host) == (99, "0.0.0.0")
    assert [(model.name, model.engine.slots) for model in settings.models] == [("b", 3)]
    assert [model.name for model in effective_settings(file, None, "other").models] == ["other"]


def test_a_port_on_the_command_line_that_cannot_be_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match=r"http\.port"):
        effective_settings(None, 70_000, None)
