"""A client's HTTP connection: errors become the classes that the service raised, and what breaks is retried.

Everything the client sends may be sent twice (submits carry an idempotency key). A connection that worked once and
breaks is made again for up to `RECONNECT_S`; one that never did means a wrong URL, and is told at once.
"""

import time
from collections.abc import Iterator, Mapping

import httpx

from cluster.environment import credentials
from cluster.swarm.error_wire import read_error
from replicas.errors import Forbidden, Unauthenticated, Unavailable

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
SILENCE = httpx.Timeout(45.0, connect=5.0)  # of an event stream; the service pings every 10 s
RECONNECT_S = 60.0
FIRST_WAIT_S = 0.1
MOST_WAIT_S = 2.0
HTTP_ERRORS = 400


class Connection:
    """Requests to the service at `url`."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        """`api_key` None: that of the environment, if there is one."""
        self.url = url.rstrip("/")
        headers = credentials() if api_key is None else {"x-api-key": api_key}
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT, trust_env=False, headers=headers)
        self._has_worked = False
        self._has_spoken = False

    def close(self) -> None:
        """Close it."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """The body of a response. Raises ShoalError."""
        return self._ask("GET", path, params=params)

    def post(self, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """The body of a response. Raises ShoalError."""
        return self._ask("POST", path, body=body, headers=headers)

    def lines(self, path: str, params: Mapping[str, str]) -> Iterator[str]:
        """The lines of a response as they come. Raises ShoalError, and httpx.TransportError if it breaks."""
        with self._http.stream("GET", path, params=dict(params), timeout=SILENCE) as response:
            if response.status_code >= HTTP_ERRORS:
                response.read()
                _raise(response)
            self._has_worked = True
            for line in _lines(response.iter_text()):
                self._has_spoken = True
                yield line

    def unavailable(self, error: Exception) -> Unavailable:
        """What to tell when nothing answers."""
        words = str(error) or type(error).__name__
        return Unavailable(f"the service at {self.url}", f"is `shoal up` running there? ({words})")

    def has_spoken(self) -> bool:
        """Whether a stream has said anything since this was last asked; a ping counts."""
        spoken, self._has_spoken = self._has_spoken, False
        return spoken

    def patience(self) -> "Patience":
        """How long to wait for the service from now on."""
        return Patience(RECONNECT_S if self._has_worked else 0.0)

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        patience = self.patience()
        while True:
            try:
                response = self._http.request(method, path, params=params, content=body, headers=headers)
            except httpx.TransportError as error:
                if not patience.waits():
                    raise self.unavailable(error) from error
                continue
            except httpx.InvalidURL as error:
                raise self.unavailable(error) from error
            if response.status_code >= HTTP_ERRORS:
                _raise(response)
            self._has_worked = True
            return response.content


def admitted(answer: httpx.Response) -> httpx.Response:
    """`answer`, to a question that only an operator may ask. Raises Unauthenticated with the way to become one."""
    if answer.status_code in (Unauthenticated.status, Forbidden.status):
        raise Unauthenticated(f"{answer.url.copy_with(path='/')} wants an API key of scope admin in SHOAL_API_KEY")
    return answer


class Patience:
    """Waits between attempts, a little longer each time, until `total_s` have passed."""

    def __init__(self, total_s: float) -> None:
        self._ends_at = time.monotonic() + total_s
        self._wait_s = FIRST_WAIT_S

    def waits(self) -> bool:
        """Wait; False at once if there was enough of it."""
        if time.monotonic() + self._wait_s > self._ends_at:
            return False
        time.sleep(self._wait_s)
        self._wait_s = min(MOST_WAIT_S, self._wait_s * 2)
        return True


def _raise(response: httpx.Response) -> None:
    raise read_error(response.status_code, response.content, response.headers.get("retry-after"))


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """Lines of server-sent events. Not `str.splitlines`, which also cuts at U+2028 and others that a text may hold."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from (line.removesuffix("\r") for line in lines)
    if rest:
        yield rest
