"""git over http and https: clones, a fetch and a push, against git's own server program."""

import random
import subprocess

import pytest

from programs import proxies
from weir import limited

GIT = ["git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
BACKEND = [*GIT[:1], "http-backend"]


class Repository:
    """A bare repository, served by `git http-backend` as the script of an upstream."""

    def __init__(self, programs, directory, upstream):
        self.programs = programs
        self.directory = directory
        self.work = directory / "work"
        self.bare = directory / "served" / "project.git"
        self.upstream = upstream
        self.run("init", "-q", "-b", "main", self.work)
        self.commit("first", 10)
        self.run("clone", "-q", "--bare", self.work, self.bare)
        self.run("-C", self.bare, "config", "http.receivepack", "true")
        upstream.script = self._serve

    def run(self, *arguments, env=None):
        return self.programs.run(*GIT, *arguments, env=env).decode().strip()

    def commit(self, name, count):
        """Adds COUNT files of random bytes, which do not compress."""
        for number in range(count):
            data = random.Random(f"{name} {number}").randbytes(200_000)
            (self.work / f"{name}-{number}").write_bytes(data)
        self.run("-C", self.work, "add", ".")
        self.run("-C", self.work, "commit", "-q", "-m", name)
        return self.head(self.work)

    def head(self, directory):
        return self.run("-C", directory, "rev-parse", "refs/heads/main")

    def url(self, scheme):
        return self.upstream.url("/project.git", scheme=scheme)

    def _serve(self, request):
        """The part of CGI that git needs (RFC 3875)."""
        request.read_body()
        path, _, query = request.target.partition("?")
        fields = {"GIT_PROJECT_ROOT": str(self.bare.parent), "GIT_HTTP_EXPORT_ALL": "1",
                  "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": request.method,
                  "CONTENT_TYPE": request.get("Content-Type") or "",
                  "CONTENT_LENGTH": str(len(request.body)),
                  "HTTP_CONTENT_ENCODING": request.get("Content-Encoding") or "",
                  "GIT_PROTOCOL": request.get("Git-Protocol") or "",
                  "REMOTE_USER": "tester", "REMOTE_ADDR": "127.0.0.1"}
        ran = subprocess.run(BACKEND, input=request.body, capture_output=True, check=False,
                             env=self.programs.environment(fields))
        head, _, body = ran.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = int(dict(headers).get("Status", "200").split()[0])
        request.send_answer(status, [field for field in headers if field[0] != "Status"], body)


@pytest.fixture
def repository(programs, tmp_path, new_upstream, identity):
    return Repository(programs, tmp_path, new_upstream(tls=identity))


@pytest.fixture
def settings(authority):
    """What tells git of the CA, and not to ask for a name."""
    return {"GIT_SSL_CAINFO": authority.ca, "GIT_TERMINAL_PROMPT": "0"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_clones_at_once(start_weir, repository, programs, tmp_path, settings, scheme):
    weir = start_weir(limited(2))
    env = {**proxies(weir), **settings}
    clones = [tmp_path / f"clone{number}" for number in range(4)]
    gits = [programs.start(*GIT, "clone", "-q", repository.url(scheme), clone, env=env)
            for clone in clones]
    for git in gits:
        programs.finish(git)
    for clone in clones:
        assert repository.head(clone) == repository.head(repository.work)
        assert repository.run("-C", clone, "status", "--porcelain") == ""
    assert 1 <= repository.upstream.peak_running <= 2
    assert 1 <= repository.upstream.peak_connections <= 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_push(start_weir, repository, tmp_path, settings, scheme):
    """More than http.postBuffer (1 MB) goes in chunks, behind a question whether it may."""
    weir = start_weir(limited(1))
    env = {**proxies(weir), **settings}
    clone = tmp_path / "clone"
    repository.run("clone", "-q", repository.url(scheme), clone, env=env)
    head = repository.commit("second", 12)
    repository.run("-C", repository.work, "push", "-q", repository.url(scheme), "main", env=env)
    assert repository.head(repository.bare) == head
    repository.run("-C", clone, "pull", "-q", "--ff-only", env=env)
    assert repository.head(clone) == head
    assert repository.upstream.peak_connections == 1
    sent = max(repository.upstream.requests, key=lambda request: len(request.body))
    assert len(sent.body) > 2_000_000 and sent.get("Transfer-Encoding") == "chunked"
