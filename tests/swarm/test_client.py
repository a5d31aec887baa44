"""The Python client against the routes on a real socket."""

import asyncio
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import shoal
from cluster.swarm.error_wire import error_json, read_error
from cluster.swarm.limits import Limits
from replicas import errors
from tests.swarm.answerers import EchoAnswerer, Odd, Puppet
from tests.swarm.service import Service, serving

ECHO = shoal.Agent(role="echo", prompt="{text}")


@pytest.fixture
def client(service: Service) -> Iterator[shoal.Client]:
    with shoal.connect(service.url) as connected:
        yield connected


def swarm(*texts: str) -> shoal.Swarm:
    return shoal.Swarm(agents=[ECHO], over={"text": texts}, name="a test")


def test_the_words_of_the_readme_work(client: shoal.Client, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("from a file")
    agents = [ECHO, shoal.Agent(role="loud", prompt="{text}!")]
    job = client.submit(shoal.Swarm(agents=agents, over={"text": ["one", shoal.File(tmp_path / "a.md")]}))
    seen = list(job.events())
    result = job.result()
    assert [output.text for output in result.outputs] == ["one", "one!", "from a file", "from a file!"]
    assert [(output.agent, output.item, output.role) for output in result.outputs][1:3] == [
        (1, 0, "loud"),
        (2, 1, "echo"),
    ]
    assert result.outputs[0].usage == shoal.Usage(3, 2, 0)
    assert job.status() == "succeeded"
    assert (seen[-1].type, seen[-1].status, seen[-1].usage) == ("done", "succeeded", result.usage)
    assert "".join(event.text or "" for event in seen if event.type == "delta" and event.agent == 2) == "from a file"


def test_a_job_is_found_again_by_another_client(client: shoal.Client, service: Service) -> None:
    job_id = client.submit(swarm("x")).id
    client.close()
    with shoal.connect(service.url + "/") as other:
        assert other.job(job_id).result().outputs[0].text == "x"
        assert [(view.id, view.name, view.total) for view in other.jobs()] == [(job_id, "a test", 1)]


def test_a_cancelled_job_raises_unless_partial_will_do(client: shoal.Client) -> None:
    job = client.submit(swarm("fast", "slow"))
    next(event for event in job.events() if event.type == "output")
    assert job.status() == "running"
    assert job.cancel() == job.cancel() == "cancelled"
    with pytest.raises(shoal.JobFailed, match="cancelled"):
        job.result()
    assert [output.error for output in job.result(partial=True).outputs] == [None, "cancelled"]


def test_a_failed_job_says_why(client: shoal.Client, puppet: Puppet) -> None:
    puppet.failures["bad"] = [Odd("no such thing")]
    with pytest.raises(shoal.JobFailed, match="no such thing"):
        client.submit(swarm("bad")).result()


def test_waiting_ends_with_the_timeout_and_the_job_goes_on(client: shoal.Client) -> None:
    job = client.submit(swarm("slow"))
    with pytest.raises(shoal.DeadlineExceeded):
        job.result(timeout_s=0.1)
    assert job.status() in ("queued", "running")


def test_a_reader_that_was_cut_off_goes_on_where_it_was(client: shoal.Client, service: Service, puppet: Puppet) -> None:
    service.port.breaks = [3, 4, 6]
    job = client.submit(swarm("fast", "slow"))
    texts: dict[int, str] = {}
    for event in job.events():
        if event.type == "output" and event.agent == 0:
            service.call(puppet.gates["slow"].set)
        if event.agent is not None:
            text = event.text or ""
            texts[event.agent] = texts.get(event.agent, "") + text if event.type == "delta" else text
    assert texts == {0: "fast", 1: "slow"}
    assert service.port.event_reads > 6


def test_readers_that_go_away_leave_nothing_behind(client: shoal.Client, service: Service) -> None:
    job = client.submit(swarm("slow"))
    for _ in range(20):
        next(job.events())
    left = threading.Event()

    def look() -> None:
        waiting = [task for task in asyncio.all_tasks(service.loop) if "disconnected" in repr(task.get_coro())]
        if waiting:
            service.loop.call_later(0.02, look)
        else:
            left.set()

    service.loop.call_soon_threadsafe(look)
    assert left.wait(20)


def test_an_unknown_job_is_not_found_on_every_path(client: shoal.Client, service: Service) -> None:
    with pytest.raises(shoal.NotFound, match="swarm_x"):
        client.job("swarm_x")
    for method, tail in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        assert httpx.request(method, f"{service.url}/v1/swarms/nope{tail}").status_code == 404


def test_the_service_checks_what_the_client_would_have_checked(service: Service) -> None:
    body = {"agents": [{"role": "r", "prompt": "{x}"}], "max_token": 3}
    answer = httpx.post(f"{service.url}/v1/swarms", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request"
    assert answer.json()["error"]["param"] == "max_token"
    assert httpx.post(f"{service.url}/v1/swarms", content=b"x" * 100_001).status_code == 413
    assert httpx.get(f"{service.url}/v1/swarms/x/events?after=y").status_code == 400


def test_the_same_idempotency_key_is_the_same_job(service: Service) -> None:
    body = {"agents": [{"role": "r", "prompt": "x"}]}
    answers = [httpx.post(f"{service.url}/v1/swarms", json=body, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]


def test_event_streams_ping_and_honour_the_last_event_id(
    client: shoal.Client, service: Service, puppet: Puppet
) -> None:
    job = client.submit(swarm("slow"))
    first = next(event for event in job.events() if event.type == "delta")
    headers = {"last-event-id": str(first.seq)}
    with httpx.stream("GET", f"{service.url}/v1/swarms/{job.id}/events", headers=headers) as response:
        lines = response.iter_lines()
        assert next(lines) == ": ping"
        service.call(puppet.gates["slow"].set)
        assert next(line for line in lines if line.startswith("data"))[:6] == "data: "
    assert response.headers["content-type"].startswith("text/event-stream")


def test_a_full_service_and_one_that_is_starting_are_told_apart(tmp_path: Path, puppet: Puppet) -> None:
    limits = Limits(jobs_running=1, jobs_queued=0)
    with serving(tmp_path, puppet.connect, limits) as service, shoal.connect(service.url) as client:
        client.submit(swarm("slow"))
        with pytest.raises(shoal.Overloaded) as caught:
            client.submit(swarm("x"))
        assert caught.value.retry_after_s == 5.0
        service.port.is_down = True
        with pytest.raises(shoal.Unavailable, match="conductor is not available; try again"):
            client.submit(swarm("x"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://"])
def test_nothing_at_the_url_is_said_with_what_to_do(url: str) -> None:
    with shoal.connect(url) as client, pytest.raises(shoal.Unavailable, match="is `shoal up` running there"):
        client.jobs()


def test_a_real_engine_answers_a_swarm_over_http(tmp_path: Path) -> None:
    with serving(tmp_path, EchoAnswerer) as service, shoal.connect(service.url) as client:
        texts = [f"text {number}" for number in range(12)]
        assert [output.text for output in client.submit(swarm(*texts)).result().outputs] == texts


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("m", "p"),
        errors.ContextOverflow(5, 4),
        errors.NotFound("job", "x", "hint"),
        errors.BodyTooLarge(9),
        errors.DeadlineExceeded(1.5),
        errors.Overloaded("pool", 2.0),
        errors.EngineFailed("x"),
        errors.Unavailable("a", "b"),
    ],
)
def test_errors_cross_the_wire_whole(error: errors.ShoalError) -> None:
    back = read_error(error.status, error_json(error).encode())
    assert (type(back), back.args, str(back)) == (type(error), error.args, str(error))


def test_errors_of_other_shapes_keep_their_status() -> None:
    assert isinstance(read_error(503, b"<html>"), errors.Unavailable)
    assert read_error(429, b"{}", "7").args == ("the service", 7.0)
    assert str(read_error(418, b"teapot")) == "HTTP 418: teapot"


def test_a_failed_job_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(shoal.JobFailed("a", "failed", "why")))
    assert str(error) == "job a failed: why"
