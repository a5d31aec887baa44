"""Planning: settings and a model store become a plan; a model that is not there is told with what brings it."""

import json
import pickle
import shutil
from pathlib import Path

import onnx
import pytest

from cluster.planning import models_root, plan_of
from cluster.settings import Settings
from deployments.plan import CloudPlan
from replicas.bundled import NAME
from replicas.cloud.endpoint import Endpoint
from replicas.errors import ModelImportError, SettingsError
from replicas.store import ModelStore
from tests.models import tiny_gguf
from tests.replicas.broken_adapters import HARMS, Harm
from tests.replicas.peft import random_pairs, write_peft


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose store holds one small model (context 512) called tiny."""
    home = tmp_path_factory.mktemp("home")
    ModelStore(models_root(home)).import_gguf(tiny_gguf(home / "tiny.gguf"), "tiny")
    return home


def settings(**model: object) -> Settings:
    return Settings.model_validate({"models": [{"name": "tiny", **model}]})


def test_replicas_that_may_be_on_one_machine_share_its_memory(home: Path) -> None:
    [pool] = plan_of(settings(replicas={"min": 1, "max": 4}), home, has_gpu=False).pools
    assert pool.memory_share == 0.25


def test_a_model_of_the_store_is_found_with_its_context(home: Path) -> None:
    [pool] = plan_of(settings(), home, has_gpu=False).pools
    assert (pool.model, pool.context_tokens, pool.node) == ("tiny", 512, "cpu")
    assert pool.path.is_dir()


def test_a_context_from_the_settings_is_taken_up_to_the_models_own(home: Path) -> None:
    contexts = [
        plan_of(settings(engine={"context_tokens": tokens}), home, has_gpu=False).pools[0].context_tokens
        for tokens in (100, 512)
    ]
    assert contexts == [100, 512]
    with pytest.raises(SettingsError, match=r"tiny: engine\.context_tokens 513 .* at most 512"):
        plan_of(settings(engine={"context_tokens": 513}), home, has_gpu=False)


@pytest.mark.parametrize(
    ("node", "has_gpu", "planned"),
    [("auto", False, "cpu"), ("auto", True, "gpu"), ("cpu", True, "cpu"), ("gpu", False, "gpu")],
)
def test_the_kind_of_node_follows_the_settings_then_the_machine(
    home: Path, node: str, has_gpu: bool, planned: str
) -> None:
    assert plan_of(settings(node=node), home, has_gpu=has_gpu).pools[0].node == planned


def test_an_echo_pool_needs_no_store(tmp_path: Path) -> None:
    plan = plan_of(settings(engine={"kind": "echo"}), tmp_path, has_gpu=False)
    assert plan.default_model == "tiny"


@pytest.mark.parametrize(("name", "command"), [(NAME, "make model"), ("other", "shoal models import FILE.gguf")])
def test_a_missing_model_is_told_with_the_command_that_brings_it(home: Path, name: str, command: str) -> None:
    with pytest.raises(SettingsError) as caught:
        plan_of(Settings.model_validate({"models": [{"name": name}]}), home, has_gpu=False)
    assert f"model {name!r} does not exist" in str(caught.value)
    assert f"`{command}` brings it" in str(caught.value)


def test_the_adapters_of_a_model_are_planned_and_the_one_for_tools_among_them(home: Path) -> None:
    folder = models_root(home) / "tiny" / "adapters"
    folder.mkdir()
    for name, about in {"calls": {"purpose": "tools"}, "style": {}}.items():
        write_peft(folder / name, random_pairs())
        (folder / name / "adapter.json").write_text(json.dumps(about))
    [pool] = plan_of(settings(), home, has_gpu=False).pools
    assert (pool.adapters, pool.tool_adapter) == (("calls", "style"), "calls")
    shutil.rmtree(folder)
    [pool] = plan_of(settings(), home, has_gpu=False).pools
    assert (pool.adapters, pool.tool_adapter) == ((), None)


@pytest.mark.parametrize("harm", HARMS)
def test_an_adapter_that_cannot_be_used_is_told_before_anything_starts(home: Path, harm: Harm) -> None:
    folder = models_root(home) / "tiny" / "adapters"
    folder.mkdir()
    words = harm(folder / "bad")
    with pytest.raises(SettingsError, match=rf"adapter bad: .*{words}.*; mend it, or take .*bad away"):
        plan_of(settings(), home, has_gpu=False)
    shutil.rmtree(folder)


def paged(home: Path) -> Path:
    """The tiny model with what makes an export a paged one; what no engine could run is not in question here."""
    directory = models_root(home) / "paged"
    shutil.copytree(models_root(home) / "tiny", directory)
    graph = onnx.load(directory / "model.onnx", load_external_data=False)
    graph.graph.input.append(onnx.helper.make_tensor_value_info("block_table", onnx.TensorProto.INT32, ["batch", "n"]))
    onnx.save(graph, directory / "model.onnx")
    config = json.loads((directory / "genai_config.json").read_text())
    config["engine"] = {"dynamic_batching": {"max_batch_size": 4}}
    (directory / "genai_config.json").write_text(json.dumps(config))
    return directory


def test_a_model_with_paged_attention_gets_its_own_engine_and_promises_less(home: Path) -> None:
    (paged(home) / "adapters" / "calls").mkdir(parents=True)
    tree = {"models": [{"name": "paged", "engine": {"slots": 3, "context_tokens": 100}}]}
    [pool] = plan_of(Settings.model_validate(tree), home, has_gpu=False).pools
    assert (pool.engine.kind, pool.engine.determinism, pool.engine.slots) == ("paged", "relaxed", 3)
    assert (pool.context_tokens, pool.adapters) == (100, ())


def test_a_model_that_no_engine_can_run_is_told_so(home: Path) -> None:
    directory = models_root(home) / "broken"
    shutil.copytree(models_root(home) / "tiny", directory)
    (directory / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelImportError, match="is not an ONNX graph"):
        plan_of(Settings.model_validate({"models": [{"name": "broken"}]}), home, has_gpu=False)


def test_measurements_are_kept_in_the_home_unless_that_is_off(home: Path) -> None:
    kept = [
        plan_of(settings(engine={"calibrate": on}), home, has_gpu=False).pools[0].calibrations for on in (True, False)
    ]
    assert kept == [home / "calibrations", None]


def test_every_bound_of_the_settings_reaches_the_plan(home: Path) -> None:
    tree = {
        "http": {
            "port": 9,
            "host": "::1",
            "body_limit_bytes": 2000,
            "session_limit_bytes": 3000,
            "request_deadline_s": 3.0,
            "ping_interval_s": 2.0,
        },
        "models": [
            {
                "name": "tiny",
                "aliases": ["t"],
                "replicas": {"min": 2, "max": 3},
                "engine": {"slots": 5, "queue_limit": 7, "determinism": "relaxed", "cache_bytes": 0},
            }
        ],
    }
    plan = plan_of(Settings.model_validate(tree), home, has_gpu=False)
    http, [pool] = plan.http, plan.pools
    assert (http.port, http.host, http.body_limit_bytes, http.session_limit_bytes) == (9, "::1", 2000, 3000)
    assert (http.request_deadline_s, http.ping_interval_s) == (3.0, 2.0)
    assert (pool.aliases, pool.min_replicas, pool.max_replicas) == (("t",), 2, 3)
    assert pool.request_limit == 3 * (5 + 7)
    assert (pool.engine.determinism, pool.engine.cache_bytes) == ("relaxed", 0)


def test_the_plan_has_the_clouds_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-secret")
    cloud = {"name": "acme", "kind": "openai", "base_url": "http://a/v1", "key_env": "ACME_KEY"}
    tree = {"models": [{"name": "echo", "engine": {"kind": "echo"}}], "clouds": [{**cloud, "models": [{"name": "m"}]}]}
    plan = plan_of(Settings.model_validate(tree), Path("/nowhere"), has_gpu=False)
    assert plan.clouds == (CloudPlan("openai", Endpoint("acme", "http://a/v1", "ACME_KEY")),)
    assert [one.name for one in plan.routes.candidates] == ["echo", "acme/m"]
    assert b"sk-secret" not in pickle.dumps(plan)
