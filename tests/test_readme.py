"""The documents say what is: commands, options, settings, metrics, YAML and links are held against the code."""

import ast
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_args, get_origin

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry
from typer._click.exceptions import MissingParameter, NoSuchOption
from typer.core import TyperGroup
from typer.testing import CliRunner

import shoal
from cluster.cli import app
from cluster.experiments import experiments_of
from cluster.routing import routing_of
from cluster.section import Section
from cluster.settings import Settings, load_settings
from cluster.swarm.source import load_swarm
from cluster.upstream.script import FaultKind, load_script
from deployments.ingress_metrics import IngressMetrics
from deployments.replica_metrics import ReplicaMetrics
from replicas.echo import EchoEngine
from router.chain.metrics import ChainMetrics
from router.journal.journal import Journal
from tests.documents import DOCUMENTS, GUIDES, ROOT, blocks, chapter, prose

PLACEHOLDERS = {"FILE.gguf": "model.gguf", "NAME": "echo", "JOB": "swarm_0", "ID": "talk", "FILE": "talk.kv"}


def commands(program: str) -> list[list[str]]:
    """Every command line of the guides' shell blocks that begins with `program`, without it."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [line[len(program.split()) :] for line in lines if line[: len(program.split())] == program.split()]


def told(pattern: str) -> list[str]:
    """Every inline code of all documents that matches `pattern`."""
    texts = [path.read_text("utf-8") for path in DOCUMENTS]
    return sorted({found for text in texts for found in re.findall(pattern, text)})


def parsed(words: list[str]) -> None:
    """Let the command that `words` begin with parse the rest. Raises UsageError, KeyError for an unknown command."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name, *words = words or ["--help"]
        command = command.commands[name]
    command.make_context("shoal", list(words))


def test_every_shell_command_of_the_guides_exists_with_its_options() -> None:
    lines = commands("shoal")
    assert len(lines) >= 12
    for line in lines:
        parsed([PLACEHOLDERS.get(word, word) for word in line])


@pytest.mark.parametrize("line", told(r"`shoal ([^`]+)`"))
def test_every_command_named_in_a_document_exists(line: str) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
    if words == ["k8s", "render"]:  # named as what is still to come
        return
    with suppress(MissingParameter):  # named without its argument
        parsed(words)


def test_a_command_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(NoSuchOption):
        parsed(["up", "--no-such-option"])
    with pytest.raises(KeyError):
        parsed(["fly"])


def test_every_make_target_and_python_module_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = {words[0] for words in commands("make")} | {line.split()[0] for line in told(r"`make ([^`]+)`")}
    assert {"demo", "test", "check"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    modules = {words[0] for words in commands("python -m")} | {m.split()[0] for m in told(r"`python -m ([^`]+)`")}
    assert all(importlib.util.find_spec(module) for module in modules)


def test_every_yaml_block_loads(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for number, block in enumerate(blocks("yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        if "agents" in yaml.safe_load(block):
            assert load_swarm(path).items >= 5
        elif "faults" in yaml.safe_load(block):
            assert len(load_script(path).answers) == 2
        else:
            settings = load_settings(path)
            assert len(settings.models) == 2
            routing = routing_of(settings)
            assert len(routing.rules) == len(settings.routing.rules)
            assert len(experiments_of(settings, routing)) == len(settings.experiments)


def test_every_python_block_uses_names_that_exist() -> None:
    sources = blocks("python")
    assert len(sources) == 5
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "shoal":
                assert hasattr(shoal, node.attr)


def test_config_show_prints_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["config", "show", "--json"])
    assert Settings.model_validate(json.loads(result.output)) == Settings()


def sections(annotation: object) -> list[type[Section]]:
    """The section that a field is (its own, or of its items)."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Section) else []
    return [found for part in get_args(annotation) for found in sections(part) if get_origin(annotation) is tuple]


def settings_keys(section: type[Section], path: str = "") -> Iterator[tuple[str, str]]:
    """Every key under `section` with its default as the table writes it."""
    for name, field in section.model_fields.items():
        inner = [found for found in sections(field.annotation) if found is not section]
        if inner:
            is_listed = get_origin(field.annotation) is tuple
            yield from settings_keys(inner[0], f"{path}{name}[]." if is_listed else f"{path}{name}.")
        elif field.is_required():
            yield f"{path}{name}", "required"
        else:
            default = field.get_default(call_default_factory=True)
            value = list(default) if isinstance(default, tuple) else default
            told = "empty" if value == "" else f"`{value if isinstance(value, str) else json.dumps(value)}`"
            yield f"{path}{name}", told


def test_the_settings_table_is_the_settings_tree() -> None:
    table = chapter("docs/configuration.md", "# Settings")
    rows = re.findall(r"^\| `([a-z_.\[\]]+)` \| (`[^`]*`|required|empty) \| .+ \|$", table, re.MULTILINE)
    assert dict(rows) == dict(settings_keys(Settings))


def test_the_metrics_table_names_every_metric_and_alias() -> None:
    engine = EchoEngine()
    try:
        families = ReplicaMetrics(engine.stats).families("m", "r")
    finally:
        engine.close()
    chains = CollectorRegistry()
    ChainMetrics(chains)
    Journal(chains)
    own = (*IngressMetrics().registry.collect(), *chains.collect())
    names = {f.name + ("_total" if f.type == "counter" else "") for f in (*families, *own)}
    table = chapter("docs/operations.md", "## Metrics")
    assert set(re.findall(r"`(shoal_\w+)`(?:,| \|)", table)) == {n for n in names if n.startswith("shoal_")}
    assert set(re.findall(r"`(vllm:\w+)`", table)) == {n for n in names if n.startswith("vllm:")}


def test_the_table_of_faults_names_every_kind() -> None:
    table = chapter("docs/upstream.md", "# A cloud for tests").split("| fault |")[1].split("\n\n")[0]
    told_of = {kind for row in table.splitlines()[2:] for kind in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert told_of == {kind.value for kind in FaultKind}


def anchors(document: Path) -> set[str]:
    """The headings of `document` as links name them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", document.read_text("utf-8")):
            found = document.parent / target if target else document
            assert found.exists(), f"{document.name}: {target}"
            assert not anchor or anchor in anchors(found), f"{document.name}: {target}#{anchor}"


def test_the_readme_leads_to_every_guide() -> None:
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", chapter("README.md", "## Further")))
    assert linked == {str(path.relative_to(ROOT)) for path in GUIDES if path.parent.name == "docs"}


def test_the_figures_at_the_front_are_those_of_the_measurements() -> None:
    front = chapter("README.md", "## What it is measured against")
    measured = chapter("docs/performance.md", "# Performance")
    rows = re.findall(r"^\| ([^|]+) \|(.+)\|$", front, re.MULTILINE)
    assert len(rows) > 4
    for name, figures in rows:
        head = name.split(" (")[0].split(" over")[0].split(", the")[0]
        known = {
            cell.strip() for row in measured.splitlines() if row.startswith(f"| {head}") for cell in row.split("|")
        }
        assert {figure.strip() for figure in figures.split("|")} <= known, name
    said, known = (set(re.findall(r"\d[\d.,]*\d|\d", text)) for text in (front, measured))
    assert said <= known


def test_files_named_in_the_documents_exist() -> None:
    named = told(r"`((?:cluster|deployments|router|replicas|bench)/[\w/.-]*)`")
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []
