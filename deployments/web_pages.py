"""Keeps web pages away from an instance without keys. A page that somebody opens in a browser can send requests to
this machine; where callers have to show a key it has none, and nothing here is needed.

Three ways in: another page's script (it carries `Origin` or `Sec-Fetch-Site`), a form (its content type is one of
three), and a domain of the page's own that is made to point at this machine (DNS rebinding: `Host` is that domain).
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from deployments.plan import HttpPlan
from replicas.errors import Forbidden, InvalidRequest

FORMS = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
"""What a page can send anywhere without being asked (https://fetch.spec.whatwg.org/#cors-safelisted-request-header)."""

ELSEWHERE = frozenset({"cross-site", "same-site"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def refuse_web_pages(method: str, headers: Mapping[str, str], http: HttpPlan) -> None:
    """Raises Forbidden or InvalidRequest if a page may be behind a request; header names in lower case."""
    host = headers.get("host", "")
    if not _is_ours(host, http):
        raise Forbidden(f"the service is not called {host}: http.allowed_hosts lists its names")
    origin = headers.get("origin")
    if origin is not None and origin not in http.allowed_origins and not _is_same(origin, host):
        raise Forbidden(f"pages of {origin} may not use the service: http.allowed_origins lists those that may")
    if origin is None and headers.get("sec-fetch-site") in ELSEWHERE:
        raise Forbidden("pages of other sites may not use the service: http.allowed_origins lists those that may")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method in WITH_BODY and kind in FORMS:
        raise InvalidRequest(f"content-type is {kind}; send application/json", "content-type")


def _is_ours(host: str, http: HttpPlan) -> bool:
    """Whether nobody can have made a domain of that name: an address, a name without a dot, or one that is listed."""
    name = _name(host)
    if not host or (name is not None and name in {http.host, *http.allowed_hosts}):
        return True
    if name is None:
        return False
    return "." not in name or name.endswith(".localhost") or _is_address(name)


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str) -> bool:
    return origin.lower() in {f"http://{host}".lower(), f"https://{host}".lower()}
