"""The edge over a socket: every path, every refusal, each in the shape of its dialect."""

import itertools
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from replicas.errors import InvalidRequest
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=20) as client:
        yield client


def error_type(answer: httpx.Response) -> str:
    """The type in an error body of either dialect; the shapes are held by the router's golden files."""
    return str(answer.json()["error"]["type"])


@pytest.mark.parametrize("path", ["/", "/api/hello"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_clients_that_probe_at_start_up_get_an_empty_200(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/v2/nothing", "/v1/messages/batches", "/favicon.ico", "/v1/messages/"])
def test_an_unknown_path_is_a_json_404(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert path in answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", MESSAGES), ("PUT", CHAT), ("POST", "/v1/models")])
def test_a_method_that_a_path_does_not_have_is_a_json_405(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, error_type(answer)) == (405, "invalid_request_error")
    assert answer.headers["allow"]


def test_the_query_does_not_matter(http: httpx.Client) -> None:
    assert http.post(f"{MESSAGES}?beta=true", json=body()).status_code == 200


def test_every_answer_has_a_request_id_of_its_own(http: httpx.Client) -> None:
    answers = [http.get("/health"), http.get("/nothing"), http.post(MESSAGES, json=body()), http.post(CHAT, json={})]
    ids = {answer.headers["request-id"] for answer in answers}
    assert len(ids) == 4
    assert all(id_.startswith("req_") for id_ in ids)


def test_an_anthropic_error_names_the_request(http: httpx.Client) -> None:
    answer = http.post(MESSAGES, json={})
    assert answer.json()["request_id"] == answer.headers["request-id"]
    assert answer.json()["type"] == "error"


def test_a_path_that_both_share_answers_in_the_shape_of_who_asks(http: httpx.Client) -> None:
    assert http.get("/v1/models/none", headers={"anthropic-version": "2023-06-01"}).json()["type"] == "error"
    assert http.get("/v1/models/none").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"max_tokens": 5}', b'{"messages": 3, "max_tokens": 5}'])
def test_a_malformed_body_is_a_400_in_the_dialects_shape(http: httpx.Client, path: str, raw: bytes) -> None:
    answer = http.post(path, content=raw)
    assert (answer.status_code, error_type(answer)) == (400, "invalid_request_error")


@pytest.mark.parametrize("path", [MESSAGES, CHAT, "/v1/messages/count_tokens"])
def test_a_body_that_says_it_is_too_large_is_refused(http: httpx.Client, path: str) -> None:
    assert http.post(path, json=body("x" * 20_000)).status_code == 413


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
def test_a_body_that_becomes_too_large_is_refused(http: httpx.Client, path: str) -> None:
    answer = http.post(path, content=(b" " * 1000 for _ in range(21)))
    assert answer.status_code == 413
    assert "20000 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", [MESSAGES, CHAT])
def test_an_unknown_model_is_a_404_that_names_the_nearest(http: httpx.Client, path: str, is_stream: bool) -> None:
    answer = http.post(path, json=body(model="ecko", stream=is_stream))
    assert answer.status_code == 404
    assert "echo" in answer.json()["error"]["message"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_prompt_over_the_context_is_a_400_with_the_counts(http: httpx.Client, is_stream: bool) -> None:
    answer = http.post(MESSAGES, json=body("x" * 200, model="tiny", stream=is_stream))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "prompt is too long: 203 tokens > 99 maximum"


def test_more_tokens_than_the_context_leaves_are_clamped(http: httpx.Client) -> None:
    answer = http.post(MESSAGES, json=body("abc", model="tiny", max_tokens=64_000, ignore_eos=True))
    assert answer.status_code == 200
    assert answer.json()["stop_reason"] == "model_context_window_exceeded"


def test_what_only_the_engine_refuses_is_a_400_too() -> None:
    engine = HandEngine()
    engine.refusal = InvalidRequest("stop must be shorter", "stop")
    with serving(echo=[engine]) as served:
        for path, stream in itertools.product([MESSAGES, CHAT], [False, True]):
            answer = httpx.post(served.url + path, json=body(stream=stream))
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, "stop must be shorter")


def test_an_answer_says_which_pool_gave_it(http: httpx.Client) -> None:
    answer = http.post(CHAT, json=body(model="small"))
    assert answer.headers["x-shoal-model"] == "tiny"
    assert answer.headers["x-shoal-pool"] == "OnnxPool-tiny-cpu"


def test_counted_tokens_are_the_usage_of_the_answer(http: httpx.Client) -> None:
    counted = http.post("/v1/messages/count_tokens", json=body("häßlich")).json()
    assert counted == {"input_tokens": http.post(MESSAGES, json=body("häßlich")).json()["usage"]["input_tokens"]}


def test_a_prompt_over_the_context_can_still_be_counted(http: httpx.Client) -> None:
    counted = http.post("/v1/messages/count_tokens", json=body("x" * 200, model="tiny"))
    assert counted.json() == {"input_tokens": 203}


def test_models_are_listed_and_shown(http: httpx.Client) -> None:
    listed = [model["id"] for model in http.get("/v1/models").json()["data"]]
    assert {"echo", "tiny", "claude-local-echo"} <= set(listed)
    assert http.get("/v1/models/small").json()["id"] == "small"


def test_health_and_readiness_and_status_answer(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    ready = http.get("/ready")
    assert (ready.status_code, ready.json()["ready"]) == (200, ["echo", "tiny"])
    pools = http.get("/status").json()["pools"]
    assert [(pool["model"], list(pool["replicas"])) for pool in pools] == [(m, ["replica0"]) for m in ("echo", "tiny")]
    assert pools[0]["replicas"]["replica0"]["slots"] == 4


def test_the_metrics_page_parses_and_counts_requests_by_route(http: httpx.Client) -> None:
    http.get("/v1/models/small")
    http.get("/nothing/at/all")
    families = {f.name: f for f in text_string_to_metric_families(http.get("/metrics").text)}
    routes = {s.labels["route"] for s in families["shoal_http_requests"].samples}
    assert {"/v1/models/{model_id:path}", "other"} <= routes
    assert not any("nothing" in route for route in routes)
    models = {s.labels["model"] for s in families["shoal_engine_slots_used"].samples}
    assert models == {"echo", "tiny"}


def test_a_pool_without_a_replica_is_told_by_ready_and_the_process_stays_up() -> None:
    with serving(tiny=[]) as served:
        ready = httpx.get(f"{served.url}/ready")
        assert (ready.status_code, ready.json()["waiting_for"]) == (503, ["tiny"])
        assert httpx.get(f"{served.url}/health").status_code == 200
