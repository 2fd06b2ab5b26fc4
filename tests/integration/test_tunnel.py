"""CONNECT tunnels."""

import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading

import pytest

from client import request_bytes
from plain import (PlainUpstream, ask_tunnel, echo, is_silent, open_tunnel, receive, receive_all,
                   reset)
from waiting import DEADLINE_S, wait_until
from weir import environment, limited


@pytest.fixture
def weir(shared_weir):
    return shared_weir


@pytest.fixture
def plain():
    upstream = PlainUpstream()
    yield upstream
    upstream.stop()


def detail_of(answer):
    assert answer.get("Content-Type") == "application/problem+json"
    return json.loads(answer.body)["detail"]


def line_of(weir, client, **fields):
    """The access log's line for a tunnel that has ended."""
    line = weir.log.wait(id=client.answer.get("X-Request-Id"), **fields)
    assert line["form"] == "connect" and line["method"] == "CONNECT"
    return line


# Open tunnels.

def test_https_with_curl(weir, new_upstream, tls):
    upstream = new_upstream(tls=tls.context)
    upstream.body = os.urandom(3_000_000)
    ran = subprocess.run(["curl", "-sS", "--max-time", str(DEADLINE_S), "--cacert", tls.certificate,
                          upstream.url("/a", scheme="https"), upstream.url("/b", scheme="https")],
                         env=environment({"https_proxy": f"http://127.0.0.1:{weir.data[1]}"}),
                         capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout == upstream.body * 2
    assert upstream.targets() == ["/a", "/b"] and len(upstream.connections) == 1


def test_the_answer_and_the_log(weir, plain):
    client = open_tunnel(weir, plain.host, [("X-Request-Id", "mine")])
    end = plain.take()
    answer = client.answer
    assert answer.get("X-Request-Id") == "mine" and answer.get("Via") == "1.1 weir"
    assert re.match(r"queue;dur=[0-9.]+, connect;dur=[0-9.]+\Z", answer.get("Server-Timing"))
    assert not answer.all("Content-Length") and not answer.all("Transfer-Encoding")
    assert weir.host(plain.host)["tunnels"] == 1 and weir.host(plain.host)["active"] == 1
    echo(client, end, b"12345")
    client.socket.shutdown(socket.SHUT_WR)
    end.sendall(b"678")
    end.close()
    assert receive_all(client) == b"678"
    line = line_of(weir, client)
    assert line["outcome"] == "ok" and line["status"] == 200 and line["host"] == plain.host
    assert (line["bytes_in"], line["bytes_out"]) == (5, 8)
    weir.wait_host(plain.host, tunnels=0, active=0)


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_what_is_sent_early_arrives_in_order(weir, plain, pieces):
    head = request_bytes("CONNECT", plain.host)
    data = head + b"early " * 4000
    step = (len(data) + pieces - 1) // pieces
    client = weir.client()
    for at in range(0, len(data), step):
        client.send(data[at:at + step])
    client.send(b"late")
    assert client.read_head().status == 200
    end = plain.take()
    assert receive(end, 24004) == b"early " * 4000 + b"late"


@pytest.mark.parametrize("first", [1, 7, 8, 30])
def test_a_request_that_comes_in_pieces(weir, plain, first):
    client = weir.client()
    data = request_bytes("CONNECT", plain.host)
    client.send(data[:first])
    wait_until(lambda: weir.client_connections() == 1, "the first piece has been looked at")
    for _ in range(30):
        weir.status()  # and again, for nothing
    for byte in data[first:]:
        client.send(bytes([byte]))
    assert client.read_head().status == 200
    echo(client, plain.take())


def test_a_reload_does_not_change_how_long_a_head_may_be(start_weir, plain):
    """header_bytes is read at the start only; one that is half here may be longer than a new one."""
    weir = start_weir({"header_bytes": 16384})
    client = weir.client()
    data = request_bytes("CONNECT", plain.host, [("X-Long", "x" * 8000)])
    client.send(data[:7000])
    wait_until(lambda: weir.client_connections() == 1, "the first piece is here")
    weir.reload({"header_bytes": 4096})
    client.send(data[7000:])
    assert client.read_head().status == 200
    echo(client, plain.take())


def test_what_is_sent_while_it_waits_arrives(start_weir, plain):
    weir = start_weir(limited(1))
    first = open_tunnel(weir, plain.host)
    end = plain.take()
    second = ask_tunnel(weir, plain.host, early=b"a" * 1000)
    weir.wait_host(plain.host, queued=1)
    second.send(b"b" * 100_000)
    assert is_silent(second)
    first.close()
    end.close()
    assert second.read_head().status == 200
    assert receive(plain.take(), 101_000) == b"a" * 1000 + b"b" * 100_000


def test_half_close_by_the_client(weir, plain):
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    client.socket.sendall(b"question")
    client.socket.shutdown(socket.SHUT_WR)
    assert receive_all(end) == b"question"
    assert weir.host(plain.host)["tunnels"] == 1
    end.sendall(b"answer" * 100_000)
    end.close()
    assert receive_all(client) == b"answer" * 100_000
    assert line_of(weir, client)["outcome"] == "ok"


def test_half_close_by_the_upstream(weir, plain):
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    end.sendall(b"greeting")
    end.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"greeting"
    assert weir.host(plain.host)["tunnels"] == 1
    client.socket.sendall(b"still here" * 100_000)
    client.socket.shutdown(socket.SHUT_WR)
    assert receive_all(end) == b"still here" * 100_000
    assert line_of(weir, client)["outcome"] == "ok"


@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_is_passed_on(weir, plain, by_client):
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    echo(client, end)
    reset(client.socket if by_client else end)
    with pytest.raises(ConnectionResetError):
        (end if by_client else client.socket).recv(1)
    line = line_of(weir, client)
    assert line["outcome"] == ("client_gone" if by_client else "upstream_broke_off")


def test_ipv6(weir):
    try:
        upstream = PlainUpstream("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    client = open_tunnel(weir, upstream.host)
    echo(client, upstream.take())
    upstream.stop()


@pytest.mark.parametrize("listener", ["tcp", "unix"])
def test_both_ways_at_once(start_weir, plain, tmp_path, listener):
    """More than all buffers hold, both ways at the same time."""
    where = "127.0.0.1:0" if listener == "tcp" else f"unix:{tmp_path}/s"
    weir = start_weir({"listen": where})
    data = os.urandom(1 << 20) * 24
    client = open_tunnel(weir, plain.host)
    end = plain.take()

    def send(sock):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    digests = {}

    def read(name, sock):
        digest = hashlib.sha256()
        while piece := sock.recv(262144):
            digest.update(piece)
        digests[name] = digest.digest()

    threads = [threading.Thread(target=send, args=(sock,)) for sock in (client.socket, end)]
    threads += [threading.Thread(target=read, args=("client", client.socket)),
                threading.Thread(target=read, args=("upstream", end))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert set(digests.values()) == {hashlib.sha256(data).digest()} and len(digests) == 2
    line = line_of(weir, client)
    assert line["bytes_in"] == line["bytes_out"] == len(data)


def processor_seconds(weir):
    with open(f"/proc/{weir.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("slow_client", [True, False])
def test_a_slow_side_pushes_back(weir, plain, slow_client):
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    echo(client, end)
    before = weir.memory_kib()
    fast, slow = (end, client.socket) if slow_client else (client.socket, end)
    piece = bytes(range(256)) * 4096
    sent = 0
    fast.setblocking(False)
    total = 256 << 20

    busy_s = 0

    def is_full():
        nonlocal sent, busy_s
        try:
            while sent < total:
                at = sent % len(piece)
                sent += fast.send(piece[at:])
        except BlockingIOError:
            pass
        before_s = processor_seconds(weir)
        full = not select.select([], [fast], [], 0.4)[1]
        busy_s = processor_seconds(weir) - before_s
        return full

    wait_until(is_full, "the sender is held up")
    assert sent < total
    assert busy_s < 0.1, "it does not sleep while it can do nothing"
    assert weir.memory_kib() - before < 4096
    fast.settimeout(DEADLINE_S)
    fast.shutdown(socket.SHUT_WR)
    got = 0
    while data := slow.recv(262144):
        at = got % 256
        assert data == (piece[at:at + 256] * (len(data) // 256 + 1))[:len(data)]
        got += len(data)
    assert got == sent


# One budget.

def http_through(client, path):
    client.send(request_bytes("GET", path))


def test_tunnels_and_fetches_wait_in_one_queue(start_weir, held):
    weir = start_weir(limited(1))
    running = open_tunnel(weir, held.host)
    waiting = []
    for number in range(4):
        if number % 2 == 0:
            waiting.append(weir.ask(held.url(f"/{number}")))
        else:
            client = ask_tunnel(weir, held.host)
            http_through(client, f"/{number}")
            waiting.append(client)
        weir.wait_host(held.host, queued=number + 1)
    assert weir.host(held.host)["tunnels"] == 1
    running.close()
    for number, client in enumerate(waiting):
        request = held.next()
        assert request.target == f"/{number}"
        assert weir.host(held.host)["active"] == 1
        request.answer()
        if number % 2 == 1:
            assert client.read_head().status == 200
        assert client.read().status == 200
        client.close()
    assert held.peak_connections == 1


def test_idle_connections_make_room(start_weir, held):
    """Connections that fetches have left open count: with a tunnel there are never more than N."""
    weir = start_weir(limited(2))
    fetches = [weir.ask(held.url()) for _ in range(2)]
    for request in held.take(2):
        request.answer()
    assert [client.read().status for client in fetches] == [200, 200]
    weir.wait_host(held.host, idle_connections=2)
    first = open_tunnel(weir, held.host)
    assert weir.host(held.host)["idle_connections"] == 1
    second = open_tunnel(weir, held.host)
    assert weir.host(held.host)["idle_connections"] == 0
    for client in (first, second):
        http_through(client, "/tunnel")
        held.next().answer()
        assert client.read().status == 200
    assert held.peak_connections <= 2


def test_cancelled_while_it_waits(start_weir, plain):
    weir = start_weir(limited(1))
    open_tunnel(weir, plain.host)
    plain.take()
    gone = ask_tunnel(weir, plain.host)
    weir.wait_host(plain.host, queued=1)
    gone.close()
    host = weir.wait_host(plain.host, queued=0)
    assert host["rejected_total"]["client_gone"] == 1
    assert weir.log.wait(outcome="client_gone")["status"] == 0
    assert plain.has_nobody()


def test_cancelled_while_it_connects(start_weir):
    """The address is one to which nothing answers: the accept queue of its listener is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fill = [socket.socket() for _ in range(4)]
    for sock in fill:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    weir = start_weir()
    client = ask_tunnel(weir, f"127.0.0.1:{port}")
    weir.wait_host(f"127.0.0.1:{port}", tunnels=1)
    client.close()
    weir.wait_host(f"127.0.0.1:{port}", tunnels=0, active=0)
    for sock in [*fill, listener]:
        sock.close()


def test_the_connection_takes_too_long(start_weir):
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fill = [socket.socket() for _ in range(4)]
    for sock in fill:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    weir = start_weir({"timeouts": {"connect": "300ms"}})
    answer = ask_tunnel(weir, f"127.0.0.1:{port}").read()
    assert answer.status == 504 and "error=connection_timeout" in answer.get("Proxy-Status")
    for sock in [*fill, listener]:
        sock.close()


def test_refusals_are_those_of_fetches(start_weir, plain):
    weir = start_weir(limited(1, queue=1))
    running = open_tunnel(weir, plain.host)
    plain.take()
    answer = ask_tunnel(weir, plain.host, [("Weir-Queue-Timeout", "0")]).read()
    assert answer.status == 503 and answer.get("Connection") == "close"
    assert "error=connection_limit_reached" in answer.get("Proxy-Status")
    body = json.loads(answer.body)
    assert body["type"] == "urn:weir:problem:queue_timeout" and body["host"] == plain.host
    assert body["limit"] == 1 and body["queued"] == 0
    assert int(answer.get("Retry-After")) >= 1 and answer.get("Via") == "1.1 weir"
    assert weir.log.wait(id=answer.get("X-Request-Id"))["outcome"] == "queue_timeout"
    waiting = ask_tunnel(weir, plain.host, [("Weir-Queue-Timeout", "300ms")])
    weir.wait_host(plain.host, queued=1)
    answer = ask_tunnel(weir, plain.host).read()
    assert answer.status == 503
    assert json.loads(answer.body)["type"] == "urn:weir:problem:queue_full"
    answer = waiting.read()
    assert json.loads(answer.body)["type"] == "urn:weir:problem:queue_timeout"
    running.close()


def test_a_connection_that_is_refused(weir):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = ask_tunnel(weir, f"127.0.0.1:{port}").read()
    assert answer.status == 502 and "error=connection_refused" in answer.get("Proxy-Status")


def test_a_name_that_does_not_exist(weir):
    answer = ask_tunnel(weir, "no-such-name.invalid:443").read()
    assert answer.status in (502, 504)
    assert "error=dns_" in answer.get("Proxy-Status")


def test_a_refusal_survives_what_was_sent_early(weir):
    """Unread bytes would make the kernel reset the connection, and the answer would be lost."""
    for _ in range(5):
        client = ask_tunnel(weir, "h:0", early=b"x" * 500_000)
        answer = client.read()
        assert answer.status == 400 and answer.complete
        assert client.socket.recv(1) == b""  # not a reset
        client.close()


# Those who make room.

def in_order_of_silence(weir, plain, count):
    """COUNT open tunnels; the one that has been silent longest comes first."""
    tunnels = []
    for _ in range(count):
        client = open_tunnel(weir, plain.host)
        tunnels.append((client, plain.take()))
    tunnels = tunnels[1:] + tunnels[:1]
    for client, end in tunnels:
        echo(client, end)
    return tunnels


def test_the_longest_silent_tunnel_makes_room(start_weir, plain):
    """One for each who waits, and the others stay."""
    weir = start_weir({**limited(4), "timeouts": {"tunnel_idle_contended": "200ms"}})
    tunnels = in_order_of_silence(weir, plain, 4)
    new = []
    for number in range(2):
        new.append(open_tunnel(weir, plain.host))
        end = plain.take()
        client, other = tunnels[number]
        assert receive_all(client) == b"" and receive_all(other) == b""
        assert line_of(weir, client)["outcome"] == "tunnel_idle_contended"
        for client, other in tunnels[number + 1:]:
            assert is_silent(client) and is_silent(other)
        echo(new[-1], end)
    for client, end in tunnels[2:]:
        echo(client, end)


def test_several_who_wait_at_once(start_weir, plain):
    weir = start_weir({**limited(4), "timeouts": {"tunnel_idle_contended": "500ms"}})
    tunnels = in_order_of_silence(weir, plain, 4)
    waiting = [ask_tunnel(weir, plain.host) for _ in range(3)]
    for client in waiting:
        assert client.read_head().status == 200
    for client, end in tunnels[:3]:
        assert receive_all(client) == b"" and receive_all(end) == b""
    assert is_silent(tunnels[3][0]) and is_silent(tunnels[3][1])
    echo(*tunnels[3])


def test_pooled_tunnels_do_not_hold_up_a_crowd(start_weir, held):
    """40 clients, each of which keeps its tunnel after its one request, through a limit of 4."""
    held.hold = False
    weir = start_weir({**limited(4), "timeouts": {"tunnel_idle_contended": "100ms"}})
    clients = []
    for number in range(40):
        client = ask_tunnel(weir, held.host)
        http_through(client, f"/{number}")
        clients.append(client)
    for client in clients:
        assert client.read_head().status == 200
        assert client.read().body == b"hello"
    assert held.peak_connections <= 4
    assert weir.host(held.host)["peak_active"] == 4


def test_a_tunnel_that_carries_stays(start_weir, plain):
    weir = start_weir({**limited(1), "timeouts": {"tunnel_idle_contended": "1s"}})
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    waiting = ask_tunnel(weir, plain.host, [("Weir-Queue-Timeout", "2500ms")])
    while is_silent(waiting):
        echo(client, end)
    assert json.loads(waiting.read().body)["type"] == "urn:weir:problem:queue_timeout"
    echo(client, end)


def test_a_tunnel_whose_reader_is_slow_stays(start_weir, plain):
    """What it has to deliver is on its way, however long that takes."""
    weir = start_weir({**limited(1), "timeouts": {"tunnel_idle_contended": "100ms"}})
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    end.setblocking(False)
    piece = b"x" * 262144
    sent = 0

    def is_full():
        nonlocal sent
        try:
            while True:
                sent += end.send(piece)
        except BlockingIOError:
            return not select.select([], [end], [], 0.2)[1]

    wait_until(is_full, "all buffers are full")
    answer = ask_tunnel(weir, plain.host, [("Weir-Queue-Timeout", "1s")]).read()
    assert json.loads(answer.body)["type"] == "urn:weir:problem:queue_timeout"
    end.close()
    assert len(receive_all(client)) == sent


def test_a_silent_tunnel_stays_while_nobody_waits(start_weir, plain, held):
    """Time passes by somebody's waiting in vain for another host."""
    weir = start_weir({**limited(1), "timeouts": {"tunnel_idle_contended": "50ms"}})
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    weir.ask(held.url())
    request = held.next()
    answer = weir.fetch(held.url(), headers=[("Weir-Queue-Timeout", "500ms")])
    assert answer.status == 503
    assert is_silent(client)
    echo(client, end)
    request.answer()


def test_a_fetch_makes_a_silent_tunnel_go(start_weir, held):
    weir = start_weir({**limited(1), "timeouts": {"tunnel_idle_contended": "100ms"}})
    client = open_tunnel(weir, held.host)
    fetch = weir.ask(held.url())
    held.next().answer()
    assert fetch.read().status == 200
    assert receive_all(client) == b""


def test_a_tunnel_that_opens_while_others_wait(start_weir, plain):
    """The one that waits was there before the tunnel could be silent."""
    weir = start_weir({**limited(1), "timeouts": {"tunnel_idle_contended": "100ms"}})
    clients = [ask_tunnel(weir, plain.host) for _ in range(5)]
    for client in clients:
        assert client.read_head().status == 200
    assert all(receive_all(client) == b"" for client in clients[:-1])
    assert is_silent(clients[-1])


# How they end.

def test_an_idle_tunnel_is_closed(start_weir, plain):
    weir = start_weir({"timeouts": {"tunnel_idle": "200ms"}})
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    echo(client, end)
    assert receive_all(client) == b"" and receive_all(end) == b""
    assert line_of(weir, client)["outcome"] == "tunnel_idle"


@pytest.mark.parametrize("by", ["configuration", "request"])
def test_an_old_tunnel_is_closed_whatever_it_carries(start_weir, plain, by):
    weir = start_weir({"timeouts": {"tunnel_max_age": "400ms" if by == "configuration" else "1h"}})
    client = open_tunnel(weir, plain.host, [("Weir-Timeout", "400ms")] if by == "request" else [])
    end = plain.take()
    with pytest.raises((AssertionError, OSError)):
        while True:
            echo(client, end)
    assert line_of(weir, client)["outcome"] == "tunnel_max_age"


def test_a_tunnel_that_is_cut_off_is_closed_at_the_upstream_at_once(start_weir, plain):
    """Else it would be open there until all that was sent has been read: one connection too many."""
    weir = start_weir({"timeouts": {"tunnel_max_age": "400ms"}})
    client = open_tunnel(weir, plain.host)
    end = plain.take()
    with pytest.raises(OSError):
        while True:
            client.socket.sendall(b"x" * 100_000)
    with pytest.raises(ConnectionResetError):
        receive_all(end)


def drain(weir):
    weir.signal(signal.SIGTERM)
    wait_until(lambda: weir.admin_fetch("/readyz").status == 503, "it drains")


def test_a_drain_waits_for_tunnels(start_weir, plain):
    weir = start_weir(limited(1))
    running = open_tunnel(weir, plain.host)
    end = plain.take()
    waiting = ask_tunnel(weir, plain.host)
    weir.wait_host(plain.host, queued=1)
    drain(weir)
    answer = ask_tunnel(weir, plain.host).read()
    assert answer.status == 503
    assert json.loads(answer.body)["type"] == "urn:weir:problem:draining"
    echo(running, end)
    running.close()
    end.close()
    assert waiting.read_head().status == 200
    echo(waiting, plain.take())
    waiting.close()
    plain.stop()
    assert weir.wait_exit() == 0


def test_a_drain_ends(start_weir, plain):
    weir = start_weir({"timeouts": {"drain": "200ms"}})
    client = open_tunnel(weir, plain.host)
    plain.take()
    weir.signal(signal.SIGTERM)
    weir.expected_exit = 3
    assert receive_all(client) == b""
    assert weir.wait_exit() == 3


def test_a_reload_changes_the_deadlines_of_open_tunnels(start_weir, plain):
    weir = start_weir()
    client = open_tunnel(weir, plain.host)
    plain.take()
    weir.reload({"timeouts": {"tunnel_idle": "100ms"}})
    assert receive_all(client) == b""
    assert line_of(weir, client)["outcome"] == "tunnel_idle"


# Bad input.

@pytest.mark.parametrize("target, reason", [
    ("h", "port"), ("h:", "port"), (":443", "HOST:PORT"), ("h:0", "port"), ("h:65536", "port"),
    ("h:65979", "port"), ("h:99999999999999999999", "port"), ("h:-1", "port"), ("h:http", "port"),
    ("[::1]", "port"), ("[::1", "IPv6"), ("[::g]:443", "IPv6"), ("[fe80::1%25eth0]:443", "percent"),
    ("::1:443", ""), ("h%2e:443", "percent"), ("user:secret@h:443", "HOST:PORT"),
    ("http://h:443", "HOST:PORT"), ("http://h:443/", "HOST:PORT"), ("/", "HOST:PORT"), ("*", "port"),
    ("a" * 254 + ":443", "253"), (".".join(["a" * 63] * 4)[:254] + ":443", "253"),
    ("a..b:443", "label"), ("1.2.3.256:443", "number"), ("h\xe4:443", "ASCII"),
])
def test_bad_targets(weir, target, reason):
    before = len(weir.status()["hosts"])
    client = weir.client()
    client.send(request_bytes("CONNECT", target))
    answer = client.read()
    assert answer.status == 400 and json.loads(answer.body)["type"] == "urn:weir:problem:bad_target"
    assert reason in detail_of(answer) and "secret" not in answer.body.decode()
    client.wait_end()
    assert len(weir.status()["hosts"]) == before


@pytest.mark.parametrize("head", [
    "CONNECT {}\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\n\r\n",  # no Host
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a b\r\n\r\n",
    "CONNECT {} HTTP/2.0\r\nHost: a\r\n\r\n",
    "CONNECT  {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT {} HTTP/1.1 \r\nHost: a\r\n\r\n",
    "CONNECT {} x HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT {} HTTP/1.1\nHost: a\n\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\n Host: a\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nWeir-Nothing: 1\r\n\r\n",
    "CONNECT {} HTTP/1.1\r\nHost: a\r\nWeir-Queue-Timeout: soon\r\n\r\n",
])
def test_bad_heads(weir, plain, head):
    client = weir.client()
    client.send(head.format(plain.host).encode("latin-1"))
    answer = client.read()
    assert answer.status == 400
    assert json.loads(answer.body)["type"] == "urn:weir:problem:bad_request"
    client.wait_end()
    assert plain.has_nobody()


@pytest.mark.parametrize("fields", [[("X", "a" * 20_000)],
                                    [(f"X-{number}", "a") for number in range(3000)]])
def test_a_flood_of_header(weir, plain, fields):
    client = ask_tunnel(weir, plain.host, fields)
    answer = client.read()
    assert answer.status == 431
    assert json.loads(answer.body)["type"] == "urn:weir:problem:header_too_large"
    assert plain.has_nobody()


def test_a_head_without_an_end_is_bounded(weir, plain):
    client = weir.client()
    client.send(f"CONNECT {plain.host} HTTP/1.1\r\nHost: a\r\nX: ".encode() + b"a" * 20_000)
    assert client.read().status == 431


@pytest.mark.parametrize("data", [b"C", b"CONNECT", b"CONNECT ", b"CONNECT h:443 HTTP/1.1\r\n",
                                  b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n"])
def test_a_half_sent_head_is_closed_after_its_deadline(start_weir, data):
    weir = start_weir({"timeouts": {"head": "200ms"}})
    client = weir.client()
    client.send(data)
    assert client.read_all() == b""
    weir.wait_idle()


@pytest.mark.parametrize("data", [b"CON", b"CONNECT", b"CONNECT h:443 HTTP/1.1\r\n"])
def test_a_client_that_leaves_in_the_middle_of_its_head(weir, data):
    client = weir.client()
    client.send(data)
    client.close()
    weir.wait_idle()


@pytest.mark.parametrize("data", [b"CONNECT", b"CONNECTX / HTTP/1.1\r\nHost: a\r\n\r\n",
                                  b"CONNECT/ HTTP/1.1\r\nHost: a\r\n\r\n",
                                  b"connect h:443 HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_what_only_looks_like_connect(weir, data):
    client = weir.client()
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    answer = client.read_all()
    assert answer == b"" or re.match(rb"HTTP/1\.1 4\d\d ", answer)


def test_the_rules_of_egress_hold(start_weir, plain):
    """In full they are tested with fetches; a tunnel must ask them too."""
    weir = start_weir(defaults=[])
    answer = ask_tunnel(weir, plain.host).read()
    assert answer.status == 403
    assert json.loads(answer.body)["type"] == "urn:weir:problem:denied"
    answer = ask_tunnel(weir, "127.0.0.1:443").read()
    assert answer.status == 403
    assert plain.has_nobody()


def test_a_tunnel_to_the_service_itself_is_a_loop(weir):
    for host in (f"127.0.0.1:{weir.data[1]}", f"127.0.0.2:{weir.data[1]}",
                 f"127.0.0.1:{weir.admin[1]}"):
        answer = ask_tunnel(weir, host).read()
        assert answer.status in (502, 508)
        assert host.startswith("127.0.0.2") or answer.status == 508
