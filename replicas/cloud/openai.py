"""Any service that speaks OpenAI's chat completions: OpenAI, OpenRouter, vLLM, llama.cpp's server, another Shoal.

The cleared body goes out to the byte. Redirects are not followed: they would send a request where nobody cleared it
for. Retries are for a chain of clouds to decide about.
"""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import httpx2

from replicas.cloud.completions import CompletionsReader
from replicas.cloud.connection import CloudAnswer, Deadline, answer_of, body_of, broken, chunks_of, wants_stream
from replicas.cloud.endpoint import Endpoint
from replicas.cloud.reader import Reader
from replicas.cloud.refusal import refusal
from replicas.cloud.release import Asking, Draft, Releasable
from replicas.cloud.sending import Sending, watching
from replicas.cloud.transport import Transport
from replicas.engine import Chunk

PATHS: Mapping[Asking, str] = {
    "conversation": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "content-type": "application/json",
    "user-agent": "shoal",
}


class OpenAICloud:
    """The service at `endpoint`. Raises Unavailable if its key is not in the environment. Belongs to one event loop."""

    def __init__(self, endpoint: Endpoint, environment: Mapping[str, str] = os.environ) -> None:
        key = endpoint.key(environment)
        self._endpoint = endpoint
        url = endpoint.base_url.rstrip("/")
        self._urls = {asking: httpx2.URL(url + path) for asking, path in PATHS.items()}
        self._headers = {**HEADERS, "authorization": f"Bearer {key}"} if key else HEADERS
        self._transport = Transport()

    def ask(self, sent: Releasable) -> CloudAnswer:
        """The answer to `sent`, a body of the chat completions protocol."""
        assert sent.draft.kind == "openai", "a draft is written for the protocol of its cloud"
        reader = CompletionsReader(self._endpoint.name, sent.draft.id)
        sending = Sending()
        return CloudAnswer(self._chunks(sent.draft, reader, sending), reader, sending)

    async def fetch(self, sent: Releasable) -> bytes:
        """The whole body of the answer to `sent`."""
        assert sent.draft.kind == "openai", "a draft is written for the protocol of its cloud"
        deadline = Deadline(sent.draft.deadline_s)
        return await answer_of(await self._taken(sent.draft, deadline), deadline, self._endpoint.name)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def _chunks(self, draft: Draft, reader: Reader, sending: Sending) -> AsyncGenerator[Chunk, None]:
        deadline = Deadline(draft.deadline_s)
        with watching(sending):
            response = await self._taken(draft, deadline)
        async with aclosing(chunks_of(response, reader, deadline, self._endpoint.name)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _taken(self, draft: Draft, deadline: Deadline) -> httpx2.Response:
        """The response, once the service has taken the request; its body is still to come."""
        response = await self._sent(draft, deadline)
        if response.status_code != httpx2.codes.OK:
            body = await body_of(response, deadline)
            raise refusal(self._endpoint.name, response.status_code, response.headers, body)
        return response

    async def _sent(self, draft: Draft, deadline: Deadline) -> httpx2.Response:
        read_s = self._endpoint.quiet_s if wants_stream(draft.body) else None
        request = httpx2.Request(
            "POST",
            self._urls[draft.asking],
            content=draft.body,
            headers={**dict(draft.headers), **self._headers},
            extensions={"timeout": {"connect": self._endpoint.connect_s, "read": read_s}},
        )
        try:
            return await deadline.wait(self._transport.handle_async_request(request))
        except httpx2.HTTPError as error:
            raise broken(self._endpoint.name, error) from error
