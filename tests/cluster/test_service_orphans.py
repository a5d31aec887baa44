"""What is under way in the real service for somebody who is dead is ended: a client's, an ingress's, an operator's."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from tests.cluster.conftest import MODEL, Service, free_port
from tests.cluster.test_service_faults import ECHO_SETTINGS, is_ready, wait_until

pytestmark = pytest.mark.cluster


@contextmanager
def long_stream(service: Service) -> Iterator[None]:
    """A client that has read the head of an answer of thousands of tokens."""
    body = {"model": MODEL, "max_tokens": 4000, "stream": True, "ignore_eos": True}
    raw = json.dumps({**body, "messages": [{"role": "user", "content": "Count."}]}).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: shoal\r\ncontent-length: %d\r\n\r\n" % len(raw))
        client.sendall(raw)
        assert client.recv(12) == b"HTTP/1.1 200"
        yield


def test_a_client_that_leaves_frees_its_slot_and_its_neighbour_keeps_its_own(service: Service) -> None:
    with long_stream(service):
        with long_stream(service):
            assert wait_until(lambda: service.slots_used(MODEL) == 2)
        assert wait_until(lambda: service.slots_used(MODEL) == 1)
    assert wait_until(lambda: service.slots_used(MODEL) == 0)


def test_generations_of_a_killed_ingress_are_ended(service: Service) -> None:
    with ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(long_stream(service))
        assert wait_until(lambda: service.slots_used(MODEL) == 4)
        old = service.worker("ray::ServeReplica:shoal:Ingress")
        old.kill()
        assert wait_until(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE)
        assert wait_until(lambda: is_ready(service))
        assert wait_until(lambda: service.slots_used(MODEL) == 0, 20.0)  # 4000 tokens take a minute


def test_when_up_is_killed_its_replicas_go_and_its_port_can_be_used_again(service: Service) -> None:
    mine = Service(service.home, free_port())
    settings = service.home / "orphan.yaml"
    settings.write_text(ECHO_SETTINGS % (mine.port, 0))
    assert mine.shoal("up", "--detach", "--config", str(settings)).returncode == 0
    replicas = [mine.worker(f"ray::ServeReplica:shoal:{name}") for name in ("Ingress", "OnnxPool-echo")]
    mine.process().kill()
    down = mine.shoal("down", "--port", str(mine.port))
    assert down.returncode == 1, "there is no instance any more"
    # Ray's own two agents take a minute more: they hold no port and no model.
    assert wait_until(lambda: not [p for p in replicas if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], 60)
    again = mine.shoal("up", "--detach", "--config", str(settings))
    assert again.returncode == 0, again.stderr
    assert mine.shoal("down", "--port", str(mine.port)).returncode == 0
