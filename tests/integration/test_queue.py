"""The queue: bounded, with a deadline, and left by those who go."""

import json
import signal

import pytest

from client import FORMS
from weir import in_order, limited


def assert_overflow(answer, word, status=503, **members):
    assert answer.status == status
    assert answer.complete
    assert answer.get("Content-Type") == "application/problem+json"
    assert int(answer.get("Retry-After")) >= 1
    assert answer.get("Proxy-Status").startswith("weir; error=connection_limit_reached; details=")
    assert "queue;dur=" in answer.get("Server-Timing")
    problem = json.loads(answer.body)
    assert problem["type"].endswith(word)
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    for key, value in members.items():
        assert problem[key] == value, problem


def test_a_crowd_that_comes_at_once_starts_in_the_order_in_which_it_came(start_weir, new_upstream):
    weir, upstream = start_weir(limited(1)), new_upstream()
    for _ in range(2):  # into an empty house, and into one with connections
        before = len(upstream.requests)
        weir.process.send_signal(signal.SIGSTOP)
        clients = [weir.ask(upstream.url(f"/{number}")) for number in range(200)]
        weir.process.send_signal(signal.SIGCONT)
        for client in clients:
            assert client.read().status == 200
        assert [request.target for request in upstream.requests[before:]] == [
            f"/{number}" for number in range(200)]


@pytest.mark.parametrize("form", FORMS)
def test_a_full_queue_refuses_with_what_is_ahead(start_weir, held, form):
    weir = start_weir(limited(2, queue=3))
    in_order(weir, held, 5)
    answer = weir.fetch(held.url(), form=form)
    assert_overflow(answer, "queue_full", host=held.host, queued=3, limit=2)
    assert weir.host(held.host)["rejected_total"]["queue_full"] == 1
    assert weir.log.wait(outcome="queue_full")["status"] == 503


def test_a_queue_of_none_refuses_at_the_limit(start_weir, held):
    weir = start_weir(limited(1, queue=0))
    in_order(weir, held, 1)
    assert_overflow(weir.fetch(held.url()), "queue_full", queued=0, limit=1)
    held.next().answer()
    weir.wait_host(held.host, active=0)
    weir.ask(held.url())
    held.next()


def test_a_full_total_queue_refuses(start_weir, new_upstream):
    first, second = new_upstream(), new_upstream()
    first.hold = second.hold = True
    weir = start_weir(limited(1, total={"queue": 2}))
    in_order(weir, first, 2)
    in_order(weir, second, 2)
    assert_overflow(weir.fetch(first.url()), "queue_full")
    weir.wait_totals(active=2, queued=2)


def test_overflow_can_be_429(start_weir, held):
    weir = start_weir({**limited(1, queue=0), "overflow_status": 429})
    in_order(weir, held, 1)
    assert_overflow(weir.fetch(held.url()), "queue_full", status=429)


def test_a_full_host_table_refuses_only_new_hosts(start_weir, held, upstream):
    weir = start_weir({"limits": {"hosts_max": 1}})
    in_order(weir, held, 1)
    assert_overflow(weir.fetch(upstream.url()), "hosts_full")
    held.next().answer()
    weir.wait_host(held.host, active=0)
    assert weir.fetch(upstream.url()).status == 200


def test_waiting_ends_at_the_queue_timeout(start_weir, held):
    weir = start_weir(limited(1, queue_timeout="200ms"))
    in_order(weir, held, 1)
    answer = weir.fetch(held.url("/late"))
    assert_overflow(answer, "queue_timeout", host=held.host, limit=1)
    line = weir.log.wait(outcome="queue_timeout")
    assert line["queue_ms"] >= 200 and line["ahead"] == 1
    assert weir.host(held.host)["rejected_total"]["queue_timeout"] == 1
    held.next().answer()
    weir.wait_host(held.host, active=0)
    assert held.targets() == ["/0"]


def test_a_request_may_shorten_its_wait(start_weir, held):
    weir = start_weir(limited(1, queue_timeout="1h"))
    in_order(weir, held, 1)
    answer = weir.fetch(held.url(), headers=[("Weir-Queue-Timeout", "150ms")])
    assert_overflow(answer, "queue_timeout")


def test_a_request_may_not_lengthen_its_wait(start_weir, held):
    weir = start_weir(limited(1, queue_timeout="150ms"))
    in_order(weir, held, 1)
    answer = weir.fetch(held.url(), headers=[("Weir-Queue-Timeout", "1h")])
    assert_overflow(answer, "queue_timeout")


def test_a_wait_of_zero_takes_a_free_slot_or_none(start_weir, held):
    weir = start_weir(limited(1))
    client = weir.ask(held.url(), headers=[("Weir-Queue-Timeout", "0")])
    request = held.next()
    assert request.all("Weir-Queue-Timeout") == []
    assert_overflow(weir.fetch(held.url(), headers=[("Weir-Queue-Timeout", "0")]), "queue_timeout")
    request.answer()
    assert client.read().status == 200


def test_no_deadline_is_slept_through(start_weir, held):
    """The service has nothing else to wake it up when each of these ends."""
    weir = start_weir(limited(1))
    in_order(weir, held, 1)
    client = weir.client()
    for number in range(200):
        headers = [("Weir-Queue-Timeout", f"{1 + number % 9}ms")]
        assert client.ask("GET", held.url(), headers).read().status == 503


@pytest.mark.parametrize("name", ["Weir-Queue-Timeout", "Weir-Timeout"])
@pytest.mark.parametrize("value", ["", "5", "-1s", "1 s", "5d", "soon", "1.5s", "999999999999h"])
def test_a_malformed_duration_is_a_bad_request(shared_weir, upstream, name, value):
    answer = shared_weir.fetch(upstream.url(), headers=[(name, value)])
    assert answer.status == 400
    assert name in json.loads(answer.body)["detail"]
    assert not upstream.requests


def test_an_unknown_weir_field_is_a_bad_request(shared_weir, upstream):
    assert shared_weir.fetch(upstream.url(), headers=[("Weir-Whatever", "1")]).status == 400
    assert not upstream.requests


def test_waiting_is_not_charged_to_the_whole_fetch_nor_to_its_first_byte(start_weir, new_upstream):
    upstream = new_upstream()
    upstream.script = lambda request: request.hang() if request.target == "/0" else request.send_answer()
    weir = start_weir({**limited(1), "timeouts": {"first_byte": "600ms"}})
    slow = [weir.ask(upstream.url("/0"))]
    weir.wait_host(upstream.host, active=1)
    slow.append(weir.ask(upstream.url("/0")))
    weir.wait_host(upstream.host, queued=1)
    last = weir.ask(upstream.url("/last"), headers=[("Weir-Timeout", "400ms")])
    assert [client.read().status for client in slow] == [504, 504]
    assert last.read().status == 200
    line = weir.log.wait(path="/last")
    assert line["queue_ms"] >= 600


def test_retry_after_grows_with_the_queue(start_weir, held):
    weir = start_weir(limited(1, queue=40))
    weir.ask(held.url())
    request = held.next()
    # A slot that was held for a while: as long as three queue timeouts take.
    for _ in range(3):
        weir.fetch(held.url(), headers=[("Weir-Queue-Timeout", "200ms")])
    request.answer()
    weir.wait_host(held.host, active=0)
    in_order(weir, held, 41)
    assert int(weir.fetch(held.url()).get("Retry-After")) >= 10


def test_a_client_that_leaves_while_waiting_never_reaches_the_upstream(start_weir, held):
    weir = start_weir(limited(1))
    clients = in_order(weir, held, 3)
    clients[1].close()
    weir.wait_host(held.host, active=1, queued=1)
    assert weir.host(held.host)["rejected_total"]["client_gone"] == 1
    line = weir.log.wait(outcome="client_gone")
    assert line["path"] == "/1" and line["bytes_out"] == 0
    held.next().answer()
    request = held.next()
    assert request.target == "/2"
    request.answer()
    assert clients[2].read().status == 200
    assert held.targets() == ["/0", "/2"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_all_clients_leave_while_waiting(start_weir, held, how):
    weir = start_weir(limited(1))
    running = weir.ask(held.url("/running"))
    held.next()
    clients = [weir.ask(held.url(f"/{number}")) for number in range(40)]
    weir.wait_host(held.host, active=1, queued=40)
    for client in clients:
        getattr(client, how)()
    weir.wait_host(held.host, active=1, queued=0)
    getattr(running, how)()
    weir.wait_host(held.host, active=0, queued=0)
    assert held.targets() == ["/running"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_while_its_fetch_runs_frees_the_slot_at_once(start_weir, held, how):
    weir = start_weir(limited(1))
    clients = in_order(weir, held, 2)
    first = held.next()
    getattr(clients[0], how)()
    first.wait_cancelled()
    second = held.next()  # though the first was never answered
    assert second.target == "/1"
    second.answer()
    assert clients[1].read().status == 200
    assert weir.log.wait(outcome="client_gone")["path"] == "/0"
    assert held.peak_connections == 1


def test_a_client_that_leaves_in_mid_answer_frees_the_slot(start_weir, new_upstream):
    upstream = new_upstream()

    def script(request):
        request.send(b"HTTP/1.1 200 Fine\r\nContent-Length: 1000000\r\n\r\nsome")
        request.hang()

    upstream.script = script
    weir = start_weir(limited(1))
    client = weir.ask(upstream.url("/0"))
    assert client.read_head().status == 200
    second = weir.ask(upstream.url("/1"))
    weir.wait_host(upstream.host, active=1, queued=1)
    client.close()
    assert second.read_head().status == 200


def test_a_client_that_leaves_in_mid_upload_frees_the_slot(start_weir, held):
    weir = start_weir(limited(1))
    client = weir.client()
    client.send(b"POST " + held.url("/0").encode() + b" HTTP/1.1\r\nHost: x\r\n"
                b"Content-Length: 1000000\r\n\r\n" + b"x" * 5000)
    first = held.next()
    client.close()
    first.wait_cancelled()
    weir.wait_host(held.host, active=0)
    assert not first.body_read.is_set()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_the_turn_of_its_grant_frees_the_slot(start_weir, held, how):
    weir = start_weir(limited(1))
    first = weir.client()
    for round_number in range(100):
        first.ask("GET", held.url("/first"))
        running = held.next()
        if running.target == "/second":  # the cancelled one of the last round, noticed late
            running = held.next()
        assert running.target == "/first"
        second = weir.ask(held.url("/second"))
        third = weir.ask(held.url("/third"))
        weir.wait_host(held.host, active=1, queued=2)
        # The grant and the leaving come in the same moment, in either order.
        if round_number % 2:
            running.answer()
            getattr(second, how)()
        else:
            getattr(second, how)()
            running.answer()
        assert first.read().status == 200
        request = held.next()
        if request.target == "/second":
            request.wait_cancelled()
            request = held.next()
        assert request.target == "/third"
        request.answer()
        assert third.read().status == 200
        third.close()
        weir.wait_host(held.host, active=0, queued=0)
    assert held.peak_running == 1 and held.peak_connections == 1


def endless(request):
    request.send(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        request.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def test_a_client_that_stops_reading_frees_the_slot_after_client_idle(start_weir, new_upstream):
    upstream = new_upstream()
    upstream.script = lambda request: endless(request) if request.target == "/0" else request.send_answer()
    weir = start_weir({**limited(1), "timeouts": {"client_idle": "300ms"}})
    stalled = weir.client(receive_buffer_bytes=4096).ask("GET", upstream.url("/0"))
    request = upstream.next()
    second = weir.ask(upstream.url("/1"))
    assert second.read().status == 200
    request.wait_cancelled()
    assert weir.log.wait(outcome="client_idle")["path"] == "/0"
    answer = stalled.read()
    assert answer.status == 200 and not answer.complete


def test_a_client_that_stops_sending_its_body_frees_the_slot_after_client_idle(start_weir, held):
    weir = start_weir({**limited(1), "timeouts": {"client_idle": "300ms"}})
    client = weir.client()
    client.send(b"POST " + held.url("/0").encode() + b" HTTP/1.1\r\nHost: x\r\n"
                b"Content-Length: 100\r\n\r\nabc")
    request = held.next()
    request.wait_cancelled()
    weir.wait_host(held.host, active=0)
    assert weir.log.wait(outcome="client_idle")["path"] == "/0"
    assert client.read() is None or client.ended
