"""Upstreams that refuse, hang, lie and break off: each ends in its problem, and the slot is back."""

import socket
import threading

import pytest

from client import FORMS, Truncated, assert_problem, fetch_target, target_for
from needs import needs_names
from upstream import answer_bytes, script_of
from waiting import DEADLINE_S, wait_until
from weir import assert_next_works, limited

CONFIG = {**limited(1), "timeouts": {"connect": "300ms", "first_byte": "300ms",
                                     "upstream_idle": "300ms"}}


@pytest.fixture
def weir(shared_weir):
    """A service with short timeouts, whose only slot must come back after each test."""
    return shared_weir


@pytest.mark.parametrize("form", FORMS)
def test_a_refused_port(weir, new_upstream, form):
    upstream = new_upstream()
    upstream.close_listener()
    assert_problem(weir.fetch(upstream.url("/p?q"), form=form), 502, "connection_refused")
    line = weir.log.wait(outcome="connection_refused", form=form)
    assert (line["status"], line["path"], line["host"]) == (502, "/p", upstream.host)


def test_a_connection_that_does_not_come_about(weir):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):  # the kernel drops what comes when the backlog is full
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        answer = weir.fetch("http://127.0.0.1:%d/" % listener.getsockname()[1])
        for filler in fillers:
            filler.close()
    assert_problem(answer, 504, "connection_timeout")


@needs_names
def test_an_unresolvable_name(start_weir):
    weir = start_weir(hosts="127.0.0.1 localhost\n")
    assert_problem(weir.fetch("http://name.invalid/"), 502, "dns_error")
    assert weir.log.wait(outcome="dns_error")["host"] == "name.invalid"


def test_a_hang_before_the_first_byte(weir, upstream):
    upstream.script = script_of(then="hang")
    assert_problem(weir.fetch(upstream.url()), 504, "upstream_timeout", "http_response_timeout")
    upstream.next().wait_cancelled()
    assert_next_works(weir, upstream)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 Fi", b"HTTP/1.1 200 Fine\r\nX-A: b\r\n",
                                   b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_hang_inside_the_header_section(weir, upstream, start):
    upstream.script = script_of(start, then="hang")
    assert_problem(weir.fetch(upstream.url()), 504, "upstream_timeout", "http_response_timeout")


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_silence_in_mid_body_cuts_the_answer(weir, upstream, framing):
    upstream.script = script_of(b"HTTP/1.1 200 Fine\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n", then="hang")
    answer = weir.fetch(upstream.url("/idle"))
    assert answer.status == 200 and not answer.complete
    upstream.next().wait_cancelled()
    line = weir.log.wait(outcome="upstream_timeout", host=upstream.host)
    assert line["status"] == 200
    assert_next_works(weir, upstream)


def test_the_whole_fetch_may_be_bounded_by_the_request(weir, upstream):
    upstream.script = script_of(then="hang")
    answer = weir.fetch(upstream.url(), headers=[("Weir-Timeout", "100ms")])
    assert_problem(answer, 504, "upstream_timeout", "http_response_timeout")


def test_the_whole_fetch_bound_cuts_an_answer_that_never_rests(start_weir, upstream):
    weir = start_weir()

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            request.send(b"1\r\nx\r\n")

    upstream.script = script
    answer = weir.fetch(upstream.url(), headers=[("Weir-Timeout", "300ms")])
    assert answer.status == 200 and not answer.complete
    upstream.next().wait_cancelled()


def test_the_whole_fetch_may_be_bounded_by_the_configuration(start_weir, upstream):
    weir = start_weir({"timeouts": {"fetch": "200ms"}})
    upstream.script = script_of(then="hang")
    for headers in ([], [("Weir-Timeout", "1h")]):
        answer = weir.fetch(upstream.url(), headers=headers)
        assert_problem(answer, 504, "upstream_timeout", "http_response_timeout")


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 Fi", b"HTTP/1.1 200 Fine\r\nX-A: b\r\n",
                                   b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_end_before_the_header_section_did(weir, upstream, start, then):
    upstream.script = script_of(start, then=then)
    answer = weir.fetch(upstream.url(), method="POST", body=b"x")
    assert_problem(answer, 502, "upstream_incomplete", "http_response_incomplete")
    assert_next_works(weir, upstream)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("start", [
    b"Content-Length: 100\r\n\r\n5\r\nhello\r\n",
    b"Content-Length: 100\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n",
])
def test_an_end_in_mid_body_is_seen_by_the_client(weir, upstream, form, then, start):
    upstream.script = script_of(b"HTTP/1.1 200 Fine\r\n" + start, then=then)
    answer = weir.fetch(upstream.url("/broken"), form=form)
    if answer.status == 200:
        assert not answer.complete
    else:  # where it broke off before anything was sent on
        assert answer.status == 502 and answer.complete
    line = weir.log.wait(path="/broken", host=upstream.host)
    assert line["outcome"] == "upstream_broke_off" or answer.status == 502
    assert_next_works(weir, upstream)


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\nhello",
                                     b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"])
def test_an_end_in_mid_body_is_seen_beside_older_connections(weir, new_upstream, upstream, framing):
    """libmicrohttpd looks at its oldest connection at every opportunity, and forgets others more easily."""
    other = new_upstream()
    older = [weir.ask(other.url()) for _ in range(3)]
    assert [client.read().status for client in older] == [200] * 3
    goes_on = threading.Event()

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\n" + framing)
        goes_on.wait(DEADLINE_S)
        request.close()

    upstream.script = script
    client = weir.ask(upstream.url())
    with pytest.raises(Truncated):
        pieces = client.body_pieces("GET", client.read_head())
        assert next(pieces) == b"hello"
        goes_on.set()
        next(pieces)
    wait_until(lambda: weir.client_connections() == 3, "only the older ones are left")


def test_a_reset_without_length_is_seen_by_the_client(weir, upstream):
    upstream.script = script_of(b"HTTP/1.1 200 Fine\r\n\r\nhello", then="reset")
    answer = weir.fetch(upstream.url())
    assert answer.status == 502 or not answer.complete


@pytest.mark.parametrize("data", [b"5\r\nhello\r\nxyz\r\n", b"-5\r\nhello\r\n", b"\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n",
                                  b"fffffffffffffffff\r\nhello"])
def test_bad_chunks_are_seen_by_the_client(weir, upstream, data):
    upstream.script = script_of(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n" + data,
                                then="hang")
    answer = weir.fetch(upstream.url())
    assert answer.status == 502 or not answer.complete


def test_a_body_longer_than_its_length_is_cut_there(weir, upstream):
    upstream.script = script_of(b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello, and more", then="keep")
    client = weir.client()
    for _ in range(2):
        answer = client.ask("GET", fetch_target(upstream.url())).read()
        assert answer.complete and answer.body == b"hello"


@pytest.mark.parametrize("fields", [
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Content-Length: 5, 6\r\n",
    b"Content-Length: -5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: five\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: nonsense\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Bad Name: x\r\n",
    b"X-Nul: a\0b\r\n",
])
def test_conflicting_lengths_and_bad_fields_are_a_protocol_error(weir, upstream, fields):
    upstream.script = script_of(b"HTTP/1.1 200 Fine\r\n" + fields + b"\r\n5\r\nhello\r\n0\r\n\r\n")
    assert_problem(weir.fetch(upstream.url()), 502, "upstream_protocol_error", "http_protocol_error")
    assert_next_works(weir, upstream)


def test_equal_lengths_are_one(weir, upstream):
    upstream.script = script_of(b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
                                then="keep")
    answer = weir.fetch(upstream.url())
    assert answer.status == 502 or (answer.get("Content-Length"), answer.body) == ("5", b"hello")


@pytest.mark.parametrize("data", [
    b"hello",                              # HTTP/0.9
    b"<html>hello</html>\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"220 mail.example.com ESMTP\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"\0" * 100,
    b"HTTP/1.1 99 Fine\r\n\r\n",
    b"HTTP/1.1 abc Fine\r\n\r\n",
    b"HTTP/3.7 200 Fine\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
])
def test_no_http_is_a_protocol_error(weir, upstream, data):
    upstream.script = script_of(data)
    assert_problem(weir.fetch(upstream.url()), 502, "upstream_protocol_error", "http_protocol_error")
    assert_next_works(weir, upstream)


def test_a_change_of_protocol_is_a_protocol_error(weir, upstream):
    upstream.script = script_of(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx",
                                then="hang")
    answer = weir.fetch(upstream.url(), headers=[("Upgrade", "x"), ("Connection", "upgrade")])
    assert_problem(answer, 502, "upstream_protocol_error", "http_protocol_error")
    upstream.next().wait_cancelled()


@pytest.mark.parametrize("form", FORMS)
def test_interim_answers_do_not_mix_with_the_final_one(weir, upstream, form):
    upstream.script = script_of(
        b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: </a>\r\nX-Early: 1\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n", answer_bytes(headers=[("X-Final", "1")], body=b"done"),
        then="keep")
    answer = weir.fetch(upstream.url(), form=form)
    assert (answer.status, answer.body, answer.get("X-Final")) == (200, b"done", "1")
    assert answer.all("Link") == answer.all("X-Early") == []


def test_many_header_fields_pass(weir, held):
    fields = [(f"X-Field-{number}", "v" * 40) for number in range(100)]
    client = weir.ask(held.url())
    held.next().answer(headers=fields)
    answer = client.read()
    assert answer.status == 200
    assert [field for field in answer.headers if field[0].startswith("X-Field")] == fields


@pytest.mark.parametrize("fields", [[("X-Huge", "v" * 40_000)],
                                    [(f"X-{number}", "v" * 40) for number in range(1000)],
                                    [(f"X-{number}", "v" * 1000) for number in range(1000)]])
def test_more_header_than_there_is_room_for_is_a_problem_and_no_silence(weir, upstream, fields):
    upstream.script = script_of(answer_bytes(headers=fields))
    answer = weir.fetch(upstream.url())
    assert answer is not None and answer.complete
    assert answer.status in (200, 502)
    if answer.status == 200:
        assert [field for field in answer.headers if field[0].startswith("X-") and
                field[0] != "X-Request-Id"] == fields
    assert_next_works(weir, upstream)


def test_an_answer_byte_by_byte_is_whole(weir, upstream):
    data = answer_bytes(headers=[("X-A", "b")], body=b"hello", chunked=True, trailers=[("X-T", "1")])
    upstream.script = script_of(*[data[at:at + 1] for at in range(len(data))], then="keep")
    answer = weir.fetch(upstream.url())
    assert (answer.status, answer.body, answer.trailers) == (200, b"hello", [("X-T", "1")])


def test_an_upstream_that_answers_and_closes_at_once_is_whole(weir, upstream):
    upstream.script = script_of(answer_bytes(body=b"x" * 300_000))
    for _ in range(20):
        answer = weir.fetch(upstream.url())
        assert answer.complete and len(answer.body) == 300_000


def test_head_of_an_upstream_that_sends_a_body_all_the_same(weir, upstream):
    upstream.script = script_of(answer_bytes(body=b"wrongly sent"), then="keep")
    client = weir.client()
    for _ in range(3):
        answer = client.ask("HEAD", fetch_target(upstream.url())).read("HEAD")
        assert answer.status == 200 and answer.complete


@pytest.mark.parametrize("size", [5, 200_000])
def test_an_upload_that_dies_with_a_kept_connection_leaves_no_trace(weir, upstream, size):
    def script(request):
        request.read_body()
        if request.method == "POST":
            request.close()
        request.send_answer()

    upstream.script = script
    for _ in range(3):
        assert weir.fetch(upstream.url("/kept")).status == 200
        assert_problem(weir.fetch(upstream.url("/dies"), method="POST", body=b"x" * size), 502,
                       "upstream_incomplete", "http_response_incomplete")
    assert upstream.targets() == ["/kept", "/dies"] * 3


@pytest.mark.parametrize("form", FORMS)
def test_the_client_connection_lives_on_after_a_problem(weir, new_upstream, upstream, form):
    refused = new_upstream()
    refused.close_listener()
    client = weir.client()
    for _ in range(3):
        client.ask("GET", target_for(refused.url(), form))
        assert_problem(client.read(), 502, "connection_refused")
        client.ask("GET", target_for(upstream.url(), form))
        assert client.read().status == 200


def test_a_problem_has_no_body_for_head(weir, new_upstream):
    refused = new_upstream()
    refused.close_listener()
    client = weir.client().ask("HEAD", fetch_target(refused.url()))
    answer = client.read("HEAD")
    assert answer.status == 502 and answer.get("Content-Type") == "application/problem+json"
    if answer.get("Connection") != "close":
        client.ask("GET", fetch_target(refused.url()))
        assert client.read().status == 502


def test_a_fault_during_an_upload_is_a_problem(weir, upstream):
    upstream.script = lambda request: request.close()
    answer = weir.fetch(upstream.url(), method="POST", body=b"x" * 100_000)
    assert_problem(answer, 502, "upstream_incomplete", "http_response_incomplete")
