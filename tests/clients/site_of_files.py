"""A site that serves files, and says whether a client got all of them within a limit."""

import random
import threading
import time

from waiting import DEADLINE_S, wait_until


def content_of(name, largest=60_000):
    """Bytes that are the same for NAME each time and like no other's; of any length."""
    numbers = random.Random(name)
    return numbers.randbytes(numbers.randrange(largest))


def numbered_files(count, directory=""):
    """COUNT files, one of which is larger than any buffer on the way."""
    files = {f"{directory}/{number}": content_of(f"{directory}/{number}") for number in range(count)}
    files[f"{directory}/0"] = random.Random(0).randbytes(3_000_000)
    return files


class Site:
    """FILES by path, served by an upstream. What is GATED, either all or what a function of its path
    says, is not answered until open(). A slow site thinks for SECONDS about each."""

    def __init__(self, upstream, files, gated=False, seconds=0):
        self.upstream = upstream
        self.files = files
        self.gated = gated if callable(gated) else lambda path: gated
        self.gate = threading.Event()
        self.seconds = seconds
        upstream.script = self._answer

    def _answer(self, request):
        request.read_body()
        path = request.target.split("?")[0]
        if self.gated(path):
            assert self.gate.wait(DEADLINE_S), "the gate was not opened"
        time.sleep(self.seconds)
        if path not in self.files:
            return request.send_answer(404, body=b"no such file")
        headers = [("Content-Type", "text/html" if path.endswith(".html") else "application/octet-stream"),
                   ("Cache-Control", "no-store")]
        return request.send_answer(headers=headers, body=self.files[path])

    def url(self, path, scheme="http"):
        return self.upstream.url(path, scheme=scheme)

    def urls(self, scheme="http"):
        return [self.url(path, scheme) for path in self.files]

    def open(self):
        self.gate.set()

    def open_when(self, weir, **fields):
        """Opens the gate once WEIR shows its host as busy as FIELDS say, and it is."""
        weir.wait_host(self.upstream.host, **fields)
        wait_until(lambda: self.upstream.peak_connections >= fields.get("active", 0),
                   "the active ones have connected")
        self.open()

    def check_limit(self, limit):
        """Never above the limit, neither in requests nor in connections."""
        assert 1 <= self.upstream.peak_running <= limit
        assert 1 <= self.upstream.peak_connections <= limit

    def check(self, limit):
        """Never above the limit, but at it, and every file asked for once."""
        self.check_limit(limit)
        assert self.upstream.peak_connections == limit
        self.check_requests()

    def check_requests(self):
        """Every file was asked for once, and nothing else."""
        assert sorted(self.upstream.targets()) == sorted(self.files)
