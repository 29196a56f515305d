"""What every request over HTTP needs: which URLs are allowed, the environment's proxies, failures in a few words."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from exporter.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    import urllib3

# identity: some servers label .tar.gz as an encoding, and clients would unpack it
HEADERS = {"User-Agent": "cifar-export", "Accept-Encoding": "identity"}
CHECK_ADDRESS = "Check that address"
CHECK_NETWORK = "Check the network and its proxy settings, then run it again"


class NotFound(Unavailable):
    """The server answers, and has no such file."""


def check_url(url: str) -> None:
    """Raise `InvalidInput` for a URL other than http and https."""
    try:
        parts = urlsplit(url)
        supported = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        supported = False
    if not supported:
        raise InvalidInput(f"cannot download {url}: only http and https URLs with a host name are supported.")


def pool_for(url: str) -> urllib3.PoolManager:
    """Open connections for `url`, by way of the proxy that the environment names for it (urllib3 leaves that to us)."""
    import urllib3

    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return urllib3.PoolManager()
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    login = urlsplit(proxy)
    if login.username is None:
        return urllib3.ProxyManager(proxy)
    basic_auth = f"{unquote(login.username)}:{unquote(login.password or '')}"
    return urllib3.ProxyManager(proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=basic_auth))


def describe(error: Exception, host: str) -> str:
    """Say in a few words what urllib3 says in many."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.NameResolutionError):
        return f"the name {host} can't be resolved; there seems to be no network"
    if isinstance(error, exceptions.NewConnectionError):
        return f"no connection to {host} ({getattr(error.__cause__, 'strerror', None) or 'unreachable'})"
    if isinstance(error, exceptions.TimeoutError):
        return f"{host} does not answer in time"
    if isinstance(error, exceptions.ProtocolError):
        return f"{host} breaks off before the end"
    return f"{host}: {error}"  # TLS, proxies, too many redirects or server errors: urllib3 is brief about these


def unavailable(
    url: str, reason: str, remedy: str, hint: str = "", *, kind: type[Unavailable] = Unavailable
) -> Unavailable:
    """The error for a `url` that gives nothing: why, and the next steps."""
    return kind(f"cannot download {url}: {reason}.\n{remedy}{f'; {hint}' if hint else ''}.")
