"""Big bodies: whole, with bounded memory, and not read before their time."""

import socket
import zlib

import pytest

from client import BLOCK, FORMS, chunk, fetch_target
from waiting import wait_still
from weir import SMALL_QUARANTINE, in_order, limited

BIG_BYTES = 100_000_000
BLOCKS = BIG_BYTES // len(BLOCK)
GROWTH_KIB = 60_000  # AddressSanitizer's own share included; far below the body's 97,656


def checksum_of_big():
    value = 0
    for _ in range(BLOCKS):
        value = zlib.crc32(BLOCK, value)
    return value


class Checksum:
    def __init__(self):
        self.value = 0
        self.bytes = 0

    def __call__(self, piece):
        self.value = zlib.crc32(piece, self.value)
        self.bytes += len(piece)


@pytest.fixture
def weir(start_weir, upstream):
    """A service that has served once, so that its memory is warm."""
    weir = start_weir(limited(1), env=SMALL_QUARANTINE)
    weir.fetch(upstream.url())
    weir.warm_kib = weir.memory_kib("VmHWM")
    upstream.requests.clear()
    upstream.next()
    return weir


def assert_memory_is_bounded(weir):
    growth = weir.memory_kib("VmHWM") - weir.warm_kib
    assert growth < GROWTH_KIB, f"grew by {growth} KiB"


@pytest.mark.parametrize("chunked", [False, True])
def test_one_hundred_megabytes_down(weir, upstream, chunked):
    def script(request):
        framing = (b"Transfer-Encoding: chunked" if chunked
                   else b"Content-Length: %d" % (BLOCKS * len(BLOCK)))
        request.send(b"HTTP/1.1 200 Fine\r\n" + framing + b"\r\n\r\n")
        for _ in range(BLOCKS):
            request.send(chunk(BLOCK) if chunked else BLOCK)
        request.send(b"0\r\n\r\n" if chunked else b"", last=True)

    upstream.script = script
    got = Checksum()
    answer = weir.ask(upstream.url()).read(sink=got)
    assert answer.complete and got.bytes == BLOCKS * len(BLOCK)
    assert got.value == checksum_of_big()
    assert_memory_is_bounded(weir)


@pytest.mark.parametrize("chunked", [False, True])
def test_one_hundred_megabytes_up(weir, upstream, chunked):
    got = Checksum()

    def script(request):
        for piece in request.body_pieces():
            got(piece)
        request.send_answer(body=b"thanks")

    upstream.script = script
    framing = (("Transfer-Encoding", "chunked") if chunked
               else ("Content-Length", str(BLOCKS * len(BLOCK))))
    client = weir.ask(upstream.url(), method="POST", headers=[framing])
    for _ in range(BLOCKS):
        client.send(chunk(BLOCK) if chunked else BLOCK)
    client.send(b"0\r\n\r\n" if chunked else b"")
    assert client.read().body == b"thanks"
    assert got.bytes == BLOCKS * len(BLOCK)
    assert got.value == checksum_of_big()
    assert_memory_is_bounded(weir)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_slow_reader_holds_the_upstream_back(weir, upstream, chunked):
    """It is read from no faster than the client reads, but for what buffers hold."""
    sent = [0]

    def script(request):
        request.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        framing = (b"Transfer-Encoding: chunked" if chunked
                   else b"Content-Length: %d" % (BLOCKS * len(BLOCK)))
        request.send(b"HTTP/1.1 200 Fine\r\n" + framing + b"\r\n\r\n")
        for _ in range(BLOCKS):
            request.send(chunk(BLOCK) if chunked else BLOCK)
            sent[0] += len(BLOCK)
        request.send(b"0\r\n\r\n" if chunked else b"", last=True)

    upstream.script = script
    client = weir.client(receive_buffer_bytes=65536).ask("GET", fetch_target(upstream.url()))
    answer = client.read_head()
    wait_still(lambda: sent[0], weir)
    assert sent[0] < BIG_BYTES / 3
    assert_memory_is_bounded(weir)
    got = Checksum()
    for piece in client.body_pieces("GET", answer):
        got(piece)
    assert got.value == checksum_of_big()


def test_answers_on_a_used_connection_are_whole_for_a_late_reader(weir, upstream):
    """The whole pipe fills up before the connection's first event, and waits."""
    sent = [0]

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            request.send(chunk(BLOCK))
            sent[0] += 1
        request.send(b"0\r\n\r\n", last=True)

    upstream.script = script
    for _ in range(20):
        client = weir.client(receive_buffer_bytes=16384).ask("GET", fetch_target(upstream.url()))
        answer = client.read_head()
        wait_still(lambda: sent[0], weir, rounds=5)
        assert sum(len(piece) for piece in client.body_pieces("GET", answer)) == 200 * len(BLOCK)
        client.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_of_a_waiting_request_is_not_read(weir, held, chunked):
    in_order(weir, held, 1)
    client = weir.client()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    framing = (("Transfer-Encoding", "chunked") if chunked
               else ("Content-Length", str(BLOCKS * len(BLOCK))))
    client.ask("POST", fetch_target(held.url("/upload")), [framing])
    weir.wait_host(held.host, active=1, queued=1)
    left = memoryview(chunk(BLOCK) * BLOCKS + b"0\r\n\r\n" if chunked else BLOCK * BLOCKS)
    whole = len(left)
    client.socket.setblocking(False)

    def send_some():
        nonlocal left
        try:
            while left:
                left = left[client.socket.send(left):]
        except BlockingIOError:
            pass
        return whole - len(left)

    wait_still(send_some, weir)
    assert whole - len(left) < BIG_BYTES / 3, "somebody reads it"
    assert weir.status()["totals"]["bytes_in_total"] < 100_000
    assert held.targets() == ["/0"]
    assert_memory_is_bounded(weir)

    held.next().answer()
    upload = held.next()
    client.socket.settimeout(30)
    client.send(left)
    assert zlib.crc32(upload.wait_body()) == checksum_of_big()
    upload.answer()
    assert client.read().status == 200


@pytest.mark.parametrize("form", FORMS)
def test_an_early_answer_during_an_upload_is_passed(weir, upstream, form):
    upstream.script = lambda request: (request.send_answer(413, [("Connection", "close")], b"too big"),
                                       request.close())
    answer = weir.fetch(upstream.url(), form=form, method="POST", body=b"x" * 200_000)
    assert (answer.status, answer.body) == (413, b"too big")


def test_an_early_answer_during_a_long_upload_ends_it(weir, upstream):
    def script(request):
        request.send_answer(413, [("Connection", "close")], b"too big")
        request.reset()

    upstream.script = script
    client = weir.ask(upstream.url(), method="POST", headers=[("Content-Length", str(BIG_BYTES))])
    try:
        for _ in range(BLOCKS):
            client.send(BLOCK)
    except OSError:
        pass  # the service need not read on
    weir.wait_host(upstream.host, active=0)
    upstream.script = None
    assert weir.fetch(upstream.url()).status == 200


def test_many_streams_at_rest_hold_little_memory_each(start_weir, upstream):
    weir = start_weir(limited(40), env=SMALL_QUARANTINE)
    weir.fetch(upstream.url())
    warm_kib = weir.memory_kib()
    sent = [0]

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50_000_000 // len(BLOCK)):
            request.send(BLOCK)
            sent[0] += 1

    upstream.script = script
    for _ in range(40):
        weir.client(receive_buffer_bytes=4096).ask("GET", fetch_target(upstream.url()))
    weir.wait_host(upstream.host, active=40)
    wait_still(lambda: sent[0], weir)
    assert (weir.memory_kib() - warm_kib) / 40 < 1500
