"""A raw-socket HTTP client: it sends exactly the bytes that a test gives it and reads answers with
a strict parser, so that what a lenient library would forgive is seen."""

import json
import re
import select
import socket
import struct
import urllib.parse

from waiting import DEADLINE_S

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
STATUS_LINE = re.compile(r"HTTP/1\.1 ([1-9][0-9][0-9]) [^\x00-\x08\x0a-\x1f\x7f]*\Z")

FORMS = ["fetch", "forward"]  # of a request
BLOCK = bytes(range(256)) * 256  # what long bodies are made of


class BadAnswer(AssertionError):
    """The answer breaks HTTP/1.1."""


class Truncated(Exception):
    """The connection ended before the message did."""


class Answer:
    """One answer. `complete` is False where the connection ended before the message did."""

    def __init__(self, status, headers, interim):
        self.status = status
        self.headers = headers
        self.interim = interim  # the 1xx answers before it
        self.body = b""
        self.trailers = []
        self.complete = False

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:300]!r} complete={self.complete}>"


def fetch_target(url):
    """The target that asks the fetch API for URL."""
    return "/fetch?url=" + urllib.parse.quote(url, safe="")


def target_for(url, form):
    return fetch_target(url) if form == "fetch" else url


def request_bytes(method, target, headers=(), body=None, host="weir.test", version="1.1"):
    """A request head, and BODY behind it with its Content-Length; HOST None leaves Host out."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines + ["", ""]).encode("latin-1") + (body or b"")


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def assert_problem(answer, status, word, error=None):
    """ANSWER is the problem WORD, whole; ERROR is the word that Proxy-Status has for it, if another."""
    assert answer is not None, "the connection was closed without an answer"
    assert answer.complete, answer
    assert answer.get("Content-Type") == "application/problem+json", answer
    problem = json.loads(answer.body)
    assert (answer.status, problem["type"].rpartition(":")[2]) == (status, word), problem
    assert problem["status"] == status, problem
    assert answer.get("Proxy-Status").startswith(f"weir; error={error or word}; details="), answer
    assert answer.get("Server-Timing") and answer.get("X-Request-Id"), answer
    assert "1.1 weir" in answer.get("Via"), answer


class Client:
    """One connection."""

    def __init__(self, address, deadline_s=DEADLINE_S, receive_buffer_bytes=None):
        """ADDRESS is a host and a port, or the path of a unix socket."""
        family = (socket.AF_UNIX if isinstance(address, str) else
                  socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(deadline_s)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(address)
        self.buffer = b""
        self.ended = False

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, method, target, headers=(), body=None, **how):
        """Sends one request, without waiting for its answer."""
        self.send(request_bytes(method, target, headers, body, **how))
        return self

    def _more(self):
        try:
            data = self.socket.recv(262144)
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            raise Truncated
        self.buffer += data

    def _line(self):
        while b"\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise BadAnswer(f"a line without its CRLF: {line!r}")
        return line[:-1].decode("latin-1")

    def _fields(self):
        fields = []
        while line := self._line():
            name, colon, value = line.partition(":")
            if not colon or not TOKEN.match(name):
                raise BadAnswer(f"a bad field line: {line!r}")
            fields.append((name, value.strip(" \t")))
        return fields

    def _head(self):
        """A status line and fields; None where the connection ended before any of it."""
        try:
            while not self.buffer:
                self._more()
        except Truncated:
            return None
        line = self._line()
        match = STATUS_LINE.match(line)
        if not match:
            raise BadAnswer(f"a bad status line: {line!r}")
        return int(match[1]), self._fields()

    def _pieces(self, count):
        """COUNT bytes of body, in the pieces in which they come."""
        while count > 0:
            if not self.buffer:
                self._more()
            piece, self.buffer = self.buffer[:count], self.buffer[count:]
            count -= len(piece)
            yield piece

    def _chunks(self, answer):
        while True:
            size = self._line()
            if not re.match(r"[0-9A-Fa-f]+\Z", size):
                raise BadAnswer(f"a bad chunk size: {size!r}")
            if int(size, 16) == 0:
                answer.trailers = self._fields()
                return
            yield from self._pieces(int(size, 16))
            if self._line() != "":
                raise BadAnswer("a chunk without its end")

    def _until_end(self):
        try:
            while True:
                if not self.buffer:
                    self._more()
                piece, self.buffer = self.buffer, b""
                yield piece
        except Truncated:
            return

    def body_pieces(self, method, answer):
        """The body of ANSWER to a METHOD request, in the pieces in which it comes."""
        lengths, codings = answer.all("Content-Length"), answer.all("Transfer-Encoding")
        if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
            raise BadAnswer(f"conflicting lengths: {answer.headers}")
        if answer.status in (204, 304) and codings:
            raise BadAnswer(f"a coding where there is no body: {answer.headers}")
        if method == "HEAD" or answer.status in (204, 304):
            return iter(())
        if codings:
            if codings[0].lower() != "chunked":
                raise BadAnswer(f"an unknown coding: {codings[0]!r}")
            return self._chunks(answer)
        if lengths:
            if not re.match(r"[0-9]+\Z", lengths[0]):
                raise BadAnswer(f"a bad length: {lengths[0]!r}")
            return self._pieces(int(lengths[0]))
        return self._until_end()

    def read_head(self):
        """An answer whose body has not been read, or None where there is none."""
        interim = []
        while True:
            head = self._head()
            if head is None:
                return None
            if head[0] >= 200:
                return Answer(*head, interim)
            interim.append(head[0])
            if head[0] == 101:
                raise BadAnswer("101")

    def read(self, method="GET", sink=None):
        """The answer to a METHOD request; its body goes to SINK in pieces where there is one. None
        where the connection ended without any."""
        answer = self.read_head()
        if answer is None:
            return None
        pieces = []
        try:
            for piece in self.body_pieces(method, answer):
                (sink or pieces.append)(piece)
            answer.complete = True
        except Truncated:
            pass
        answer.body = b"".join(pieces)
        return answer

    def read_interim(self):
        """The status of one 1xx answer."""
        status, _ = self._head()
        assert 100 <= status < 200, status
        return status

    def read_all(self):
        """Every byte until the connection ends."""
        return b"".join(self._until_end())

    def has_nothing_to_read(self):
        """Whether nothing has come, nor the end; ask after something ordered behind it."""
        return not self.buffer and not select.select([self.socket], [], [], 0)[0]

    def wait_end(self):
        """Waits until the other side has ended the connection, having sent nothing more."""
        rest = self.read_all()
        assert rest == b"", f"bytes behind the answer: {rest[:300]!r}"

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
