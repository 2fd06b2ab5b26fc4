"""Bytes pass through untouched, both ways."""

import gzip
import re
import threading

import pytest

from client import FORMS, chunk, fetch_target, request_bytes, target_for
from upstream import answer_bytes
from waiting import DEADLINE_S
from weir import in_order, limited

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "QUERY", "purge",
           "M-SEARCH", "x!#$%&'*+.^_`|~1"]


@pytest.fixture
def weir(shared_weir):
    return shared_weir


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_reaches_the_upstream(weir, upstream, method, form):
    answer = weir.fetch(upstream.url("/a"), form=form, method=method)
    assert (answer.status, answer.body) == (200, b"hello")
    assert (upstream.next().method) == method


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "PROPFIND"])
def test_a_body_reaches_the_upstream_with_every_method(weir, upstream, method, form):
    assert weir.fetch(upstream.url(), form=form, method=method, body=b"a\0b" * 100).status == 200
    request = upstream.next()
    assert request.method == method
    assert request.wait_body() == b"a\0b" * 100
    assert request.get("Content-Length") == "300"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_empty_body_keeps_its_length_of_zero(weir, upstream, method):
    assert weir.fetch(upstream.url(), method=method, body=b"").status == 200
    request = upstream.next()
    assert request.get("Content-Length") == "0" and request.all("Transfer-Encoding") == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_no_body_stays_no_body(weir, upstream, method):
    assert weir.fetch(upstream.url(), method=method).status == 200
    request = upstream.next()
    assert request.all("Content-Length") in ([], ["0"]) and request.all("Transfer-Encoding") == []
    assert request.all("Content-Type") == request.all("Expect") == []


@pytest.mark.parametrize("form", FORMS)
def test_a_chunked_body_reaches_the_upstream_with_its_trailers(weir, upstream, form):
    client = weir.ask(upstream.url(), form=form, method="POST",
                      headers=[("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
    request = upstream.next()
    client.send(chunk(b"hello ") + chunk(b"w" * 3000))
    client.send(b"0\r\nX-Sum: 42\r\n\r\n")
    assert client.read().status == 200
    assert request.wait_body() == b"hello " + b"w" * 3000
    assert request.get("Transfer-Encoding") == "chunked" and request.all("Content-Length") == []
    assert request.trailers == [("X-Sum", "42")]


def test_trailers_that_frame_or_route_do_not_pass(weir, upstream):
    client = weir.ask(upstream.url(), method="POST", headers=[("Transfer-Encoding", "chunked")])
    client.send(b"1\r\na\r\n0\r\nContent-Length: 5\r\nHost: evil\r\nAuthorization: x\r\nX-Good: 1\r\n\r\n")
    assert client.read().status == 200
    assert upstream.next().trailers == [("X-Good", "1")]


def test_a_streamed_request_arrives_while_it_is_still_sent(weir, upstream):
    pieces = []

    def script(request):
        for piece in request.body_pieces():
            pieces.append(piece)
            if piece == b"first":
                client.send(chunk(b"second") + b"0\r\n\r\n")
        request.send_answer()

    upstream.script = script
    client = weir.ask(upstream.url(), method="POST", headers=[("Transfer-Encoding", "chunked")])
    client.send(chunk(b"first"))
    assert client.read().status == 200
    assert pieces == [b"first", b"second"]


@pytest.mark.parametrize("trailers", [[], [("X-Sum", "42"), ("X-Sum", "43"), ("X-Other", "z")]])
@pytest.mark.parametrize("size", [0, 1, 70000])
def test_a_chunked_answer_is_passed_with_its_trailers(weir, held, size, trailers):
    announced = [("Trailer", "X-Sum, X-Other")] if trailers else []
    client = weir.ask(held.url())
    held.next().answer(headers=announced, body=b"x" * size, chunked=True, trailers=trailers)
    answer = client.read()
    assert answer.complete and answer.body == b"x" * size
    assert answer.trailers == trailers


def test_a_streamed_answer_arrives_while_it_is_still_sent(weir, upstream):
    seen = threading.Event()

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"first"))
        seen.wait(DEADLINE_S)
        request.send(chunk(b"second") + b"0\r\n\r\n", last=True)

    upstream.script = script
    pieces = []

    def sink(piece):
        pieces.append(piece)
        seen.set()

    assert weir.ask(upstream.url()).read(sink=sink).complete
    assert pieces == [b"first", b"second"]


def test_an_answer_that_ends_with_its_connection_is_passed_whole(weir, held):
    client = weir.ask(held.url())
    held.next().answer_raw(b"HTTP/1.1 200 Fine\r\n\r\n" + b"x" * 5000, close=True)
    answer = client.read()
    assert answer.complete and answer.body == b"x" * 5000


def test_an_http_1_0_answer_is_passed(weir, held):
    client = weir.ask(held.url())
    held.next().answer_raw(b"HTTP/1.0 200 Fine\r\nContent-Type: a/b\r\n\r\nhello", close=True)
    answer = client.read()
    assert answer.complete and answer.body == b"hello" and answer.get("Content-Type") == "a/b"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fields,keeps", [
    ([("Content-Length", "5000")], True),
    ([("Content-Length", "0")], True),
    ([("Transfer-Encoding", "chunked")], None),
    ([], None),
])
def test_head_has_no_body_and_the_connection_stays_in_step(weir, held, form, fields, keeps):
    client = weir.ask(held.url("/head"), form=form, method="HEAD")
    head = "".join(f"{name}: {value}\r\n" for name, value in [("X-Mark", "1"), *fields])
    request = held.next()
    assert request.method == "HEAD"
    request.answer_raw(b"HTTP/1.1 200 Fine\r\n" + head.encode() + b"\r\n")
    answer = client.read("HEAD")
    assert answer.complete and answer.status == 200 and answer.get("X-Mark") == "1"
    if keeps:
        assert answer.get("Content-Length") == dict(fields)["Content-Length"]
    if answer.get("Connection") == "close":
        assert not keeps
        client.wait_end()
        return
    client.ask("GET", target_for(held.url("/after"), form))
    request = held.next()
    assert request.target == "/after"
    request.answer(body=b"in step")
    assert client.read().body == b"in step"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status,fields", [
    (204, []),
    (304, []),
    (304, [("Content-Length", "5000"), ("ETag", '"a"')]),
])
def test_answers_without_body_keep_the_connection_in_step(weir, held, form, status, fields):
    client = weir.ask(held.url(), form=form)
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    held.next().answer_raw(b"HTTP/1.1 %d Fine\r\n%s\r\n" % (status, head.encode()))
    answer = client.read()
    assert answer.complete and answer.status == status and answer.body == b""
    if status == 204:
        assert answer.all("Content-Length") == []
    assert answer.get("ETag") == dict(fields).get("ETag")
    if answer.get("Connection") == "close":
        client.wait_end()
        return
    client.ask("GET", target_for(held.url(), form))
    held.next().answer(body=b"in step")
    assert client.read().body == b"in step"


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 207, 226, 299, 300, 301, 302, 307, 400,
                                    401, 404, 405, 407, 416, 418, 429, 451, 500, 503, 507, 599])
def test_every_status_is_passed(weir, held, status):
    client = weir.ask(held.url())
    held.next().answer(status, [("Location", "/elsewhere")], b"body")
    answer = client.read()
    assert (answer.status, answer.body) == (status, b"body")
    assert answer.get("Location") == "/elsewhere"  # redirects are the client's to follow
    assert answer.all("Proxy-Status") == []


def test_ranges_are_passed(weir, held):
    client = weir.ask(held.url(), headers=[("Range", "bytes=2-4"), ("If-Range", '"a"')])
    request = held.next()
    assert request.get("Range") == "bytes=2-4" and request.get("If-Range") == '"a"'
    request.answer(206, [("Content-Range", "bytes 2-4/10")], b"cde")
    answer = client.read()
    assert (answer.status, answer.body) == (206, b"cde")
    assert answer.get("Content-Range") == "bytes 2-4/10"


def test_100_continue_comes_only_once_the_request_holds_a_slot(start_weir, held):
    weir = start_weir(limited(1))
    in_order(weir, held, 1)
    client = weir.client().ask("POST", fetch_target(held.url("/upload")),
                               [("Expect", "100-continue"), ("Content-Length", "5")])
    weir.wait_host(held.host, active=1, queued=1)
    assert client.has_nothing_to_read()
    held.next().answer()
    assert client.read_interim() == 100
    client.send(b"hello")
    request = held.next()
    assert request.wait_body() == b"hello" and request.all("Expect") == []
    request.answer()
    assert client.read().status == 200


def test_a_refused_request_gets_no_100_continue(start_weir, held):
    weir = start_weir(limited(1, queue=0))
    in_order(weir, held, 1)
    client = weir.client().ask("POST", fetch_target(held.url()),
                               [("Expect", "100-continue"), ("Content-Length", "5")])
    answer = client.read()
    assert answer.status == 503 and answer.interim == []


def test_an_unknown_expectation_fails(weir, upstream):
    answer = weir.fetch(upstream.url(), headers=[("Expect", "miracles")])
    assert answer.status == 417
    assert not upstream.requests


def test_http_1_0_without_keep_alive_is_closed(weir, held):
    client = weir.client().ask("GET", held.url(), version="1.0", host=None)
    held.next().answer(body=b"hello")
    answer = client.read()
    assert answer.complete and answer.body == b"hello"
    client.wait_end()


def test_http_1_0_with_keep_alive_is_kept(weir, held):
    client = weir.client()
    for _ in range(2):
        client.ask("GET", held.url(), [("Connection", "keep-alive")], version="1.0")
        held.next().answer(body=b"hello")
        assert client.read().body == b"hello"


def test_http_1_0_gets_no_chunks(weir, held):
    client = weir.client().ask("GET", held.url(), version="1.0")
    held.next().answer(body=b"hello" * 1000, chunked=True, trailers=[("X-Sum", "1")])
    answer = client.read()
    assert answer.all("Transfer-Encoding") == []
    assert answer.body == b"hello" * 1000


def test_connection_close_is_heeded(weir, upstream):
    client = weir.ask(upstream.url(), headers=[("Connection", "close")])
    assert client.read().get("Connection") == "close"
    client.wait_end()


@pytest.mark.parametrize("count", [2, 20])
def test_pipelined_requests_are_answered_in_order(weir, upstream, count):
    upstream.script = lambda request: request.send_answer(body=request.target.encode())
    client = weir.client()
    client.send(b"".join(request_bytes("GET", target_for(upstream.url(f"/{number}"), FORMS[number % 2]))
                         for number in range(count)))
    assert [client.read().body for _ in range(count)] == [b"/%d" % n for n in range(count)]


def test_pipelined_requests_with_bodies_stay_in_step(weir, upstream):
    client = weir.client()
    client.send(b"".join(request_bytes("POST", fetch_target(upstream.url(f"/{number}")),
                                       body=b"GET / HTTP/1.1\r\n\r\n" * number) for number in range(6)))
    for number in range(6):
        assert client.read().status == 200
        request = upstream.next()
        assert request.target == f"/{number}"
        assert request.wait_body() == b"GET / HTTP/1.1\r\n\r\n" * number


def test_a_connection_serves_many_requests_to_many_hosts(weir, new_upstream):
    upstreams = [new_upstream() for _ in range(3)]
    client = weir.client()
    for number in range(30):
        client.ask("GET", target_for(upstreams[number % 3].url(), FORMS[number % 2]))
        assert client.read().body == b"hello"
    assert [len(upstream.connections) for upstream in upstreams] == [1, 1, 1]


def test_request_fields_pass_verbatim_and_in_order(weir, upstream):
    fields = [("X-One", "1"), ("Accept", "text/*;q=0.3, */*"), ("X-Same", "b"), ("x-same", "a"),
              ("X-Empty", ""), ("X-Latin", "caf\xe9 \x80"), ("User-Agent", "tester/1"),
              ("Cookie", "a=b; c=d"), ("Accept-Encoding", "gzip, br"), ("Authorization", "Basic eA=="),
              ("Forwarded", "for=1.2.3.4"), ("X-Forwarded-For", "1.2.3.4"), ("X-Tab", "a\tb"),
              ("Cache-Control", "no-cache"), ("Cookie", "e=f")]
    assert weir.fetch(upstream.url(), headers=fields).status == 200
    request = upstream.next()
    names = {name.lower() for name, _ in fields}
    assert [field for field in request.headers if field[0].lower() in names] == fields


def test_nothing_is_added_to_a_request_but_what_is_promised(weir, upstream):
    client = weir.client()
    client.send(request_bytes("GET", upstream.url()))
    assert client.read().status == 200
    names = sorted(name.lower() for name, _ in upstream.next().headers)
    assert names == ["host", "via", "x-request-id"]


@pytest.mark.parametrize("form", FORMS)
def test_host_is_that_of_the_target(weir, upstream, form):
    client = weir.client().ask("GET", target_for(upstream.url(), form), host="elsewhere.test")
    assert client.read().status == 200
    assert upstream.next().get("Host") == f"127.0.0.1:{upstream.port}"


def test_answer_fields_pass_verbatim_and_in_order(weir, held):
    fields = [("Date", "Mon, 01 Jan 2001 00:00:00 GMT"), ("Set-Cookie", "a=b; Path=/"),
              ("X-One", "1"), ("Set-Cookie", "c=d"), ("X-Empty", ""), ("X-Latin", "caf\xe9"),
              ("Server", "their own"), ("x-lower", "z"), ("Set-Cookie", "a=e"), ("ETag", 'W/"x"'),
              ("Content-Encoding", "unknown"), ("WWW-Authenticate", "Basic realm=a"),
              ("WWW-Authenticate", "Digest realm=b")]
    client = weir.ask(held.url())
    held.next().answer(headers=fields)
    answer = client.read()
    names = {name.lower() for name, _ in fields}
    passed = [field for field in answer.headers if field[0].lower() in names]
    assert sorted(passed) == sorted(fields)
    for name in ("Set-Cookie", "WWW-Authenticate"):
        assert answer.all(name) == [value for key, value in fields if key == name]
    assert [field for field in passed if field[0] != "Date"] == fields[1:]


def test_nothing_is_added_to_an_answer_but_what_is_promised(weir, held):
    client = weir.ask(held.url())
    held.next().answer(body=b"x")
    names = sorted(name.lower() for name, _ in client.read().headers)
    assert names == ["content-length", "date", "server-timing", "via", "x-request-id"]


def test_hop_by_hop_fields_of_a_request_do_not_pass(weir, upstream):
    fields = [("Connection", "keep-alive, X-Named"), ("Connection", "x-other"), ("X-Named", "1"),
              ("X-Other", "2"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"),
              ("Proxy-Authorization", "Basic eA=="), ("Upgrade", "websocket"), ("TE", "gzip"),
              ("X-Kept", "3")]
    assert weir.fetch(upstream.url(), headers=fields).status == 200
    names = {name.lower() for name, _ in upstream.next().headers}
    assert "x-kept" in names
    assert not names & {"x-named", "x-other", "keep-alive", "proxy-connection", "upgrade", "te",
                        "proxy-authorization"}


def test_naming_a_needed_field_in_connection_does_not_remove_it(weir, upstream):
    assert weir.fetch(upstream.url(), method="POST", body=b"abc",
                      headers=[("Connection", "Host, Content-Length, Via")]).status == 200
    request = upstream.next()
    assert request.get("Host") and request.get("Via") and request.wait_body() == b"abc"


def test_te_trailers_is_told_on(weir, upstream):
    assert weir.fetch(upstream.url(), headers=[("TE", "trailers"), ("Connection", "TE")]).status == 200
    assert upstream.next().get("TE") == "trailers"


def test_hop_by_hop_fields_of_an_answer_do_not_pass(weir, held):
    client = weir.ask(held.url())
    held.next().answer(headers=[("Connection", "X-Named"), ("X-Named", "1"), ("Keep-Alive", "max=1"),
                                ("Proxy-Authenticate", "Basic"), ("Proxy-Connection", "close"),
                                ("Upgrade", "h2c"), ("Weir-Anything", "1"), ("X-Kept", "2")])
    names = {name.lower() for name, _ in client.read().headers}
    assert "x-kept" in names
    assert not names & {"x-named", "keep-alive", "proxy-authenticate", "proxy-connection", "upgrade",
                        "weir-anything"}


def test_an_upstream_that_closes_does_not_close_the_client(weir, held):
    client = weir.ask(held.url())
    held.next().answer(headers=[("Connection", "close")], close=True)
    assert client.read().all("Connection") == []
    client.ask("GET", held.url())
    held.next().answer(body=b"again")
    assert client.read().body == b"again"


def test_via_is_appended_both_ways(weir, held):
    client = weir.ask(held.url(), headers=[("Via", "1.0 first")])
    request = held.next()
    assert re.match(r"1\.0 first, 1\.1 weir( |$)", ", ".join(request.all("Via")))
    request.answer(headers=[("Via", "1.0 theirs")])
    assert re.match(r"1\.0 theirs, 1\.1 weir( |$)", ", ".join(client.read().all("Via")))


def test_a_request_that_comes_back_is_a_loop(weir):
    own = f"http://127.0.0.1:{weir.data[1]}"
    inner = own + fetch_target("http://name.invalid/")
    answer = weir.fetch(inner)
    assert answer.status == 508
    assert "proxy_loop_detected" in answer.get("Proxy-Status")


@pytest.mark.parametrize("given", ["abc-123", "x" * 128])
def test_a_request_id_is_kept_and_echoed(weir, upstream, given):
    answer = weir.fetch(upstream.url(), headers=[("X-Request-Id", given)])
    assert answer.get("X-Request-Id") == upstream.next().get("X-Request-Id") == given
    assert weir.log.wait(id=given)["status"] == 200


@pytest.mark.parametrize("given", [[], [("X-Request-Id", "")], [("X-Request-Id", "x" * 129)],
                                   [("X-Request-Id", "a b")]])
def test_a_request_id_is_made_where_there_is_no_good_one(weir, held, given):
    seen = set()
    for _ in range(2):
        client = weir.ask(held.url(), headers=given)
        request = held.next()
        request.answer(headers=[("X-Request-Id", "theirs")])
        made = client.read().get("X-Request-Id")
        assert made and made == request.get("X-Request-Id")
        assert made not in ("theirs", *[value for _, value in given])
        seen.add(made)
    assert len(seen) == 2


def test_server_timing_tells_the_times_beside_the_upstreams_own(weir, held):
    client = weir.ask(held.url())
    held.next().answer(headers=[("Server-Timing", "db;dur=5")])
    timing = ", ".join(client.read().all("Server-Timing"))
    assert re.search(r"queue;dur=\d+(\.\d+)?, connect;dur=\d+(\.\d+)?, ttfb;dur=\d+(\.\d+)?", timing)
    assert "db;dur=5" in timing


def test_encoded_bodies_are_not_decoded(weir, held):
    data = gzip.compress(b"hello" * 100)
    client = weir.ask(held.url(), headers=[("Accept-Encoding", "gzip")])
    held.next().answer(headers=[("Content-Encoding", "gzip")], body=data)
    answer = client.read()
    assert answer.body == data and answer.get("Content-Encoding") == "gzip"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", [
    "/a%2Fb", "/a%2fb", "//", "///a//b", "/a/../b", "/../../etc", "/./", "/a+b?c+d", "/a;b=c?d;e",
    "/?", "/?&&a&b=&=c", "/%00%0a%7f", "/%zz%", "/a?b?c", "/~'()*!$,:@[]{}|\\^`\"<>", "/a?b=%26&c=%25",
    "/caf%C3%A9", "/?url=http://x/", "/http://x/", "/" + "a" * 4000,
])
def test_the_raw_target_reaches_the_upstream_byte_for_byte(weir, upstream, form, target):
    assert weir.fetch(upstream.url(target), form=form).status == 200
    assert upstream.next().target == target


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method,rest,target", [
    ("GET", "", "/"), ("GET", "?q", "/?q"), ("OPTIONS", "", "*"), ("OPTIONS", "/", "/"),
    ("OPTIONS", "?q", "/?q"),
])
def test_an_empty_path_becomes_what_the_method_means(weir, upstream, form, method, rest, target):
    assert weir.fetch(upstream.url(rest), form=form, method=method).status == 200
    if form == "fetch" and target == "*":
        target = "/"  # only the absolute form says "*" by leaving the path out
    assert upstream.next().target == target


def test_a_host_with_many_arguments_passes(weir, upstream):
    target = "/?" + "&".join(f"a{number}" for number in range(600))
    assert weir.fetch(upstream.url(target), form="forward").status == 200
    assert upstream.next().target == target


def test_an_idle_connection_that_the_upstream_closed_is_not_used(weir, held):
    for body in (b"one", b"two"):
        client = weir.ask(held.url(), method="POST", body=b"")
        held.next().answer(body=body, close=True)
        assert client.read().body == body
        weir.wait_host(held.host, active=0, idle_connections=0)


@pytest.mark.parametrize("idle", [1, 3])
@pytest.mark.parametrize("method,body", [("POST", b""), ("POST", b"abc"), ("PATCH", b""), ("PATCH", b"abc"),
                                         ("PUT", b"abc"), ("GET", None), ("DELETE", None)])
def test_a_request_on_a_reused_connection_that_dies_is_sent_twice_only_if_that_is_safe(
        start_weir, upstream, method, body, idle):
    weir = start_weir(limited(idle))
    used = []
    together = threading.Barrier(idle)

    def script(request):
        request.read_body()
        if request.connection.number in used:
            request.close()
        used.append(request.connection.number)
        if request.target == "/first":
            together.wait(DEADLINE_S)
        request.send_answer()

    upstream.script = script
    clients = [weir.ask(upstream.url("/first")) for _ in range(idle)]
    assert [client.read().status for client in clients] == [200] * idle
    weir.wait_host(upstream.host, idle_connections=idle)
    answer = weir.fetch(upstream.url("/second"), method=method, body=body)
    sent = upstream.targets().count("/second")
    if method in ("POST", "PATCH"):
        assert answer.status == 502 and sent == 1
    else:
        assert (answer.status, sent) in ((200, idle + 1), (502, 1))
    assert upstream.peak_connections == idle


def test_a_safe_request_is_sent_again_however_often_that_was_so_before(start_weir, upstream):
    """libcurl sends a handle's requests again five times in all."""
    weir = start_weir(limited(1))

    def script(request):
        if request.connection.number in used:
            request.close()
        used.append(request.connection.number)
        request.send_answer()

    used = []
    upstream.script = script
    assert [weir.fetch(upstream.url()).status for _ in range(20)] == [200] * 20
    assert len(upstream.requests) == 39


@pytest.mark.parametrize("at", range(1, 10))
@pytest.mark.parametrize("last", ["X-Last: v", "Host: x"])
def test_trailers_may_come_in_pieces(weir, upstream, last, at):
    """libmicrohttpd may take the last field of the head for one of them."""
    client = weir.client()
    tail = b"X-T: 1\r\n\r\n"
    fields = ["Transfer-Encoding: chunked", "Host: x", "X-Last: v"]
    fields.append(fields.pop(fields.index(last)))
    head = "\r\n".join([f"POST {upstream.url('/split')} HTTP/1.1", *fields, "", ""])
    client.send(head.encode() + b"1\r\nx\r\n0\r\n" + tail[:at])
    request = upstream.next()  # so that the rest does not come along
    weir.status()
    client.send(tail[at:])
    assert client.read("POST").status == 200
    assert request.wait_body() == b"x" and request.trailers == [("X-T", "1")]


@pytest.mark.parametrize("last", ["X-Last: v", "Host: x"])
def test_no_trailers_may_come_in_pieces(weir, upstream, last):
    client = weir.client()
    fields = ["Transfer-Encoding: chunked", "Host: x", "X-Last: v"]
    fields.append(fields.pop(fields.index(last)))
    head = "\r\n".join([f"POST {upstream.url('/split')} HTTP/1.1", *fields, "", ""])
    client.send(head.encode() + b"1\r\nx\r\n0\r\n\r")
    request = upstream.next()
    weir.status()
    client.send(b"\n")
    assert client.read("POST").status == 200
    assert request.wait_body() == b"x" and request.trailers == []


def test_bytes_behind_an_answer_do_not_become_the_next(start_weir, held):
    weir = start_weir(limited(1))
    for _ in range(3):
        client = weir.ask(held.url())
        held.next().answer_raw(answer_bytes(body=b"right") + answer_bytes(body=b"wrong"))
        assert client.read().body == b"right"
