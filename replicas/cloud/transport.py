"""The connections to clouds: aiohttp's, under httpx2's client. Its parser is C, and takes a third of the time.

Nothing is retried, redirected or decompressed here. Proxies are those of the environment when the first request leaves.
"""

import ssl
from collections.abc import AsyncIterator
from types import MappingProxyType, SimpleNamespace
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from yarl import URL

from replicas.cloud.sending import Sending, watched

CONNECTIONS = 1000
"""As many as the anthropic package has."""
KEEP_S = 30.0
"""An idle connection is kept so long; services close theirs after about a minute."""
OWN_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
"""What aiohttp would say for itself."""
READ_BYTES = 2**18

_NO_LIMITS: MappingProxyType[str, float | None] = MappingProxyType({})


class Transport(httpx2.AsyncBaseTransport):
    """Belongs to one event loop. Raises httpx2's errors."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request`; the body of the response comes as it is read. Raises httpx2.TransportError."""
        limits = request.extensions.get("timeout", _NO_LIMITS)
        timeout = aiohttp.ClientTimeout(None, sock_connect=limits.get("connect"), sock_read=limits.get("read"))
        try:
            response = await self._opened(request.url.scheme).request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=await request.aread(),
                allow_redirects=False,
                timeout=timeout,
                proxy=self._proxy(request.url),
                trace_request_ctx=watched(),
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _told(error) from error
        return httpx2.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        if self._session is not None:
            await self._session.close()

    def _opened(self, scheme: str) -> aiohttp.ClientSession:
        """The session, made when it is needed: that wants a loop, and certificates take a while to read."""
        if self._session is None:
            self._proxies = getproxies()
            trusted: ssl.SSLContext | bool = httpx2.create_ssl_context() if scheme == "https" else True
            tracing = aiohttp.TraceConfig()
            tracing.on_request_chunk_sent.append(_note_sent)
            self._session = aiohttp.ClientSession(
                trace_configs=[tracing],
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_S, ssl=trusted),
                skip_auto_headers=OWN_HEADERS,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # it would send what ~/.netrc has for a host
                read_bufsize=READ_BYTES,
            )
        return self._session

    def _proxy(self, url: httpx2.URL) -> str | None:
        """The proxy on the way to `url`, if there is one."""
        return None if not self._proxies or proxy_bypass(url.host) else self._proxies.get(url.scheme)


class _Body(httpx2.AsyncByteStream):
    """The body of a response. A connection that is read to its end is used again, any other is closed."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.content.iter_any():
                yield part
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _told(error) from error

    async def aclose(self) -> None:
        self._response.close()


async def _note_sent(
    _: aiohttp.ClientSession, context: SimpleNamespace, sent: aiohttp.TraceRequestChunkSentParams
) -> None:
    if isinstance(context.trace_request_ctx, Sending):
        context.trace_request_ctx.is_sent = True


def _told(error: Exception) -> httpx2.TransportError:
    """An error of aiohttp as one of httpx2's, without its words, which name addresses."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx2.ConnectTimeout("the connection was not made in time")
    if isinstance(error, TimeoutError):
        return httpx2.ReadTimeout("nothing came in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return httpx2.ConnectError("no connection could be made")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientResponseError):
        return httpx2.RemoteProtocolError("the answer broke off, or is no HTTP")
    return httpx2.ReadError("the connection failed")
