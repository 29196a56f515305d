"""A stand-in for the Hugging Face Hub on this machine: as much of its protocol as its library uses here."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".onnx", ".pb", ".pt", ".pt2", ".safetensors", ".gz")
"""What is sent by itself, before the commit that names its digest."""


@dataclass
class Hub:
    """`repos`: by "ORG/NAME", by commit, content by path; `refs`: commits by (repository, branch or tag)."""

    port: int = 0
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refs: dict[tuple[str, str], str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers."""
    token: str | None = None
    """Without it, in a header, nothing is shown or taken."""
    failing: dict[str, int] = field(default_factory=dict)
    """Answer requests whose path holds that text with this status."""
    meanwhile: dict[str, bytes] = field(default_factory=dict)
    """Files that somebody else commits just before the next commit."""
    lying_size: int | None = None
    """The size that is announced of every file."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Large files that were sent, by sha256."""
    messages: list[str] = field(default_factory=list)
    """Of the commits that were made."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, repo: str, files: dict[str, bytes], *tags: str) -> str:
        """A new commit with just these files; main and the `tags` name it."""
        commit = hashlib.sha1(repr((repo, sorted(files.items()))).encode(), usedforsecurity=False).hexdigest()
        self.repos.setdefault(repo, {})[commit] = files
        for ref in ("main", *tags):
            self.refs[repo, ref] = commit
        return commit

    def files(self, repo: str) -> dict[str, bytes]:
        """What is in main."""
        return self.repos[repo][self.refs[repo, "main"]]


def _answer(hub: Hub, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and content (bytes, or what becomes JSON) for a request."""
    if method == "PUT" and path.rpartition("/")[2] == hashlib.sha256(body).hexdigest() and "/large/" not in hub.failing:
        hub.blobs[path.rpartition("/")[2]] = body  # such addresses need no login
        return 200, {}, b""
    status = next((status for text, status in hub.failing.items() if text in path), None)
    if status is not None:
        return status, {}, {"error": "told to"}
    if hub.token is not None and headers.get("authorization") != f"Bearer {hub.token}":
        return 401, {"X-Error-Message": "Invalid username or password."}, {"error": "no"}
    if path.endswith("/info/lfs/objects/batch"):
        return 200, {}, {"objects": [_room(hub, one) for one in json.loads(body)["objects"]]}
    if path == "/api/validate-yaml":
        return 200, {}, {"errors": [], "warnings": []}
    parts = path.strip("/").split("/")
    api = parts[:2] == ["api", "models"]
    repo, verb, rest = "/".join(parts[2:4] if api else parts[:2]), *_verb(parts[4:] if api else parts[2:])
    if repo not in hub.repos:
        return 404, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
    revision, _, file = rest.partition("/")
    commit = hub.refs.get((repo, revision or "main"), revision)
    if commit not in hub.repos[repo]:
        return 404, {"X-Error-Code": "RevisionNotFound"}, {"error": "Invalid rev id"}
    files = hub.repos[repo][commit]
    if api and method == "POST":
        return _write(hub, repo, verb, body)
    if api and verb == "tree":
        return 200, {}, [_entry(hub, name, data) for name, data in sorted(files.items())]
    if api:
        return 200, {}, {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
    if file not in files:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, {"error": "Entry not found"}
    found = {"ETag": f'"{_oid(files[file])}"', "X-Repo-Commit": commit}
    if hub.lying_size is not None and method == "HEAD":
        found |= {"X-Linked-Size": str(hub.lying_size), "X-Linked-Etag": found["ETag"]}
    return 200, found, files[file]


def _room(hub: Hub, wanted: dict[str, Any]) -> dict[str, Any]:
    """Where a large file is to be sent."""
    upload = {"href": f"{hub.url}/large/{wanted['oid']}", "header": {}}
    return {"oid": wanted["oid"], "size": wanted["size"], "actions": {"upload": upload}}


def _verb(parts: list[str]) -> tuple[str, str]:
    return (parts[0], "/".join(parts[1:])) if parts else ("", "")


def _write(hub: Hub, repo: str, verb: str, body: bytes) -> tuple[int, dict[str, str], Any]:
    if verb == "preupload":
        there = {name: _oid(data) for name, data in hub.files(repo).items()}
        paths = [one["path"] for one in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
        answers = [{"path": path, "uploadMode": modes[path], "oid": there.get(path)} for path in paths]
        return 200, {}, {"files": [{**one, "shouldIgnore": False} for one in answers]}
    lines = [json.loads(line) for line in body.splitlines()]
    if hub.meanwhile:
        hub.put(repo, {**hub.files(repo), **hub.meanwhile})
    parent = next(line["value"] for line in lines if line["key"] == "header").get("parentCommit")
    if parent not in (None, hub.refs[repo, "main"]):
        return 412, {}, {"error": "A commit has happened since"}
    files = dict(hub.files(repo))
    for line in lines:
        if line["key"] == "header":
            hub.messages.append(line["value"]["summary"])
        elif line["key"] == "file":
            files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        elif line["key"] == "lfsFile":
            files[line["value"]["path"]] = hub.blobs[line["value"]["oid"]]
        elif line["key"] == "deletedFile":
            del files[line["value"]["path"]]
    commit = hub.put(repo, files)
    return 200, {}, {"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{repo}/commit/{commit}"}


def _entry(hub: Hub, name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "oid": _oid(data), "size": hub.lying_size or len(data), "path": name}


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def serving_hub() -> Iterator[Hub]:
    """Serve as long as the block lasts."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, headers))
            status, fields, content = _answer(hub, self.command, path, headers, body)
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
            for key, value in {"Content-Type": kind, "Content-Length": str(len(sent)), **fields}.items():
                self.send_header(key, value)
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(sent)

        def do_GET(self) -> None:
            self._reply()

        def do_HEAD(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def do_PUT(self) -> None:
            self._reply()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        request_queue_size = 64  # the library asks for many files at once

    with Listener(("127.0.0.1", 0), Handler) as listener:
        hub.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            listener.shutdown()
            thread.join()
