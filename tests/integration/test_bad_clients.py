"""Clients that send garbage, too much, too slowly, or what smells of smuggling."""

import json
import select
import socket

import pytest

from client import FORMS, fetch_target, request_bytes, target_for
from waiting import DEADLINE_S, wait_until
from weir import limited


@pytest.fixture
def weir(shared_weir):
    return shared_weir


def raw_answer(weir, data):
    """All that the service sends until it closes the connection."""
    client = weir.client()
    client.send(data)
    answer = client.read_all()
    assert client.ended
    client.close()
    return answer


def status_of(data):
    assert data.startswith(b"HTTP/1.1 "), data[:200]
    return int(data[9:12])


def assert_refused(weir, upstream, data, statuses=(400,)):
    """DATA is answered with one of STATUSES, the connection is closed, and nothing goes upstream."""
    assert status_of(raw_answer(weir, data)) in statuses
    assert weir.fetch(upstream.url("/ordered-after")).status == 200
    assert upstream.targets() == ["/ordered-after"]


def head(upstream, *lines, method="POST", version="1.1", form="forward", host="Host: x"):
    target = target_for(upstream.url("/smuggled"), form)
    lines = [f"{method} {target} HTTP/{version}", *([host] if host else []), *lines]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


SMUGGLING = {
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "one length twice": ["Content-Length: 5", "Content-Length: 5"],
    "a list of lengths": ["Content-Length: 5, 5"],
    "a plus": ["Content-Length: +5"],
    "a minus": ["Content-Length: -5"],
    "hexadecimal": ["Content-Length: 0x5"],
    "an empty length": ["Content-Length:"],
    "a length that is a word": ["Content-Length: five"],
    "a length with a space inside": ["Content-Length: 5 5"],
    "2^64 - 1": ["Content-Length: 18446744073709551615"],
    "2^64 + 5": ["Content-Length: 18446744073709551621"],
    "length and chunked": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunked and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "gzip, chunked": ["Transfer-Encoding: gzip, chunked"],
    "chunked, gzip": ["Transfer-Encoding: chunked, gzip"],
    "identity": ["Transfer-Encoding: identity"],
    "xchunked": ["Transfer-Encoding: xchunked"],
    "chunked;x": ["Transfer-Encoding: chunked;x"],
    "an empty coding": ["Transfer-Encoding:"],
    "two codings": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "chunked and identity": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    "a space before the colon of a length": ["Content-Length : 5"],
    "a space before the colon of a coding": ["Transfer-Encoding : chunked"],
    "a tab before the colon": ["Transfer-Encoding\t: chunked"],
    "a folded line": ["X-Folded: a", " b"],
    "a fold that makes a coding": ["Transfer-Enc: chunked", " oding"],
    "a folded coding": ["Transfer-Encoding:", " chunked"],
    "a field that starts with a space": [" Transfer-Encoding: chunked"],
    "a bare CR in a value": ["X-Bare: a\rTransfer-Encoding: chunked"],
    "a control character in a value": ["X-Control: a\x01b"],
    "a delete character in a value": ["X-Delete: a\x7fb"],
    "no colon": ["X-No-Colon"],
    "a NUL in a name": ["X-N\0ul: a"],
    "a name that is no token": ["X(Odd): a"],
    "a name beyond ASCII": ["X-\xe9: a"],
    "two hosts": ["Host: y"],
    "no name": [": a"],
    "no name and no value": [":", "Content-Length: 5"],
    "a NUL at the begin of a line": ["\0: a", "Content-Length: 5"],
    "a NUL in a value": ["X-Nul: a\0b"],
    "a NUL at the end of a value": ["X-Nul: a\0"],
    "a NUL in a coding": ["Transfer-Encoding: chunked\0, gzip"],
    "a NUL in a length": ["Content-Length: 1\x002"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lines", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_smells_of_smuggling_is_refused(weir, upstream, lines, form):
    statuses = (400, 501) if any(line.startswith("Transfer-Encoding") for line in lines) else (400, 413)
    follow = b"0\r\n\r\n" + request_bytes("GET", upstream.url("/smuggled"))
    assert_refused(weir, upstream, head(upstream, *lines, form=form) + follow, statuses)


def test_a_field_before_the_host_that_starts_with_a_space_is_refused(weir, upstream):
    data = head(upstream, "Host: x", host=" X-First: a")
    assert_refused(weir, upstream, data)


def test_chunked_in_http_1_0_is_refused(weir, upstream):
    data = head(upstream, "Transfer-Encoding: chunked", version="1.0") + b"0\r\n\r\n"
    assert_refused(weir, upstream, data, (400, 501))


@pytest.mark.parametrize("line", [
    b"GET\0POST {} HTTP/1.1", b"GET {}a\0b HTTP/1.1", b"GET {}?a\0b HTTP/1.1", b"GET {}\0 HTTP/1.1",
    b"GET {} HTTP/1.1\0", b"GET  {} HTTP/1.1", b"GET {} HTTP/1.1 "])
def test_a_first_line_that_can_be_read_in_two_ways_is_refused(weir, upstream, line):
    """libmicrohttpd 1.0 closes the connection where it finds a byte 0 here, without an answer."""
    line = line.replace(b"{}", upstream.url("/").encode())
    answer = raw_answer(weir, line + b"\r\nHost: x\r\n\r\n")
    assert answer == b"" and b"\0" in line or status_of(answer) == 400
    assert weir.fetch(upstream.url("/ordered-after")).status == 200
    assert upstream.targets() == ["/ordered-after"]


@pytest.mark.parametrize("ends", range(1, 8))
def test_lines_that_do_not_end_in_cr_lf_are_refused(weir, upstream, ends):
    """In the first line, a field's, or the empty one, or several."""
    lines = [b"GET " + upstream.url("/").encode() + b" HTTP/1.1", b"Host: x", b""]
    data = b"".join(line + (b"\n" if ends & 1 << at else b"\r\n") for at, line in enumerate(lines))
    assert_refused(weir, upstream, data)


@pytest.mark.parametrize("body", [
    b"5\r\nhello\r\n0\r\n\0\r\n", b"5\r\nhello\r\n0\r\n\0X: y\r\n", b"5\r\nhello\r\n0\r\n: v\r\n",
    b"5\r\nhello\r\n0\r\n\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r\n0\n\r\n",
    b"5;a\0b\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX-A: b\r\n: c\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX-A: b\r\n\0\r\n\r\n", b"5\r\nhello\r\n0\r\nX-A: b\nX-C: d\r\n\r\n"])
def test_nothing_can_be_hidden_behind_a_chunked_body(weir, upstream, body):
    """Where it ends may be read in two ways, which libmicrohttpd does not tell: so it is the last."""
    client = weir.client()
    client.send(head(upstream, "Transfer-Encoding: chunked") + body + request_bytes("GET", upstream.url("/behind")))
    client.read_all()
    assert "/behind" not in upstream.targets()


@pytest.mark.parametrize("trailers", [b"X-A: b\0c\r\n", b"X-A: b\0c\r\nX-D: e\r\n", b"X-A: b\nX-C: d\r\n",
                                      b"X-A: b\r\n c\r\n"])
def test_trailers_that_can_be_read_in_two_ways_do_not_reach_the_upstream(weir, upstream, trailers):
    data = head(upstream, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n"
    raw_answer(weir, data)
    weir.wait_idle()
    assert not any(request.body_read.is_set() for request in upstream.requests)


def test_no_host_in_http_1_1_is_refused(weir, upstream):
    assert_refused(weir, upstream, head(upstream, method="GET", host=None))


def test_an_odd_method_is_refused(weir, upstream):
    assert_refused(weir, upstream, head(upstream, method="G<>T"))


@pytest.mark.parametrize("body", [
    b"5\r\nhelloXX0\r\n\r\n", b"-1\r\nhello\r\n", b"xyz\r\n", b"5 5\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffff1\r\nhello\r\n", b"\r\nhello\r\n",
])
def test_bad_chunks_end_the_request(weir, upstream, body):
    client = weir.ask(upstream.url("/" + body.hex()), method="POST",
                      headers=[("Transfer-Encoding", "chunked")])
    client.send(body)
    data = client.read_all()
    assert data == b"" or status_of(data) in (400, 413)
    weir.wait_host(upstream.host, active=0)
    line = weir.log.wait(path="/" + body.hex())
    assert (line["outcome"], line["status"]) == ("bad_request", 400)
    assert all(not request.body_read.is_set() for request in upstream.requests)


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"\0" * 300 + b"\r\n\r\n",
    b"hello\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP\r\n\r\n",
    b"GET / HTTP/x\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    bytes(range(128, 256)) * 8 + b"\r\n\r\n",
])
def test_garbage_is_refused_and_the_connection_closed(weir, upstream, data):
    client = weir.client()
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    answer = client.read_all()
    assert answer == b"" or 400 <= status_of(answer) < 600
    assert weir.fetch(upstream.url()).status == 200


def test_an_unknown_major_version_is_refused(weir, upstream):
    answer = raw_answer(weir, head(upstream, method="GET", version="2.0"))
    assert status_of(answer) in (400, 505)
    assert not upstream.requests


@pytest.mark.parametrize("data,statuses", [
    (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (414, 431)),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n", (431,)),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 10_000 + b"\r\n", (431,)),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"Cookie: " + b"a=b; " * 20_000 + b"\r\n\r\n", (431,)),
], ids=["target", "value", "fields", "cookies"])
def test_an_oversize_head_is_refused(weir, data, statuses):
    client = weir.client()
    try:
        client.send(data)
    except OSError:
        pass  # it need not read all of it
    answer = client.read_all()
    assert status_of(answer) in statuses


def test_a_large_head_within_bounds_passes(weir, upstream):
    fields = [("X-Large", "a" * 8000), ("Cookie", "; ".join(f"c{n}=v" for n in range(100)))]
    assert weir.fetch(upstream.url(), headers=fields).status == 200
    assert [field for field in upstream.next().headers if field in fields] == fields


BAD_TARGETS = {
    "an unknown scheme": "ftp://127.0.0.1/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:1/",
    "no scheme": "127.0.0.1/",
    "no host": "http:///path",
    "one slash": "http:/127.0.0.1/",
    "user": "http://user@127.0.0.1/",
    "user and password": "http://user:secret@127.0.0.1/",
    "an empty user": "http://@127.0.0.1/",
    "port 0": "http://127.0.0.1:0/",
    "port 65536": "http://127.0.0.1:65536/",
    "a port that is a word": "http://127.0.0.1:http/",
    "a negative port": "http://127.0.0.1:-80/",
    "two ports": "http://127.0.0.1:80:80/",
    "an empty label": "http://a..b/",
    "a host with a percent sign": "http://a%2eb/",
    "a host beyond ASCII": "http://caf\xe9.test/",
    "an open bracket": "http://[::1/",
    "too many numbers": "http://[1:2:3:4:5:6:7:8:9]/",
    "a long label": "http://" + "a" * 300 + "/",
    "a fragment": "http://127.0.0.1/#part",
}


# What is no URL at all is no absolute form either.
@pytest.mark.parametrize("form, url", [
    pytest.param(form, url, id=f"{form}: {name}") for form in FORMS for name, url in BAD_TARGETS.items()
    if (form, url) != ("forward", "127.0.0.1/")])
def test_a_malformed_target_is_refused(weir, url, form):
    client = weir.client()
    client.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target_for(url, form).encode("latin-1"))
    answer = client.read()
    assert answer.status in ((400, 404) if form == "forward" else (400,))
    problem = json.loads(answer.body)
    assert problem["type"].rpartition(":")[2] in ("bad_target", "bad_request", "not_found")
    assert "secret" not in answer.body.decode()
    assert weir.status()["totals"]["active"] == 0


@pytest.mark.parametrize("byte", [b" ", b"\t", b"\x01", b"\x7f", b"#"])
def test_a_byte_that_no_target_may_hold_is_refused(weir, upstream, byte):
    client = weir.client()
    client.send(b"GET " + upstream.url("/a").encode() + byte + b"b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.read_head().status == 400
    assert not upstream.requests


@pytest.mark.parametrize("escaped", ["%20", "%0d%0aX-Injected:%201", "%00", "%7f", "%23", "%09"])
def test_an_escaped_byte_that_no_target_may_hold_is_refused(weir, upstream, escaped):
    target = fetch_target(upstream.url("/a")) + escaped + "b"
    answer = weir.client().ask("GET", target).read()
    assert answer.status == 400
    assert not upstream.requests


@pytest.mark.parametrize("target", ["/fetch", "/fetch?", "/fetch?url=", "/fetch?URL=http://a/",
                                    "/fetch?url=http://a/&url=http://b/", "/fetch?url=http://a/&x=1",
                                    "/fetch?x=1&url=http://a/"])
def test_a_fetch_without_its_one_url_is_refused(weir, target):
    answer = weir.client().ask("GET", target).read()
    assert answer.status == 400
    assert "url" in json.loads(answer.body)["detail"].lower()


@pytest.mark.parametrize("target", ["/", "/nothing", "/fetch/", "/fetchx?url=http://a/", "*", "//",
                                    "/FETCH?url=http://a/"])
def test_another_target_is_not_found_and_told_the_forms(weir, target):
    answer = weir.client().ask("OPTIONS" if target == "*" else "GET", target).read()
    assert answer.status == 404
    assert answer.get("Content-Type") == "application/problem+json"
    assert "/fetch?url=" in json.loads(answer.body)["detail"]


def test_connect_on_a_used_connection_is_told_to_open_another(weir, upstream):
    client = weir.client().ask("GET", target_for(upstream.url("/"), "fetch"))
    assert client.read().status == 200
    client.ask("CONNECT", f"127.0.0.1:{upstream.port}")
    answer = client.read()
    assert answer.status == 400
    assert "open a new one" in json.loads(answer.body)["detail"]
    assert answer.get("Connection") == "close"
    client.wait_end()
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("data", [b"", b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b",
                                  b"CONN", b"\r\n"])
def test_a_half_sent_head_is_closed_after_its_deadline(start_weir, data):
    weir = start_weir({"timeouts": {"head": "200ms"}})
    client = weir.client()
    client.send(data)
    answer = client.read_all()
    assert answer == b"" or status_of(answer) == 408


def test_a_head_that_trickles_is_closed_after_its_deadline(start_weir):
    weir = start_weir({"timeouts": {"head": "300ms"}})
    client = weir.client(deadline_s=0.02)
    client.send(b"GET /fetch HTTP/1.1\r\nHost: x\r\n")
    pieces = 0
    while True:
        try:
            client.send(b"X-A: b\r\n")
            pieces += 1
            if client.socket.recv(1000) == b"":
                break
        except TimeoutError:
            assert pieces < 1000, "it is never closed"
        except OSError:
            break
    assert pieces > 1


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\n", b"CONNECT "])
def test_the_time_for_a_head_begins_with_its_connection(start_weir, held, data):
    """Not with its first byte, nor with its first line."""
    weir = start_weir({"timeouts": {"head": "1s"}})
    first = weir.client()
    wait_until(lambda: weir.client_connections() == 1, "the first is in")
    clock = weir.ask(held.url(), headers=[("Weir-Timeout", "300ms")])
    assert clock.read().status == 504
    clock.close()
    second = weir.client()
    wait_until(lambda: weir.client_connections() == 2, "the second is in")
    first.send(data)
    ended, _, _ = select.select([first.socket, second.socket], [], [], DEADLINE_S)
    assert first.socket in ended


def test_slow_heads_do_not_keep_others_waiting(start_weir, upstream):
    weir = start_weir()
    for _ in range(200):
        weir.client().send(b"GET /fetch?url=")
    for form in FORMS:
        assert weir.fetch(upstream.url(), form=form).status == 200


def test_a_head_in_single_bytes_is_read(weir, upstream):
    client = weir.client()
    for byte in request_bytes("GET", upstream.url()):
        client.send(bytes([byte]))
    assert client.read().status == 200


def test_an_idle_connection_is_closed_after_keepalive(start_weir, upstream):
    weir = start_weir({"timeouts": {"keepalive": "200ms"}})
    client = weir.ask(upstream.url())
    assert client.read().status == 200
    client.wait_end()


def test_a_waiting_request_outlives_keepalive_and_head_deadlines(start_weir, held):
    weir = start_weir({**limited(1, queue_timeout="700ms"),
                       "timeouts": {"keepalive": "100ms", "head": "100ms", "client_idle": "100ms"}})
    weir.ask(held.url())
    held.next()
    assert weir.fetch(held.url()).status == 503


def test_clients_that_come_and_go_leave_nothing(weir):
    for number in range(300):
        client = weir.client()
        if number % 3:
            client.send(b"GET /fetch?url=http"[:number % 20])
        (client.close if number % 2 else client.reset)()
    # The fixture waits until no client connection is left.


def test_more_connections_than_allowed_wait_or_are_closed_and_service_goes_on(start_weir, upstream):
    weir = start_weir({"connections": 10})
    clients = [weir.client() for _ in range(30)]
    weir.close_clients()
    assert clients
    weir.wait_idle()
    assert weir.fetch(upstream.url()).status == 200
