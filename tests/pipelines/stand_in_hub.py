"""A Hugging Face hub of this machine: what huggingface_hub asks for, kept in memory.

In a test, `with StandInHub() as hub` and `hub.used(monkeypatch, cache)`. As a program, `python stand_in_hub.py` prints
the variables to set; its tokens are `hf_me`, who writes in `me/`, and `hf_guest`, who only reads.

Spoken: repositories (create, info, branches, the tree in pages), commits with deletions and pull requests, the
check of a card's header, Git LFS, and files with the headers that name commit and checksum. There is no Xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

USERS = {"hf_me": "me", "hf_guest": "guest"}
READERS = ("guest",)
LFS_ENDINGS = (".safetensors", ".onnx", ".bin", ".parquet", ".png")
LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "creativeml-openrail-m", "cc-by-4.0", "other")
PIPELINES = ("image-classification", "image-to-image", "unconditional-image-generation")
PAGE = 5
"""Entries of one page of a tree; the hub's has 1000."""

Files = dict[str, bytes]


def git_oid(content: bytes) -> str:
    """The name of a blob in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """Its commits, and the branches and tags that name some of them."""

    private: bool
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)
    pull_requests: int = 0

    def commit(self, files: Files, title: str, ref: str = "main") -> str:
        """Add a commit; returns its name."""
        self.titles.append(title)
        sha = hashlib.sha1(f"{len(self.titles)} {title}".encode()).hexdigest()
        self.commits[sha] = files
        self.refs[ref] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag or a commit's name."""
        return self.refs.get(revision, revision if revision in self.commits else None)


class StandInHub:
    """The server, in a thread.

    Attributes:
        repos: by kind (`models`, `datasets`) and name.
        asked: every request, `METHOD path`, without its query.
        tokens: every token that came.
        cuts: how often downloads of a file's name end early, by the name.
        down: answers 503 to everything.
    """

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.cuts: Counter[str] = Counter()
        self.down = False
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        # Large files lie on another host, which is sent no token.
        self.store = self.url.replace("127.0.0.1", "localhost")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> StandInHub:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        from huggingface_hub import close_session

        close_session()  # the connections that this process's client keeps, each of which a thread here waits for
        self._server.shutdown()
        self._server.server_close()

    def used(self, monkeypatch: Any, cache: Path, token: str | None = "hf_me") -> None:
        """Make huggingface_hub of this process ask here, with an empty cache, until the test ends."""
        from huggingface_hub import constants, hf_api
        from huggingface_hub.utils import disable_progress_bars

        for name, value in {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": str(cache / "token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", self.url)
        disable_progress_bars()
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)

    def environment(self, home: Path, token: str | None = "hf_me") -> dict[str, str]:
        """Variables with which another process asks here."""
        given = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
        return {**given, **({"HF_TOKEN": token} if token else {})}

    def make(self, name: str, files: Files, kind: str = "models", private: bool = False, gated: bool = False) -> Repo:
        """A repository that somebody else has filled."""
        repo = self.repos[kind, name] = Repo(private, gated)
        repo.commit(dict(files), "made")
        return repo

    def files(self, name: str, revision: str = "main", kind: str = "models") -> Files:
        """What a repository holds."""
        repo = self.repos[kind, name]
        return repo.commits[repo.refs.get(revision, revision)]


class Refused(Exception):
    """An answer that is none of success: status, the hub's code, and words."""


_REPO = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_FILE = r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)"
_ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", _REPO, "info"),
    ("GET", rf"{_REPO}/revision/(?P<revision>[^/]+)", "info"),
    ("GET", rf"{_REPO}/tree/(?P<revision>[^/]+)", "tree"),
    ("POST", rf"{_REPO}/branch/(?P<revision>[^/]+)", "branch"),
    ("POST", rf"{_REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{_REPO}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"{_FILE}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "upload"),
    ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", "verify"),
    ("GET", rf"{_FILE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("HEAD", rf"{_FILE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", r"/lfs/(?P<oid>[0-9a-f]{64})/(?P<path>.+)", "stored"),
    ("HEAD", r"/lfs/(?P<oid>[0-9a-f]{64})/(?P<path>.+)", "stored"),
)


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its head

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {url.path}")
        self.hub.tokens.append(self.token)
        try:
            if self.hub.down:
                raise Refused(503, "", "down")
            for method, pattern, name in _ROUTES:
                if method == self.command and (found := re.fullmatch(pattern, url.path)):
                    given = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                    getattr(self, f"_{name}")(**given)
                    return
            raise Refused(404, "", f"no such page: {self.command} {url.path}")
        except Refused as refused:
            status, code, words = refused.args
            self._answer({"error": words}, status, {"X-Error-Code": code, "X-Error-Message": words})

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, *words: Any) -> None:
        """Say nothing."""

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def user(self) -> str | None:
        """Who asks; 401 for a token that is none."""
        if self.token is not None and self.token not in USERS:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        return USERS.get(self.token or "")

    def repo(self, kind: str, name: str) -> Repo:
        """The repository, if the asker may see it; else the hub's answer, which does not tell whether it exists."""
        user, repo = self.user(), self.hub.repos.get((kind.strip("/"), name))
        if repo is None or (repo.private and user != name.partition("/")[0]):
            raise Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        return repo

    def writable(self, kind: str, name: str) -> Repo:
        repo = self.repo(kind, name)
        if self.user() != name.partition("/")[0] or self.user() in READERS:
            raise Refused(403, "", "You don't have the rights")
        return repo

    def at(self, repo: Repo, revision: str) -> str:
        if (sha := repo.resolve(revision)) is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _page(self, kind: str, name: str) -> str:
        return f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}"

    def _create(self) -> None:
        given = json.loads(self.body)
        user, kind = self.user(), f"{given.get('type', 'model')}s"
        if user is None:
            raise Refused(401, "", "Invalid username or password.")
        owner = given.get("organization") or user
        name = f"{owner}/{given['name']}"
        if owner != user or user in READERS:
            raise Refused(403, "", f"You don't have the rights to create a {kind[:-1]} under {owner}")
        if (kind, name) in self.hub.repos:
            self._answer({"error": "You already created this repo", "url": self._page(kind, name)}, 409)
            return
        private = given.get("visibility") == "private" or given.get("private") is True
        self.hub.repos[kind, name] = repo = Repo(private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self._answer({"url": self._page(kind, name), "name": name})

    def _validate(self) -> None:
        errors = header_errors(json.loads(self.body)["content"])
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        self._answer(answer, 400 if errors else 200)

    def _info(self, kind: str, name: str, revision: str = "main") -> None:
        repo = self.repo(kind, name)
        sha = self.at(repo, revision)
        files = [{"rfilename": path} for path in repo.commits[sha]]
        about = {"private": repo.private, "gated": "manual" if repo.gated else False, "tags": [], "downloads": 0}
        self._answer({"id": name, "sha": sha, "siblings": files, **about})

    def _tree(self, kind: str, name: str, revision: str) -> None:
        repo = self.repo(kind, name)
        entries = [_entry(path, content) for path, content in sorted(repo.commits[self.at(repo, revision)].items())]
        start = int(self.query.get("cursor", 0))
        more = start + PAGE < len(entries)
        link = f'<{self.hub.url}{urlsplit(self.path).path}?recursive=True&cursor={start + PAGE}>; rel="next"'
        self._answer(entries[start : start + PAGE], 200, {"Link": link} if more else {})

    def _branch(self, kind: str, name: str, revision: str) -> None:
        repo = self.writable(kind, name)
        if revision in repo.refs:
            raise Refused(409, "", "Reference already exists")
        repo.refs[revision] = self.at(repo, json.loads(self.body or b"{}").get("startingPoint", "main"))
        self._answer({})

    def _preupload(self, kind: str, name: str, revision: str) -> None:
        repo = self.writable(kind, name)
        there = repo.commits[self.at(repo, revision)]
        self._answer({"files": [_mode(given, there) for given in json.loads(self.body)["files"]]})

    def _batch(self, name: str, kind: str = "models") -> None:
        self.writable(kind, name)
        self._answer(
            {"objects": [self._action(each) for each in json.loads(self.body)["objects"]], "transfer": "basic"}
        )

    def _action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.hub.objects:
            return wanted
        place = f"{self.hub.url}/lfs/{wanted['oid']}"
        return {**wanted, "actions": {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}}

    def _upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, "", "the content is another one")
        self.hub.objects[oid] = self.body
        self._answer({})

    def _verify(self, oid: str) -> None:
        if len(self.hub.objects.get(oid, b"")) != json.loads(self.body)["size"]:
            raise Refused(404, "", "not uploaded")
        self._answer({})

    def _commit(self, kind: str, name: str, revision: str) -> None:
        repo = self.writable(kind, name)
        lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(repo.commits[self.at(repo, revision)])
        for line in lines[1:]:
            self._apply(files, line["key"], line["value"])
        ref = revision
        if self.query.get("create_pr"):
            repo.pull_requests += 1
            ref = f"refs/pr/{repo.pull_requests}"
        sha = repo.commit(files, lines[0]["value"]["summary"], ref)
        page = self._page(kind, name)
        request = f"{page}/discussions/{repo.pull_requests}" if ref != revision else None
        self._answer({"commitUrl": f"{page}/commit/{sha}", "commitOid": sha, "pullRequestUrl": request})

    def _apply(self, files: Files, key: str, value: dict[str, Any]) -> None:
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = self.hub.objects[value["oid"]]
        elif key == "deletedFile" and value["path"] in files:
            del files[value["path"]]
        else:
            raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")

    def _resolve(self, name: str, revision: str, path: str, kind: str = "models") -> None:
        repo = self.repo(kind, name)
        if repo.gated:
            raise Refused(403 if self.user() else 401, "GatedRepo", f"Access to {name} is restricted")
        sha = self.at(repo, revision)
        if path not in repo.commits[sha]:
            raise Refused(404, "EntryNotFound", "Entry not found")
        content = repo.commits[sha][path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{git_oid(content)}"'}
        if not path.endswith(LFS_ENDINGS):
            self._send_file(path, content, headers)
            return
        oid = hashlib.sha256(content).hexdigest()
        self.hub.objects[oid] = content
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        self._answer({}, 302, {**headers, **linked, "Location": f"{self.hub.store}/lfs/{oid}/{path}"})

    def _stored(self, oid: str, path: str) -> None:
        self._send_file(path, self.hub.objects[oid], {"ETag": f'"{oid}"'})

    def _send_file(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(span[1]) if span else 0
        part = content[start:]
        if span:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        if self.command == "HEAD" or not self.hub.cuts[path]:
            self._answer(part, 206 if span else 200, headers)
            return
        self.hub.cuts[path] -= 1
        self.send_response(206 if span else 200)
        for name, text in {"Content-Length": str(len(part)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(part[: len(part) // 2])
        self.close_connection = True


def header_errors(card: str) -> list[str]:
    """What the hub finds wrong with a card's header."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    if not found:
        return ["the card has no header"]
    data = yaml.safe_load(found[1])
    errors = [f'"license" must be one of {LICENCES}'] if data.get("license", "mit") not in LICENCES else []
    if data.get("license") == "other" and not re.fullmatch(r"[a-z0-9-.]+", str(data.get("license_name", ""))):
        errors.append('"license_name" must be lowercase and without blanks')
    if data.get("pipeline_tag", PIPELINES[0]) not in PIPELINES:
        errors.append('"pipeline_tag" is unknown')
    if not all(isinstance(tag, str) for tag in data.get("tags") or []):
        errors.append('"tags" must be texts')
    for model in data.get("model-index", []):
        for result in model["results"]:
            if not (model["name"] and result["task"]["type"] in PIPELINES and result["dataset"]["type"]):
                errors.append('"model-index" lacks a name')
            if not all(isinstance(metric["value"], float) for metric in result["metrics"]):
                errors.append('"model-index" has a value that is no number')
    return errors


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if path.endswith(LFS_ENDINGS):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _mode(given: dict[str, Any], there: Files) -> dict[str, Any]:
    path, large = given["path"], given["path"].endswith(LFS_ENDINGS)
    known = there.get(path)
    oid = None if known is None else hashlib.sha256(known).hexdigest() if large else git_oid(known)
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}


if __name__ == "__main__":
    with StandInHub(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as running:
        print(f"export HF_ENDPOINT={running.url} HF_HUB_DISABLE_XET=1 HF_TOKEN=hf_me", flush=True)
        threading.Event().wait()
