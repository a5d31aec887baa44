"""Over HTTP: requests go where the rules send them, say so in a header, and private ones are refused a cloud."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import httpx
import pytest

from replicas.errors import EngineFailed, Overloaded
from router.policy.candidate import Candidate
from router.policy.condition import all_of, one
from router.policy.constraints import Like, OneOf, Range
from router.policy.rule import Routing, Rule
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import PLAN, Served, serving

AUTO = one("model", Like((frozenset({"auto"}),)))
PRIVATE = one("private", OneOf(frozenset({True})))
CLOUD = Candidate("acme/claude", is_local=False)
RULES = (
    Rule("private stays", all_of([PRIVATE, AUTO]), policy="local-only"),
    Rule("reviews", all_of([one("role", Like((frozenset({"reviewer"}),))), AUTO]), to=("tiny",)),
    Rule("team", one("header:x-team", Like((frozenset({"red"}),))), to=("tiny", "echo")),
    Rule("tools", all_of([one("tools", Range(1)), AUTO]), to=(CLOUD.name, "echo")),
    Rule("pictures", all_of([one("image", OneOf(frozenset({True}))), AUTO]), to=(CLOUD.name,)),
    Rule("cloud only", one("agent", Like((frozenset({"cloud"}),))), to=(CLOUD.name,)),
)
ROUTING = Routing((*PLAN.routes.candidates, CLOUD), RULES)
TOOL = {"name": "f", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def edge() -> Iterator[Served]:
    with serving(replace(PLAN, routing=ROUTING)) as served:
        yield served


Headers = Mapping[str, str]


def ask(
    edge: Served, text: str = "hello", *, path: str = MESSAGES, headers: Headers | None = None, **changes: object
) -> httpx.Response:
    tree = body(text, **{"model": "auto", "max_tokens": 5, **changes})
    return httpx.post(edge.url + path, json=tree, headers=headers, timeout=30)


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_tells_its_route(edge: Served, path: str, *, stream: bool) -> None:
    response = ask(edge, path=path, stream=stream)
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, "echo")
    told = response.headers["x-shoal-route"]
    assert told.startswith('rule="prefer-local";by=policy, to=("echo" "tiny")')
    assert '"acme/claude";why="no client for it runs here"' in told


@pytest.mark.parametrize(
    ("headers", "asked", "tools", "rule", "model"),
    [
        ({"x-shoal-role": "reviewer"}, "auto", [], "reviews", "tiny"),
        ({"X-Team": "red"}, "claude-anything", [], "team", "tiny"),
        ({}, "auto", [TOOL], "tools", "echo"),
        ({"x-shoal-private": "1"}, "auto", [], "private stays", "echo"),
        ({}, "small", [], "tiny", "tiny"),
    ],
)
def test_requests_go_where_the_rules_send_them(
    edge: Served, headers: Headers, asked: str, tools: list[object], rule: str, model: str
) -> None:
    response = ask(edge, headers=headers, model=asked, tools=tools)
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, model)
    assert response.headers["x-shoal-route"].startswith(f'rule="{rule}";by=')
    assert response.json()["model"] == (model if asked == "auto" else asked)


def test_a_prompt_that_is_too_long_for_the_first_goes_to_the_next_and_the_header_says_so(edge: Served) -> None:
    response = ask(edge, "x" * 300, headers={"x-team": "red"})
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, "echo")
    assert 'lost=("tiny";why="prompt is too long: ' in response.headers["x-shoal-route"]


def test_a_prompt_that_is_too_long_for_all_is_told_as_ever(edge: Served) -> None:
    response = ask(edge, "x" * 15_000)
    assert response.status_code == 400
    assert "prompt is too long: " in response.json()["error"]["message"]
    told = response.headers["x-shoal-route"]
    assert told.startswith('rule="prefer-local";by=policy, to=(), lost=("tiny";why="prompt is too long: ')
    assert '"echo";why="prompt is too long: ' in told


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize("stream", [False, True])
def test_a_private_request_for_a_cloud_is_refused_in_the_dialects_words(
    edge: Served, path: str, *, stream: bool
) -> None:
    response = ask(edge, "mail jane@acme.com", path=path, model="acme/claude", stream=stream)
    assert response.status_code == 403
    assert response.json()["error"]["type"] == "permission_error"
    told = response.headers["x-shoal-route"]
    assert told.startswith('rule="acme/claude";by=model, to=(), lost=("acme/claude";why="private requests stay here")')
    assert told.endswith("private;email")
    assert "x-shoal-model" not in response.headers
    assert "jane" not in response.text + told


def test_a_body_that_says_it_is_private_is_kept_here(edge: Served) -> None:
    kept, refused = ask(edge, private=True), ask(edge, private=True, model="acme/claude")
    assert (kept.status_code, kept.headers["x-shoal-model"], refused.status_code) == (200, "echo", 403)
    assert kept.headers["x-shoal-route"].endswith("private;body")


def test_a_rule_that_leaves_nobody_is_told(edge: Served) -> None:
    response = ask(edge, headers={"x-shoal-agent-id": "cloud"})
    assert response.status_code == 503
    assert "acme/claude: no client for it runs here" in response.json()["error"]["message"]
    assert response.headers["x-shoal-route"].startswith('rule="cloud only";by=rule, to=(), lost=("acme/claude";why=')


def test_an_image_is_seen_by_the_rules(edge: Served) -> None:
    pictures = [(MESSAGES, {"type": "image", "source": {}}), (CHAT, {"type": "image_url", "image_url": {"url": "x"}})]
    for path, picture in pictures:
        response = ask(edge, path=path, messages=[{"role": "user", "content": [picture]}])
        assert (response.status_code, "acme/claude" in response.text) == (503, True)
        assert response.headers["x-shoal-route"].startswith('rule="pictures";by=rule, to=()')


def test_tokens_of_auto_are_counted_by_the_default_model(edge: Served) -> None:
    counts = [
        httpx.post(edge.url + "/v1/messages/count_tokens", json=body("hello", model=model)).json()["input_tokens"]
        for model in ("auto", "echo")
    ]
    assert counts[0] == counts[1] > 0


def test_without_rules_models_are_found_as_before() -> None:
    with serving() as served:
        asked = [ask(served, model=model).status_code for model in ("echo", "small", "auto", "nobody")]
    assert asked == [200, 200, 200, 404]


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize("stream", [False, True])
def test_whom_a_full_or_a_broken_model_refuses_is_told_the_route_too(path: str, *, stream: bool) -> None:
    engine = HandEngine()
    with serving(replace(PLAN, routing=ROUTING), echo=[engine]) as served:
        for refusal in (Overloaded("echo", 1.5), EngineFailed("it broke")):
            engine.refusal = refusal
            response = ask(served, path=path, model="echo", stream=stream)
            assert response.status_code == refusal.status
            assert response.headers["x-shoal-route"].startswith('rule="echo";by=model, to=("echo")')


def test_where_nothing_was_decided_no_route_is_told(edge: Served) -> None:
    refused = [ask(edge, max_tokens="many"), ask(edge, path="/v1/nothing"), ask(edge, "x" * 25_000)]
    assert [response.status_code for response in refused] == [400, 404, 413]
    assert not any("x-shoal-route" in response.headers for response in refused)


def test_of_a_model_that_nobody_knows_it_is_told_that_no_rule_took_it(edge: Served) -> None:
    response = ask(edge, model="nobody")
    assert response.status_code == 404
    assert response.headers["x-shoal-route"].startswith('rule="nobody";by=model, to=()')
