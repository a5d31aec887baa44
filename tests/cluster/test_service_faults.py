"""What the real service survives: processes that are killed under it, and instances beside it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.cluster.conftest import MODEL, Service, environment, free_port

pytestmark = pytest.mark.cluster

RECOVERY_S = 90.0
ECHO_SETTINGS = """
http: {port: %d}
models: [{name: echo, cpus_per_replica: 0.05, engine: {kind: echo, echo_delay_s: %s}}]
"""


def wait_until(claim: Callable[[], bool], limit_s: float = RECOVERY_S) -> bool:
    """Whether `claim` came true within `limit_s`."""
    give_up_s = time.monotonic() + limit_s
    while not claim():
        if time.monotonic() > give_up_s:
            return False
        time.sleep(0.1)
    return True


def is_ready(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def ask(service: Service, model: str, tokens: int) -> httpx.Response:
    body = {"model": model, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    turn = {"role": "user", "content": "Tell me a story."}
    return httpx.post(f"{service.url}/v1/chat/completions", json={**body, "messages": [turn]}, timeout=120)


def ask_and_be_cut_off(service: Service) -> None:
    with suppress(httpx.HTTPError):
        ask(service, "echo", 4000)


def test_a_killed_replica_is_replaced_and_the_next_one_finishes_its_answers(service: Service) -> None:
    expected = ask(service, MODEL, 200).json()["choices"][0]["message"]["content"]
    answers: list[httpx.Response] = []
    askers = [threading.Thread(target=lambda: answers.append(ask(service, MODEL, 200))) for _ in range(4)]
    for asker in askers:
        asker.start()
    assert wait_until(lambda: service.slots_used(MODEL) == 4)
    before = set(service.engines(MODEL))
    service.worker(f"ray::ServeReplica:shoal:OnnxPool-{MODEL}").kill()
    for asker in askers:
        asker.join(120)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {expected}
    assert wait_until(lambda: is_ready(service) and not before & set(service.engines(MODEL)))
    assert ask(service, MODEL, 5).status_code == 200


def test_a_killed_ingress_comes_back_on_its_port(service: Service) -> None:
    old = service.worker("ray::ServeReplica:shoal:Ingress")
    old.kill()
    assert wait_until(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE)
    assert wait_until(lambda: is_ready(service))
    assert ask(service, "echo", 5).status_code == 200


def test_a_second_instance_lives_and_ends_without_the_first_noticing(service: Service) -> None:
    second = Service(service.home, free_port())
    settings = service.home / "second.yaml"
    settings.write_text(ECHO_SETTINGS % (second.port, 0.05))
    started = second.shoal("up", "--detach", "--config", str(settings))
    assert started.returncode == 0, started.stderr
    assert second.url in started.stdout
    family = [second.process(), *second.process().children(recursive=True)]
    threading.Thread(target=ask_and_be_cut_off, args=(second,), daemon=True).start()
    assert wait_until(lambda: second.slots_used("echo") == 1)
    ended = second.shoal("down", "--port", str(second.port))
    assert (ended.returncode, f"port {second.port}" in ended.stdout) == (0, True)
    assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert is_ready(service)
    assert second.shoal("down", "--port", str(second.port)).returncode == 1


def test_ctrl_c_ends_a_foreground_instance_and_leaves_nothing(service: Service) -> None:
    mine = Service(service.home, free_port())
    settings = service.home / "mine.yaml"
    settings.write_text(ECHO_SETTINGS % (mine.port, 0))
    command = [sys.executable, "-m", "cluster.cli", "up", "--config", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(mine.home)) as up:
        assert up.stdout is not None
        said = up.stdout.readline()  # comes when it is ready
        family = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert up.returncode == 0
    assert mine.url.encode() in said
    assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_up_says_why_it_cannot_start(service: Service) -> None:
    taken = service.shoal("up", "--port", str(service.port))
    missing = service.shoal("up", "--detach", "--port", str(free_port()), "--model", "no-such-model")
    assert (taken.returncode, missing.returncode) == (1, 1)
    assert f"shoal down --port {service.port}" in taken.stderr
    assert "no-such-model" in missing.stderr
    assert "shoal models import" in missing.stderr


def test_status_and_run_speak_of_the_running_instance(service: Service) -> None:
    status = service.shoal("status", "--json", "--port", str(service.port))
    answer = service.shoal("run", "--port", str(service.port), "Tell me the capital of France.")
    assert '"shoal_engine_slots_used": 0' in status.stdout
    assert "Paris" in answer.stdout
