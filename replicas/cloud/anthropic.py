"""Anthropic, by its own package: that knows the addresses, versions and credentials; bytes in and out are ours.

The cleared body goes out to the byte. The package neither retries nor follows redirects here: a chain of clouds decides
about the first, and the second would send a request where nobody cleared it for. Its debug log would hold whole
requests, so it is kept from writing them.
"""

import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from anthropic import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncAnthropic,
    AsyncStream,
    DefaultAsyncHttpxClient,
    Timeout,
)
from anthropic.types import RawMessageStreamEvent

from replicas.cloud.connection import CloudAnswer, Deadline, answer_of, body_of, chunks_of, wants_stream
from replicas.cloud.endpoint import Endpoint
from replicas.cloud.errors import CloudBroken, CloudSilent
from replicas.cloud.messages import MessagesReader
from replicas.cloud.reader import Reader
from replicas.cloud.refusal import refusal
from replicas.cloud.release import Asking, Draft, Releasable
from replicas.cloud.sending import Sending, watching
from replicas.cloud.transport import Transport
from replicas.engine import Chunk

PATHS: Mapping[Asking, str] = {"conversation": "/v1/messages", "count": "/v1/messages/count_tokens"}


class AnthropicCloud:
    """The service at `endpoint`. Raises Unavailable if its key is not in the environment. Belongs to one event loop."""

    def __init__(self, endpoint: Endpoint, environment: Mapping[str, str] = os.environ) -> None:
        logging.getLogger("anthropic._base_client").setLevel(logging.INFO)
        self._endpoint = endpoint
        self._client = AsyncAnthropic(
            api_key=endpoint.key(environment) or "none",
            base_url=endpoint.base_url.rstrip("/").removesuffix("/v1"),
            max_retries=0,
            open_telemetry=False,
            http_client=DefaultAsyncHttpxClient(transport=Transport(), follow_redirects=False),
        )

    def ask(self, sent: Releasable) -> CloudAnswer:
        """The answer to `sent`, a body of the Messages protocol."""
        assert sent.draft.kind == "anthropic", "a draft is written for the protocol of its cloud"
        reader = MessagesReader(self._endpoint.name, sent.draft.id)
        sending = Sending()
        return CloudAnswer(self._chunks(sent.draft, reader, sending), reader, sending)

    async def fetch(self, sent: Releasable) -> bytes:
        """The whole body of the answer to `sent`."""
        assert sent.draft.kind == "anthropic", "a draft is written for the protocol of its cloud"
        deadline = Deadline(sent.draft.deadline_s)
        stream = await self._sent(sent.draft, deadline)
        return await answer_of(stream.response, deadline, self._endpoint.name)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _chunks(self, draft: Draft, reader: Reader, sending: Sending) -> AsyncGenerator[Chunk, None]:
        deadline = Deadline(draft.deadline_s)
        with watching(sending):
            stream = await self._sent(draft, deadline)
        async with aclosing(chunks_of(stream.response, reader, deadline, self._endpoint.name)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _sent(self, draft: Draft, deadline: Deadline) -> AsyncStream[RawMessageStreamEvent]:
        name, quiet_s = self._endpoint.name, self._endpoint.quiet_s
        read_s = quiet_s if wants_stream(draft.body) else None
        asked = self._client.post(
            PATHS[draft.asking],
            cast_to=object,
            content=draft.body,
            options={
                "headers": {**dict(draft.headers), "content-type": "application/json"},
                "timeout": Timeout(quiet_s, connect=self._endpoint.connect_s, read=read_s),
            },
            stream=True,  # of the body's bytes: whether the answer is one is in the draft
            stream_cls=AsyncStream[RawMessageStreamEvent],
        )
        try:
            return await deadline.wait(asked)
        except APIStatusError as error:
            response = error.response
            body = response.content if response.is_stream_consumed else await body_of(response, deadline)
            raise refusal(name, response.status_code, response.headers, body) from None
        except APITimeoutError as error:
            raise CloudSilent(name) from error
        except APIConnectionError as error:
            raise CloudBroken(name, f"the connection failed ({type(error.__cause__).__name__})") from error
