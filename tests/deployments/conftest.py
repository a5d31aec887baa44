"""Async tests run on asyncio, by anyio's own pytest plugin; the vendors' SDKs have an edge to ask."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.deployments.served import serving


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An edge of the usual plan; a file that wants another one has a fixture of this name."""
    with serving() as served:
        yield served.url


@pytest.fixture
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="local", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def gpt(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="local", max_retries=0, timeout=20) as client:
        yield client
