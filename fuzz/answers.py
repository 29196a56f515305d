"""What a server answers a download with: status lines, headers, chunks."""

import os
import socket
import threading

import atheris
from harness import fuzz, memory_folder

os.environ["no_proxy"] = "*"
with atheris.instrument_imports(include=["cifar_export.system"]):
    from cifar_export.system import download, http

from cifar_export.errors import CifarExportError

http.BACKOFF_SECONDS = 0.0  # nobody is spared here, and the pauses between tries were most of the time
FOLDER = memory_folder()
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of b"test"
server = socket.create_server(("127.0.0.1", 0))
URL = f"http://127.0.0.1:{server.getsockname()[1]}/file"
answer = b""


def serve() -> None:
    while True:
        connection, _ = server.accept()
        try:
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            connection.close()


def target(data: bytes) -> None:
    global answer
    answer = data
    path = FOLDER / "file"
    try:
        download.download(URL, path, sha256_prefix=SHA256, max_bytes=1 << 16)
        if path.read_bytes() != b"test":
            raise AssertionError("other bytes than those asked for were taken")
    finally:
        for left in FOLDER.iterdir():
            left.unlink()


threading.Thread(target=serve, daemon=True).start()
SEEDS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntest",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntest\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-3/4\r\nContent-Length: 2\r\n\r\nst",
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\n\r\n",
)
fuzz("answers", target, SEEDS, (CifarExportError,))
