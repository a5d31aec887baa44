"""Clouds for tests: real clients, asked over a socket, with drafts that the real guard has cleared."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from replicas.cloud.answer import Cloud, CloudChunk, CloudFinal, Native, Spent
from replicas.cloud.anthropic import AnthropicCloud
from replicas.cloud.endpoint import Endpoint
from replicas.cloud.openai import OpenAICloud
from replicas.cloud.release import CloudKind, Draft, Releasable, release
from replicas.engine import Chunk
from replicas.errors import ShoalError
from router.privacy.guard import Guard, Marking
from tests.cluster.upstream.played import QUESTION, playing

KEY = "test-key"
ENVIRONMENT = {"FAR_KEY": KEY}
PATHS: dict[CloudKind, str] = {"anthropic": "", "openai": "/v1"}
KINDS: list[CloudKind] = ["anthropic", "openai"]
ROUTER = "/api/v1"


def endpoint(url: str, quiet_s: float = 30.0) -> Endpoint:
    return Endpoint("far", url, "FAR_KEY", quiet_s)


def cloud(kind: CloudKind, at: Endpoint, environment: Mapping[str, str] = MappingProxyType(ENVIRONMENT)) -> Cloud:
    return AnthropicCloud(at, environment) if kind == "anthropic" else OpenAICloud(at, environment)


def question(kind: CloudKind, *, is_stream: bool = True, **more: object) -> dict[str, object]:
    """A body that asks QUESTION."""
    usage = {"stream_options": {"include_usage": True}} if kind == "openai" and is_stream else {}
    said = {"model": "test", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 2000}
    return {**said, "stream": is_stream, **usage, **more}


def cleared(
    kind: CloudKind, body: dict[str, object], deadline_s: float = 30.0, headers: tuple[tuple[str, str], ...] = ()
) -> Releasable:
    draft = Draft("x", kind, json.dumps(body).encode(), headers, deadline_s)
    return release(draft, Guard().clear(draft, Marking("x")))


@dataclass
class Got:
    """All that came of one request."""

    chunks: list[Chunk] = field(default_factory=list)
    error: ShoalError | None = None
    spent: Spent = field(default_factory=Spent)

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def final(self) -> CloudFinal:
        last = self.chunks[-1].final
        assert isinstance(last, CloudFinal), self.error
        return last

    @property
    def natives(self) -> list[Native]:
        return [chunk.native for chunk in self.chunks if isinstance(chunk, CloudChunk) and chunk.native is not None]

    @property
    def calls(self) -> list[tuple[str, object]]:
        """Names and arguments; fails if the pieces of a call are not together."""
        pieces = [chunk.call for chunk in self.chunks if chunk.call is not None]
        assert [piece.index for piece in pieces] == sorted(piece.index for piece in pieces)
        found: list[tuple[str, str]] = []
        for piece in pieces:
            if piece.name is not None:
                found.append((piece.name, ""))
            assert piece.index == len(found) - 1
            found[-1] = (found[-1][0], found[-1][1] + piece.arguments)
        return [(name, json.loads(arguments)) for name, arguments in found]


async def asked(kind: CloudKind, sent: Releasable, at: Endpoint) -> Got:
    """Ask once and read to the end, or to the error."""
    got, far = Got(), cloud(kind, at)
    answer = far.ask(sent)
    try:
        async for chunk in answer:
            got.chunks.append(chunk)
    except ShoalError as error:
        got.error = error
    finally:
        await answer.aclose()
        await far.close()
    got.spent = answer.spent
    return got


def told(kind: CloudKind, script: str = "", *, is_stream: bool = True, path: str | None = None, **more: object) -> Got:
    """The answer of an upstream that plays the YAML `script`."""
    with playing(script) as played:
        at = endpoint(played.url + (PATHS[kind] if path is None else path))
        return asyncio.run(asked(kind, cleared(kind, question(kind, is_stream=is_stream, **more)), at))
