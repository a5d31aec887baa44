"""The OpenAPI document is true: whatever it lets somebody send, no answer is a 5xx, none hangs, all are as it says."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cluster.swarm.http_api import SwarmApi
from cluster.swarm.routes import swarm_routes
from deployments.openapi import Documented, document
from deployments.openapi.operation import JSON
from deployments.plan import AppPlan, EnginePlan, HttpPlan, PoolPlan
from replicas.cloud.fields import fields
from replicas.cloud.release import CloudKind
from replicas.engine import Engine
from tests.deployments.served import Served
from tests.deployments.served import serving as serving_edge
from tests.documents import chapter
from tests.replicas.engines import slot_engine, tiny
from tests.router.translations import BODIES
from tests.swarm.answerers import EchoAnswerer
from tests.swarm.service import serving as serving_swarms

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 20
LIMIT_S = 20.0
"""An answer that takes longer is a hang."""

REAL = PoolPlan("real", tiny().directory, EnginePlan(slots=4), context_tokens=128)
ECHO = PoolPlan("echo", Path(), EnginePlan(kind="echo", slots=8, queue_limit=64), context_tokens=256)
PLAN = AppPlan((REAL, ECHO), "real", HttpPlan(body_limit_bytes=50_000, request_deadline_s=10.0))
BOTH = pytest.mark.parametrize("mode", list(GenerationMode))
ANSWERING = ("/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions", "/v1/completions", "/v1/embeddings")
MODELS = st.sampled_from(["real", "echo", "real:ghost", None])


@pytest.fixture(scope="module")
def edge() -> Iterator[Served]:
    engines: list[Engine] = [slot_engine(max_len=128)]
    with serving_edge(PLAN, real=engines) as served:
        yield served


def held(operation: APIOperation, url: str, mode: GenerationMode) -> Counter[int]:  # type: ignore[type-arg]  # what it is of says nothing here
    """Send what an operation lets somebody send, or things nearly like it; how often that ended in each status."""
    ended: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode), model=MODELS)
    def ask(case: Case, model: str | None) -> None:  # type: ignore[type-arg]  # what it is of says nothing here
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = model  # else nearly all would end at the name
        response = case.call(base_url=url, timeout=LIMIT_S)
        ended[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    ask()
    return ended


def hold(tree: dict[str, object], url: str, mode: GenerationMode) -> dict[str, Counter[int]]:
    """The same of every operation of a document."""
    found = list(schemathesis.openapi.from_dict(tree).get_all_operations())
    operations = [one.ok() for one in found if isinstance(one, Ok)]
    assert len(operations) == len(found)
    if mode is GenerationMode.NEGATIVE:  # where nothing but words can be said nothing can be wrong
        operations = [one for one in operations if JSON in one.definition.raw.get("requestBody", {}).get("content", {})]
    return {one.label: held(one, url, mode) for one in operations}


@BOTH
def test_whatever_is_sent_to_the_edge_is_answered_as_the_document_says(edge: Served, mode: GenerationMode) -> None:
    tree = httpx.get(f"{edge.url}/openapi.json", timeout=30).json()
    ended = hold(tree, edge.url, mode)
    assert len(ended) >= 7
    if mode is GenerationMode.POSITIVE:
        assert all(ended[f"POST {path}"][200] for path in ANSWERING)


@BOTH
def test_whatever_is_sent_about_jobs_is_answered_as_the_document_says(tmp_path: Path, mode: GenerationMode) -> None:
    with serving_swarms(tmp_path, EchoAnswerer) as service:
        tree = document(SwarmApi(service.port, 1000, 1.0).routes(), "0")
        ended = hold(tree, service.url, mode)
    if mode is GenerationMode.POSITIVE:
        assert ended["POST /v1/swarms"][202]
        assert ended["GET /v1/swarms"][200]


def methods(tree: Mapping[str, object]) -> set[tuple[str, str]]:
    """Method and path of every operation of a document, places without their names."""
    paths = fields(tree["paths"])
    return {(method.upper(), re.sub(r"{\w+}", "{}", path)) for path in paths for method in fields(paths[path])}


def test_the_document_has_every_route_and_the_guide_names_them_all(edge: Served, tmp_path: Path) -> None:
    tree = httpx.get(f"{edge.url}/openapi.json", timeout=30).json()
    mounted = swarm_routes(tmp_path / "journal", PLAN)
    swarms = document(mounted, "0")
    for one in (tree, swarms):
        schemathesis.openapi.from_dict(one).validate()
    assert all(isinstance(route, Documented) for route in mounted)
    cells = re.findall(r"`([A-Z]+)(?: (/[^`]*))?`", chapter("docs/api.md", "## Endpoints"))
    named: set[tuple[str, str]] = set()
    for place, (method, path) in enumerate(cells):  # a method without a path is about the next one
        shown = path or next(later for _, later in cells[place:] if later)
        named.add((method, re.sub(r"{\w+}", "{}", shown)))
    assert len(named) > 20
    assert named == methods(tree) | methods(swarms)


@pytest.mark.parametrize(("kind", "name"), [("anthropic", "MessagesBody"), ("openai", "ChatBody")])
def test_bodies_with_all_that_a_caller_can_say_are_what_the_document_says(
    edge: Served, kind: CloudKind, name: str
) -> None:
    tree = httpx.get(f"{edge.url}/openapi.json", timeout=30).json()
    schema = {"$ref": f"#/components/schemas/{name}", "components": tree["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(BODIES[kind])] == []
    assert list(validator.iter_errors({**BODIES[kind], "messages": "hello"}))
