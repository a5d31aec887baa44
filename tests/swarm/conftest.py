"""The swarm routes on a socket with agents that a test holds by strings."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.swarm.answerers import Puppet
from tests.swarm.service import Service, serving


@pytest.fixture
def puppet() -> Puppet:
    """Answers the prompt `slow` when its gate is opened, others at once."""
    return Puppet(gates={"slow": asyncio.Event()})


@pytest.fixture
def service(tmp_path: Path, puppet: Puppet) -> Iterator[Service]:
    with serving(tmp_path, puppet.connect) as running:
        yield running
