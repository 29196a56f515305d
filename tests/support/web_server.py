"""A web server on this machine that can misbehave in every way that a download must survive."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Server:
    """Serves the files of `root` on 127.0.0.1 and does what its fields say; `requests` holds path and headers."""

    root: Path
    port: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    """Honour Range and If-Range."""
    etag: str = '"1"'
    modified: str = ""
    """The Last-Modified header, if there is to be one."""
    cut_after: int | None = None
    """Hang up after so many bytes of a body, the announced length notwithstanding."""
    cuts: int | None = None
    """How many times it hangs up; None: each time."""
    range_error: int = 0
    """Added to the first byte of each range that is sent."""
    length_error: int = 0
    """Added to the Content-Length that is announced."""
    length: str = ""
    """Announced in its place."""
    chunked: bool = False
    """Send bodies in chunks, without their length."""
    statuses: list[int] = field(default_factory=list)
    """Answer the next requests with these, without a body."""
    drip: str = ""
    """What is sent without end, one byte after another, in small pauses: "head" or "body", or "continue" for 100s."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when the tests are through."""
    redirects: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the root, with a slash at its end."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def ranges_asked(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [headers.get("range") for _, headers in self.requests]


def _answer(server: Server, handler: http.server.BaseHTTPRequestHandler) -> None:
    headers = {key.lower(): value for key, value in handler.headers.items()}
    server.requests.append((handler.path, headers))
    handler.close_connection = True

    def head(status: int, fields: dict[str, str]) -> None:
        handler.send_response(status)
        for key, value in {**fields, "Connection": "close"}.items():
            handler.send_header(key, value)
        handler.end_headers()

    if server.drip:
        return _drip(server, handler)
    if server.statuses:
        return head(server.statuses.pop(0), {"Content-Length": "0", "Content-Range": "bytes */0"})
    if handler.path in server.redirects:
        return head(302, {"Location": server.redirects[handler.path], "Content-Length": "0"})
    file = server.root / handler.path.partition("?")[0].lstrip("/")
    if not file.is_file():
        return head(404, {"Content-Length": "0"})
    body, status, fields = file.read_bytes(), 200, {"ETag": server.etag}
    if server.modified:
        fields["Last-Modified"] = server.modified
    asked = headers.get("range", "")
    if asked and server.ranges and headers.get("if-range", server.etag) in (server.etag, server.modified):
        first = int(asked.removeprefix("bytes=").rstrip("-")) + server.range_error
        if first >= len(body):
            return head(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        status, fields["Content-Range"] = 206, f"bytes {first}-{len(body) - 1}/{len(body)}"
        body = body[first:]
    if server.chunked:
        fields["Transfer-Encoding"] = "chunked"
    else:
        fields["Content-Length"] = server.length or str(len(body) + server.length_error)
    head(status, fields)
    cut = server.cut_after is not None and server.cuts != 0
    if cut and server.cuts is not None:
        server.cuts -= 1
    sent = body[: server.cut_after] if cut else body
    if server.chunked:
        sent = b"%x\r\n%b\r\n" % (len(sent), sent) + (b"" if cut else b"0\r\n\r\n")
    handler.wfile.write(sent)
    return None


def _drip(server: Server, handler: http.server.BaseHTTPRequestHandler) -> None:
    ok = b"HTTP/1.1 200 OK\r\n"
    start = {"head": ok + b"X-A: ", "body": ok + b"Connection: close\r\n\r\n", "continue": b""}
    piece = b"HTTP/1.1 100 Continue\r\n\r\n" if server.drip == "continue" else b"x"
    with contextlib.suppress(OSError):  # until the client hangs up
        handler.wfile.write(start[server.drip])
        while not server.stopped.wait(0.01):
            handler.wfile.write(piece)


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Server]:
    """Serve `root` as long as the block lasts."""
    server = Server(root)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(server, self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up is part of the tests

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            listener.shutdown()
            thread.join()
