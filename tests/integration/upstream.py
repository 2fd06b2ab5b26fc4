"""The fake upstream: an HTTP server that shows every request to the test and answers when, and
with what, the test says.

It counts as the kernel does, not as its own threads notice: a connection counts until its peer has
closed it, which TCP_INFO tells at once, and a request counts until the last byte of its answer is
about to be sent. So a peak above the limit is always real, and one that the limit allows never
shows as more."""

import queue
import select
import socket
import ssl
import struct
import threading

from waiting import DEADLINE_S, wait_until

TCP_ESTABLISHED = 1


def answer_bytes(status=200, headers=(), body=b"", chunked=False, trailers=(), method="GET"):
    """An answer that is right for a METHOD request."""
    lines = [f"HTTP/1.1 {status} Fine"] + [f"{name}: {value}" for name, value in headers]
    bodiless = status in (204, 304)
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif not bodiless:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines + ["", ""]).encode("latin-1")
    if method == "HEAD" or bodiless:
        return head
    if not chunked:
        return head + body
    pieces = [body[at:at + 1000] for at in range(0, len(body), 1000)]
    data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    end = "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1")
    return head + data + b"0\r\n" + end + b"\r\n"


class Gone(Exception):
    """The peer has closed the connection."""


class Connection:
    """One accepted connection, served by a thread of its own."""

    def __init__(self, sock, number):
        self.socket = sock
        self.swapping = threading.Lock()  # while TLS takes the socket over, neither object has it
        self.number = number
        self.buffer = b""
        self.request = None  # the one in flight

    def is_open(self):
        with self.swapping:
            try:
                info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            except OSError:
                return False
        return info[0] == TCP_ESTABLISHED

    def start_tls(self, context):
        with self.swapping:
            self.socket = context.wrap_socket(self.socket, server_side=True,
                                              do_handshake_on_connect=False)

    def poll(self):
        """What tells that the peer has closed it."""
        poll = select.poll()
        try:
            poll.register(self.socket, select.POLLRDHUP)
        except ValueError:  # the test has ended, and has closed it
            raise Gone from None
        return poll

    def more(self):
        try:
            data = self.socket.recv(262144)
        except OSError:
            data = b""
        if not data:
            raise Gone
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    def fields(self):
        fields = []
        while line := self.line():
            name, _, value = line.partition(":")
            fields.append((name, value.strip(" \t")))
        return fields

    def pieces(self, count):
        while count > 0:
            if not self.buffer:
                self.more()
            piece, self.buffer = self.buffer[:count], self.buffer[count:]
            count -= len(piece)
            yield piece

    def chunks(self, request):
        while size := int(self.line(), 16):
            yield from self.pieces(size)
            assert self.line() == ""
        request.trailers = self.fields()


class Request:
    """One request as it arrived. The test answers it, or a script does."""

    def __init__(self, connection):
        self.connection = connection
        self.method, self.target, self.version = connection.line().split(" ")
        self.headers = connection.fields()
        self.trailers = []
        self.body = b""
        self.body_read = threading.Event()
        self.in_flight = True
        self.reply = None  # what to send, and whether to close
        self.replied = threading.Event()

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    # For the test.

    def answer(self, status=200, headers=(), body=b"", close=False, **how):
        """Answers a request that is held."""
        self.answer_raw(answer_bytes(status, headers, body, method=self.method, **how), close)

    def answer_raw(self, data, close=False):
        self.reply = (data, close)
        self.replied.set()

    def wait_body(self):
        assert self.body_read.wait(DEADLINE_S), "the request's body did not arrive"
        return self.body

    def wait_cancelled(self):
        """Waits until the peer has closed this request's connection."""
        wait_until(lambda: not self.connection.is_open(), f"{self.target} is cancelled")

    # For scripts, in the connection's thread.

    def body_pieces(self):
        """The body, as it comes."""
        if "chunked" in self.all("Transfer-Encoding"):
            return self.connection.chunks(self)
        return self.connection.pieces(int(self.get("Content-Length") or 0))

    def read_body(self):
        self.body = b"".join(self.body_pieces())
        self.body_read.set()

    def send(self, data, last=False):
        """Sends DATA; LAST where nothing of the answer follows."""
        if last:
            self.in_flight = False
        try:
            self.connection.socket.sendall(data)
        except OSError:
            raise Gone from None

    def send_answer(self, status=200, headers=(), body=b"", **how):
        self.send(answer_bytes(status, headers, body, method=self.method, **how), last=True)

    def hang(self):
        """Does nothing until the peer closes the connection."""
        self.connection.poll().poll(DEADLINE_S * 1000)
        raise Gone

    def close(self):
        raise Gone

    def reset(self):
        self.connection.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone


def script_of(*pieces, then="close"):
    """Reads the request, sends PIECES, and then closes, resets, hangs or keeps the connection."""
    def script(request):
        request.read_body()
        for piece in pieces:
            request.send(piece)
        if then != "keep":
            getattr(request, then)()
    return script


class Upstream:
    """
    A listener. `script`, a function of one request, answers in place of the default, which is to
    read the request's body and answer 200 with `body`: at once, or, where `hold` is set, when the
    test says so with request.answer(). GREETING is sent to whoever connects. With TLS, a context,
    connections may speak either.
    """

    def __init__(self, address="127.0.0.1", port=0, tls=None, greeting=b""):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, port), family=family, backlog=512)
        self.address = address
        self.port = self.listener.getsockname()[1]
        self.tls = tls
        self.greeting = greeting
        self.hold = False
        self.script = None
        self.body = b"hello"
        self.lock = threading.Lock()
        self.connections = []
        self.requests = []
        self.peak_running = 0
        self.peak_connections = 0
        self.arrivals = queue.Queue()
        self.stopping = False
        self.errors = []
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    @property
    def host(self):
        """The limiter's key."""
        name = f"[{self.address}]" if ":" in self.address else self.address
        return name if self.port in (80, 443) else f"{name}:{self.port}"

    def url(self, path="/", name=None, scheme="http"):
        name = name or (f"[{self.address}]" if ":" in self.address else self.address)
        return f"{scheme}://{name}:{self.port}{path}"

    def running(self):
        """How many requests are in flight now."""
        return sum(connection.request is not None and connection.request.in_flight
                   and connection.is_open() for connection in list(self.connections))

    def open_connections(self):
        return sum(connection.is_open() for connection in list(self.connections))

    def next(self):
        """The next request to arrive, in the order of arrival."""
        try:
            return self.arrivals.get(timeout=DEADLINE_S)
        except queue.Empty:
            raise AssertionError("no request arrived at the upstream") from None

    def take(self, count):
        return [self.next() for _ in range(count)]

    def targets(self):
        return [request.target for request in list(self.requests)]

    def _accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                connection = Connection(sock, len(self.connections))
                self.connections.append(connection)
                self.peak_connections = max(self.peak_connections, self.open_connections())
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.socket.sendall(self.greeting)
            if self.tls and connection.socket.recv(1, socket.MSG_PEEK) == b"\x16":
                connection.start_tls(self.tls)
                self._shake_hands(connection.socket)
            while not self.stopping:
                self._serve_one(connection)
        except (Gone, OSError):
            pass
        except Exception as error:  # shown when the test ends
            self.errors.append(error)
        finally:
            self._close(connection)

    @staticmethod
    def _shake_hands(sock):
        try:
            sock.do_handshake()
        except ssl.SSLError:  # the peer is to see why, and not a reset
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(262144):
                pass
            raise Gone from None

    def _serve_one(self, connection):
        while not connection.buffer:
            connection.more()
        request = Request(connection)
        with self.lock:
            self.requests.append(request)
            connection.request = request
            self.peak_running = max(self.peak_running, self.running())
            self.arrivals.put(request)
        if self.script:
            self.script(request)
        else:
            self._answer(request)
        request.in_flight = False

    def _answer(self, request):
        request.read_body()
        if not self.hold:
            return request.send_answer(body=self.body)
        request.replied.wait()
        if self.stopping:
            raise Gone
        data, close = request.reply
        request.send(data, last=True)
        if close:
            raise Gone

    @staticmethod
    def _close(connection):
        # A close() alone would wait for other threads that use the socket.
        try:
            linger = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER)
            if not linger:
                connection.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        connection.socket.close()

    def close_listener(self):
        """From now on connections are refused."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def close_connections(self):
        for connection in list(self.connections):
            self._close(connection)

    def stop(self):
        self.stopping = True
        try:
            self.close_listener()
        except OSError:
            pass
        for request in list(self.requests):
            request.replied.set()
        self.close_connections()
        assert not self.errors, self.errors
