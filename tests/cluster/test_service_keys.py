"""Keys on a real instance: the ingress opens the store, and what was used is in it when the instance is gone."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.conftest import Service, free_port

pytestmark = pytest.mark.cluster

SETTINGS = """
http: {host: 0.0.0.0, port: %d}
models: [{name: echo, cpus_per_replica: 0.05, engine: {kind: echo}}]
"""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Service]:
    """An instance that other machines could reach, not started yet."""
    planned = Service(tmp_path / "home", free_port())
    (tmp_path / "shoal.yaml").write_text(SETTINGS % planned.port)
    yield planned
    planned.shoal("down", "--port", str(planned.port))


def status(service: Service, headers: dict[str, str]) -> int:
    body = {"messages": [{"role": "user", "content": "twelve"}], "max_tokens": 5}
    return httpx.post(f"{service.url}/v1/chat/completions", json=body, headers=headers, timeout=30).status_code


def test_an_instance_that_others_reach_wants_keys_and_counts_what_they_use(outside: Service, tmp_path: Path) -> None:
    up = ("up", "--detach", "--config", str(tmp_path / "shoal.yaml"))
    refused = outside.shoal(*up)
    assert (refused.returncode, "shoal keys create" in refused.stderr) == (1, True)
    made = json.loads(outside.shoal("keys", "create", "test", "--limit", "requests_per_minute=1", "--json").stdout)
    assert outside.shoal(*up).returncode == 0
    statuses = [status(outside, {}), *(status(outside, {"x-api-key": made["key"]}) for _ in range(2))]
    assert statuses == [401, 200, 429]
    outside.shoal("down", "--port", str(outside.port))
    [listed] = json.loads(outside.shoal("keys", "list", "--json").stdout)
    assert (listed["used"]["requests"], listed["used"]["tokens"] > 0) == (1, True)
