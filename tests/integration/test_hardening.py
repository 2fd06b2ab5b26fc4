"""Uploads without an answer, endless heads and tails, and sockets that must make room: none of it
holds a slot, a connection or memory for longer than it may."""

import resource
import signal
import socket
import threading
import time

import pytest

from client import BLOCK, FORMS, assert_problem, chunk, fetch_target
from needs import needs_names
from upstream import Gone, script_of
from waiting import wait_asleep, wait_still, wait_until
from weir import SMALL_QUARANTINE, assert_next_works, limited

CONFIG = {**limited(1), "timeouts": {"first_byte": "300ms", "upstream_idle": "300ms"}}
GROWTH_KIB = 40_000
FRAMINGS = ["length", "chunked"]


@pytest.fixture
def weir(shared_weir):
    """A service with short timeouts, whose only slot must come back after each test."""
    return shared_weir


def framed(framing, body):
    """A field and the bytes that send BODY."""
    if framing == "chunked":
        return ("Transfer-Encoding", "chunked"), chunk(body) + b"0\r\n\r\n"
    return ("Content-Length", str(len(body))), body


def drip_of(start, drop):
    """Reads the request, sends START, and then DROP many times a second until the peer has enough."""
    def script(request):
        request.read_body()
        request.send(start)
        poll = request.connection.poll()
        while not poll.poll(20):
            request.send(drop)
        raise Gone
    return script


def send_until_full(client, data):
    """A function that sends DATA over and over until nobody takes more, and returns how much was sent."""
    sent = [0]
    client.socket.setblocking(False)

    def send_some():
        try:
            while True:
                sent[0] += client.socket.send(data)
        except BlockingIOError:
            return sent[0]
    return send_some


# Uploads.

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("method,size", [("POST", 5), ("PUT", 300_000)])
def test_an_upload_that_is_read_and_never_answered(weir, upstream, form, framing, method, size):
    upstream.script = script_of(then="hang")
    field, data = framed(framing, b"x" * size)
    target = upstream.url() if form == "forward" else fetch_target(upstream.url())
    client = weir.client().ask(method, target, [field])
    client.send(data)
    assert_problem(client.read(), 504, "upstream_timeout", "http_response_timeout")
    request = upstream.next()
    assert len(request.wait_body()) == size
    request.wait_cancelled()
    assert_next_works(weir, upstream)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_uploads_of_any_size_that_nobody_reads(start_weir, upstream, framing):
    """What is not sent yet lies in the pipe, in libcurl or in the kernel, as the size has it."""
    sizes = range(2_400_000, 3_000_000, 60_000)
    weir = start_weir({**CONFIG, **limited(len(sizes))})

    def script(request):
        request.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request.hang()

    upstream.script = script
    seen = {}

    def upload(size):
        field, data = framed(framing, b"x" * size)
        client = weir.ask(upstream.url(f"/{size}"), method="POST", headers=[field])
        try:
            client.send(data)
        except OSError:
            pass  # the service need not read on
        try:
            seen[size] = client.read() is not None
        except OSError as error:
            seen[size] = error

    threads = [threading.Thread(target=upload, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    lines = weir.log.wait(len(sizes), outcome="upstream_timeout")
    for thread in threads:
        thread.join()
    assert sorted(line["path"] for line in lines) == sorted(f"/{size}" for size in sizes)
    assert not [size for size, how in seen.items() if isinstance(how, TimeoutError)]


def test_an_echo_of_an_upload_that_still_comes_holds_neither_its_slot_nor_memory(start_weir, upstream):
    weir = start_weir(CONFIG, env=SMALL_QUARANTINE)
    whole = 64_000_000

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n" % whole)
        for piece in request.body_pieces():
            request.send(piece)

    weir.fetch(upstream.url())
    upstream.next()
    warm_kib = weir.memory_kib("VmHWM")
    upstream.script = script
    client = weir.ask(upstream.url("/echo"), method="POST", headers=[("Content-Length", str(whole))])
    sent = [0]

    def send():
        try:
            while sent[0] < whole:
                sent[0] += client.socket.send(BLOCK[:whole - sent[0]])
        except OSError:
            pass  # the service need not read on

    thread = threading.Thread(target=send)
    begin = time.monotonic()
    thread.start()
    upstream.next().wait_cancelled()
    weir.wait_host(upstream.host, active=0)
    growth = weir.memory_kib("VmHWM") - warm_kib
    assert growth < GROWTH_KIB, f"grew by {growth} KiB"
    assert time.monotonic() - begin < 8  # some for what buffers hold, and then upstream_idle
    assert weir.log.wait(path="/echo")["outcome"] in ("upstream_timeout", "upload_unwanted")
    assert sent[0] < whole
    client.close()
    thread.join()
    assert_next_works(weir, upstream)


@pytest.mark.parametrize("size", [200_000, 50_000_000])
def test_the_connection_of_an_upload_that_is_given_up_ends_before_the_next_begins(start_weir, upstream,
                                                                                 size):
    weir = start_weir(limited(1))

    def script(request):
        if request.method == "POST":
            next(request.body_pieces())
            request.hang()  # bytes stay unread
        request.send_answer(body=b"next")

    upstream.script = script
    for turn in range(3):
        client = weir.ask(upstream.url("/slow"), method="POST", headers=[("Content-Length", str(size + 1))])
        upload = upstream.next()
        if size > 1_000_000:
            wait_still(send_until_full(client, BLOCK), weir, rounds=10)
        else:
            client.send(b"x" * size)
        waiter = weir.ask(upstream.url(f"/{turn}"))
        weir.wait_host(upstream.host, active=1, queued=1)
        assert upload.connection.is_open()
        client.reset()
        assert waiter.read().body == b"next"
        assert upstream.next().target == f"/{turn}"
        upload.wait_cancelled()
    assert upstream.peak_connections == 1


def test_a_folded_trailer_cuts_its_request(weir, upstream):
    client = weir.ask(upstream.url("/folded"), method="POST", headers=[("Transfer-Encoding", "chunked")])
    client.send(chunk(b"abc"))
    request = upstream.next()
    client.send(b"0\r\nX-Ok: a\r\n b\r\n\r\n")
    answer = client.read()
    assert answer is None or answer.status == 400 or not answer.complete
    request.wait_cancelled()
    assert request.trailers == [] and not request.body_read.is_set()
    assert weir.log.wait(path="/folded")["outcome"] == "bad_request"
    assert_next_works(weir, upstream)


# Answers.

@pytest.mark.parametrize("start,drop", [
    (b"HTTP/1.1 200 Fine\r\n", b"X-A: b\r\n"),
    (b"HTTP/1.1 200 Fine\r\nX-A: ", b"b"),
    (b"", b"HTTP/1.1 103 Early\r\nX-A: b\r\n\r\n"),
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
])
@pytest.mark.parametrize("body", [None, b"hello"])
def test_a_dripping_head_does_not_put_the_first_byte_off(weir, upstream, start, drop, body):
    upstream.script = drip_of(start, drop)
    answer = weir.fetch(upstream.url(), method="POST" if body else "GET", body=body)
    assert_problem(answer, 504, "upstream_timeout", "http_response_timeout")
    upstream.next().wait_cancelled()
    assert_next_works(weir, upstream)


@pytest.mark.parametrize("line", [b"a:\r\n", b"X-T: " + b"b" * 1000 + b"\r\n"])
def test_endless_trailers_cut_the_answer(start_weir, upstream, line):
    weir = start_weir(env=SMALL_QUARANTINE)
    weir.fetch(upstream.url())
    warm_kib = weir.memory_kib("VmHWM")
    upstream.next()

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"hello") + b"0\r\n")
        lines = line * (1_000_000 // len(line))
        for _ in range(100 if len(line) > 100 else 20):  # an end, for a service that takes them all
            request.send(lines)
        request.send(b"\r\n")

    upstream.script = script
    answer = weir.fetch(upstream.url("/tail"))
    growth = weir.memory_kib("VmHWM") - warm_kib
    assert growth < GROWTH_KIB, f"grew by {growth} KiB"
    assert answer.status == 502 or not answer.complete
    upstream.next().wait_cancelled()
    assert weir.log.wait(path="/tail")["outcome"] == "upstream_protocol_error"
    assert_next_works(weir, upstream)


# Limits and descriptors.

def test_a_raised_limit_starts_waiters_though_nothing_else_happens(start_weir, held):
    weir = start_weir(limited(1))
    for queued in range(3):
        weir.ask(held.url())
        weir.wait_host(held.host, active=1, queued=queued)
    held.next()
    weir.write_config(limited(3))
    wait_asleep(weir)
    begin = time.monotonic()
    weir.signal(signal.SIGHUP)
    held.take(2)  # asking the service anything would wake it
    assert time.monotonic() - begin < 2
    weir.wait_host(held.host, active=3, queued=0, limit=3)


@needs_names
@pytest.mark.parametrize("running", [0, 2])
def test_names_that_come_to_share_a_limit_share_their_connections(start_weir, held, running):
    """RUNNING fetches of each name go on over the reload."""
    names = ["a.x.test", "b.x.test"]
    weir = start_weir(limited(3), hosts="127.0.0.1 " + " ".join(names) + "\n")
    old = [weir.ask(held.url(name=name)) for name in names for _ in range(3)]
    requests = {name: [] for name in names}
    for request in held.take(6):
        requests[request.get("Host").partition(":")[0]].append(request)
    going_on = [request for name in names for request in requests[name][:running]]
    for request in (request for name in names for request in requests[name][running:]):
        request.answer()
    for name in names:
        weir.wait_host(f"{name}:{held.port}", active=running, idle_connections=3 - running)
    weir.reload(limited(3, hosts={"*.x.test": {"limit": 3, "scope": "shared"}}))
    for request in going_on:
        request.answer()
    assert [client.read().status for client in old] == [200] * 6
    weir.wait_totals(active=0)

    new = [weir.ask(held.url(name=names[number % 2])) for number in range(6)]
    for _ in range(2):
        batch = held.take(3)
        assert held.running() == 3
        assert held.open_connections() <= 3
        for request in batch:
            request.answer()
    assert [client.read().status for client in new] == [200] * 6
    assert held.open_connections() <= 3


def test_idle_connections_make_room_where_descriptors_are_few(start_weir, new_upstream):
    everywhere = new_upstream(address="0.0.0.0")
    weir = start_weir(prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)))
    names = [f"127.0.{number // 100 + 1}.{number % 100 + 1}" for number in range(300)]
    answers = [weir.fetch(everywhere.url(name=name), form=FORMS[number % 2]).status
               for number, name in enumerate(names)]
    assert answers == [200] * 300
    assert len({request.get("Host") for request in everywhere.requests}) == 300
    wait_until(lambda: everywhere.open_connections() < 256, "idle connections were closed")
