"""Requests over HTTP: which URLs are allowed, logins and proxies, what is tried again, failures in a few words."""

from __future__ import annotations

import contextlib
import re
import urllib.request
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..errors import InvalidInput, Unavailable
from .pace import watch_heads

if TYPE_CHECKING:
    import urllib3

# identity: some servers label .tar.gz as an encoding, and clients would unpack it
HEADERS = {"User-Agent": "cifar-export", "Accept-Encoding": "identity"}
CHECK_ADDRESS = "Check that address"
CHECK_NETWORK = "Check the network and its proxy settings, then run it again"
BACKOFF_SECONDS = 0.5
MAX_REDIRECTS = 5
MAX_TRIES = 4
"""Requests without a single new byte until it is given up; each new byte starts the count again."""
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
_LOGIN = re.compile(r"(?<=//)[^/?#\s]*@")
_QUERY = re.compile(r"(://[^?#\s]*\?)[^#\s]+")


class NotFound(Unavailable):
    """The server answers, and has no such file."""


def check_url(url: str) -> None:
    """Raise `InvalidInput` for a URL other than http and https, or with white space in it."""
    try:
        parts = urlsplit(url)
        supported = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        supported = False
    # Not parseable as a URL, so we cannot tell which part is a password: show nothing.
    shown = "what was given (not shown: it may hold a password)" if set("@?") & set(url) else repr(url)
    if not supported:
        raise InvalidInput(f"cannot download {shown}: only http and https URLs with a host name are supported.")
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        raise InvalidInput(
            f"cannot download {shown}: it contains a blank or an unprintable character. Write a blank as %20."
        )


def without_secrets(text: str) -> str:
    """`text` without the logins and queries of the URLs in it: messages get into logs, and a query may be a token."""
    return _QUERY.sub(r"\1...", _LOGIN.sub("...@", text))


def _headers_for(url: str) -> dict[str, str]:
    """The headers of a request for `url`; a login in it, `https://user:password@host/`, is sent as basic auth.

    urllib3 sends no such login by itself, and does not pass the header on when it is redirected to another host.
    """
    import urllib3

    login = urlsplit(url)
    if login.username is None:
        return dict(HEADERS)
    basic_auth = f"{unquote(login.username)}:{unquote(login.password or '')}"
    return {**HEADERS, **urllib3.make_headers(basic_auth=_as_utf8(basic_auth))}


def _as_utf8(text: str) -> str:
    """`text` such that urllib3, which sends Latin-1, sends UTF-8 (RFC 7617, section 2.1)."""
    return text.encode().decode("latin-1")


def _pool_for(url: str) -> urllib3.PoolManager:
    """Open connections for `url`, by way of the proxy that the environment names for it (urllib3 leaves that to us)."""
    import urllib3

    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return urllib3.PoolManager()
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    login = urlsplit(proxy)
    if login.username is None:
        return urllib3.ProxyManager(proxy)
    basic_auth = f"{unquote(login.username)}:{unquote(login.password or '')}"
    return urllib3.ProxyManager(proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=_as_utf8(basic_auth)))


@contextlib.contextmanager
def response_to(url: str, timeout: float, more: Mapping[str, str] | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
    """The response to a request, with `more` headers, that is tried again as above; its body is not read yet.

    Raises urllib3's HTTPError.
    """
    import urllib3

    again = MAX_TRIES - 1
    retries = urllib3.Retry(
        total=again + MAX_REDIRECTS,  # of all kinds: it goes before the others
        connect=again,
        read=again,
        status=again,
        other=again,
        redirect=MAX_REDIRECTS,
        status_forcelist=RETRIED_STATUSES,
        backoff_factor=BACKOFF_SECONDS,
        respect_retry_after_header=False,  # it may ask for hours
    )
    headers = {**_headers_for(url), **(more or {})}
    with _pool_for(url) as pool:
        watch_heads(pool)
        try:
            request = pool.request("GET", url, headers=headers, preload_content=False, retries=retries, timeout=timeout)
        except ValueError as error:  # also urllib3's own: an address without a host, of another scheme
            raise urllib3.exceptions.HTTPError("it redirects to something that is no http or https address") from error
        with contextlib.closing(request) as response:
            yield response


def describe(error: Exception, host: str) -> str:
    """Say in a few words what urllib3 says in many."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.MaxRetryError) and error.reason:
        host = getattr(error.pool, "host", None) or host  # it may have been redirected
        error = error.reason
    if isinstance(error, exceptions.NameResolutionError):
        return f"the name {host} can't be resolved; there seems to be no network"
    if isinstance(error, exceptions.NewConnectionError):
        return f"no connection to {host} ({getattr(error.__cause__, 'strerror', None) or 'unreachable'})"
    if isinstance(error, exceptions.TimeoutError):
        return f"{host} does not answer in time"
    if isinstance(error, exceptions.ProtocolError):
        return f"{host} breaks off before the end"
    # TLS, proxies, too many redirects or server errors: urllib3 is brief about these
    return without_secrets(f"{host}: {error}")


def unavailable(
    url: str, reason: str, remedy: str, hint: str = "", *, kind: type[Unavailable] = Unavailable
) -> Unavailable:
    """The error for a `url` that gives nothing: why, and the next steps."""
    return kind(f"cannot download {without_secrets(url)}: {reason}.\n{remedy}{f'; {hint}' if hint else ''}.")
