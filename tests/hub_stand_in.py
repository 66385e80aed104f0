"""A stand-in of the Hugging Face Hub that speaks its HTTP interface on this machine."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

# Users by token.
TOKENS = {"token-of-user": "user", "token-of-other": "other"}


class Repo:
    """Branches of a repository, and the files of each commit."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.gated = False
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{branch} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class Hub:
    """The server. Its repositories are in `repos`, and the requests that it got in `requests`."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.is_down = False

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve, and yield the address."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                hub.requests.append((self.command, self.path))
                headers = {}
                try:
                    headers, content = hub.respond(self.command, self.path, token, body)
                    status = 200
                except Refused as refused:
                    status, content = refused.status, b'{"error": "refused"}'
                    headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
                self.send_response(status)
                for name, value in headers.items():
                    if value:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = answer

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()

    def respond(
        self, method: str, path: str, token: str, body: bytes
    ) -> tuple[dict[str, str], bytes]:
        if self.is_down:
            raise Refused(500)
        if token and token not in TOKENS:
            raise Refused(401, message="Invalid credentials in Authorization header")
        match unquote(urlsplit(path).path).strip("/").split("/"):
            case ["api", "validate-yaml"]:
                return {}, b"{}"
            case ["api", "repos", "create"]:
                wanted = json.loads(body)
                owner = wanted["organization"] or TOKENS.get(token, "")
                name = f"{owner}/{wanted['name']}"
                self._check_owner(name, token)
                is_new = name not in self.repos
                if is_new:
                    self.repos[name] = Repo(wanted.get("visibility") == "private")
                answer = json.dumps({"url": f"https://huggingface.co/{name}"}).encode()
                return {}, answer
            case ["api", "models", owner, name, "branch", branch]:
                repo = self._writable(f"{owner}/{name}", token)
                if branch in repo.branches:
                    raise Refused(409)
                repo.commit(branch, dict(repo.files()))
                return {}, b""
            case ["api", "models", owner, name, "tree", revision]:
                files, _ = self._found(f"{owner}/{name}", token, revision)
                return {}, json.dumps(
                    [
                        {
                            "type": "file",
                            "path": path,
                            "size": len(content),
                            "oid": hashlib.sha1(content).hexdigest(),
                        }
                        for path, content in files.items()
                    ]
                ).encode()
            case ["api", "models", owner, name, "preupload", revision]:
                self._writable(f"{owner}/{name}", token)
                modes = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return {}, json.dumps({"files": modes}).encode()
            case ["api", "models", owner, name, "commit", branch]:
                repo = self._writable(f"{owner}/{name}", token)
                files = dict(repo.files(branch))
                for line in body.splitlines():
                    entry = json.loads(line)
                    value = entry["value"]
                    if entry["key"] == "deletedFolder":
                        files = {p: f for p, f in files.items() if not p.startswith(value["path"])}
                    elif entry["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                oid = repo.commit(branch, files)
                url = f"https://huggingface.co/{owner}/{name}/commit/{oid}"
                return {}, json.dumps({"commitUrl": url, "commitOid": oid}).encode()
            case [owner, name, "resolve", revision, *parts]:
                files, oid = self._found(f"{owner}/{name}", token, revision)
                file = files.get("/".join(parts))
                if file is None:
                    raise Refused(404, "EntryNotFound")
                etag = f'"{hashlib.sha1(file).hexdigest()}"'
                return {"X-Repo-Commit": oid, "ETag": etag}, file
        raise Refused(404)

    def _check_owner(self, name: str, token: str) -> None:
        if not token:
            raise Refused(401, message="Invalid username or password.")
        if name.split("/")[0] != TOKENS[token]:
            raise Refused(403, message="You don't have the rights to create a model")

    def _writable(self, name: str, token: str) -> Repo:
        self._check_owner(name, token)
        return self.repos[name]

    def _found(self, name: str, token: str, revision: str) -> tuple[dict[str, bytes], str]:
        repo = self.repos.get(name)
        if repo is None or (repo.private and TOKENS.get(token) != name.split("/")[0]):
            raise Refused(401 if not token else 404, "RepoNotFound")
        if repo.gated:
            raise Refused(403, "GatedRepo")
        oid = repo.branches.get(revision, revision)
        if oid not in repo.commits:
            raise Refused(404, "RevisionNotFound")
        return repo.commits[oid], oid
