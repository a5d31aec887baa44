"""Adapters of a real instance: unloaded and loaded by command while it runs; a replica that starts later is told."""

import httpx
import pytest

from tests.cluster.conftest import MODEL, Service
from tests.cluster.test_service_faults import wait_until

pytestmark = pytest.mark.cluster

TOOLS = f"{MODEL}:tools"
WEATHER = {"name": "weather", "description": "Tell the weather", "parameters": {"type": "object", "properties": {}}}


def status(service: Service, model: str, **fields: object) -> int:
    asked = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "Weather?"}], **fields}
    return httpx.post(f"{service.url}/v1/chat/completions", json=asked, timeout=120).status_code


def test_the_adapter_of_a_running_model_goes_and_comes_back(service: Service) -> None:
    port = ("--port", str(service.port))
    assert service.shoal("adapters", "unload", TOOLS, *port).returncode == 0
    try:
        [engine] = service.engines(MODEL).values()
        assert engine["adapters"] == []
        assert status(service, TOOLS) == 404
        assert status(service, MODEL, tools=[{"type": "function", "function": WEATHER}]) == 200
    finally:
        loaded = service.shoal("adapters", "load", TOOLS, *port)
    assert (loaded.returncode, loaded.stdout) == (0, f"{TOOLS}: loaded on 1 replica\n")
    assert status(service, TOOLS) == 200


def test_a_replica_in_the_place_of_a_killed_one_has_not_what_was_unloaded(service: Service) -> None:
    port = ("--port", str(service.port))
    assert service.shoal("adapters", "unload", TOOLS, *port).returncode == 0
    before = set(service.engines(MODEL))
    service.worker(f"ray::ServeReplica:shoal:OnnxPool-{MODEL}").kill()
    try:
        assert wait_until(lambda: bool(set(service.engines(MODEL)) - before))
        assert wait_until(lambda: [engine["adapters"] for engine in service.engines(MODEL).values()] == [[]])
        assert status(service, TOOLS) == 404
    finally:
        loaded = service.shoal("adapters", "load", TOOLS, *port)
    assert (loaded.returncode, status(service, TOOLS)) == (0, 200)
