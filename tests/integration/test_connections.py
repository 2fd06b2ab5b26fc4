"""Connections that end in every way there is, at random and with TLS: never more than the limit open
at one host, however the library that keeps them closes them."""

import os
import random
import threading

import pytest

from client import FORMS, fetch_target
from pki import Authority, server_context
from upstream import Gone, answer_bytes
from waiting import wait_until
from weir import limited

LIMIT = 2
HOSTS = 6
CLIENTS = 24
REQUESTS = 15
SEED = int(os.environ.get("WEIR_TEST_SEED") or random.randrange(1 << 32))

# How an upstream treats a request. Those that keep the connection open after having said that they
# will close it leave that to the peer, and never answer its farewell.
MANNERS = ["keep", "keep", "keep", "close", "promise", "promise", "chunks", "until the end", "cut", "reset",
           "silence", "garbage", "then gone", "hang", "early"]


class Manners:
    """Scripts an upstream by the last part of each target."""

    def __init__(self, upstream):
        self.upstream = upstream
        upstream.script = self.answer

    def answer(self, request):
        manner = request.target.rpartition("/")[2].replace("-", " ")
        if manner == "early":
            request.send_answer(413, [("Connection", "close")], body=b"too much")
            return request.hang()
        request.read_body()
        if manner == "close":
            request.send_answer(headers=[("Connection", "close")], body=b"close")
            return request.close()
        if manner == "promise":
            request.send_answer(headers=[("Connection", "close")], body=b"promise")
            return request.hang()
        if manner == "chunks":
            return request.send_answer(body=b"c" * 20_000, chunked=True)
        if manner == "until the end":
            request.send(b"HTTP/1.1 200 Fine\r\n\r\n" + b"e" * 3000, last=True)
            raise Gone
        if manner == "cut":
            request.send(answer_bytes(body=b"x" * 50_000)[:30_000], last=True)
            raise Gone
        if manner == "reset":
            return request.reset()
        if manner == "silence":
            return request.close()
        if manner == "garbage":
            request.send(b"\x16\x03\x01 no answer\r\n\r\n", last=True)
            return request.hang()
        if manner == "then gone":
            request.send_answer(body=b"then gone")
            return request.close()
        if manner == "hang":
            return request.hang()
        return request.send_answer(body=b"keep")


@pytest.mark.parametrize("scheme", ["http", "https", "both"])
def test_connections_never_exceed_the_limit_however_they_end(start_weir, new_upstream, tmp_path, scheme):
    print(f"WEIR_TEST_SEED={SEED}")
    authority = Authority(tmp_path)
    context = server_context(authority.issue("server"))
    upstreams = [new_upstream(tls=context) for _ in range(HOSTS)]
    for upstream in upstreams:
        Manners(upstream)
    config = {**limited(LIMIT), "tls": {"ca_file": authority.file}}
    weir = start_weir({**config, "timeouts": {"first_byte": "150ms", "upstream_idle": "150ms"}})
    failed = []

    def load(number):
        choose = random.Random(f"{SEED}/{number}")
        try:
            client = weir.client()
            for _ in range(REQUESTS):
                upstream = choose.choice(upstreams)
                speech = scheme if scheme != "both" else choose.choice(["http", "https"])
                url = upstream.url("/" + choose.choice(MANNERS).replace(" ", "-"), scheme=speech)
                method = choose.choice(["GET", "GET", "POST", "HEAD"])
                body = bytes(choose.choice([0, 10, 200_000])) if method == "POST" else None
                target = url if choose.choice(FORMS) == "forward" else fetch_target(url)
                client.ask(method, target, [], body)
                if choose.random() < 0.1:
                    client.reset()
                    client = weir.client()
                    continue
                answer = client.read(method)
                if answer is None or not answer.complete or answer.get("Connection") == "close":
                    client.close()
                    client = weir.client()
        except Exception as error:  # told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    weir.wait_idle()
    for upstream in upstreams:
        assert upstream.peak_running <= LIMIT
        assert upstream.peak_connections <= LIMIT
        assert weir.host(upstream.host)["idle_connections"] >= upstream.open_connections()
    # Each has all of its slots, and nothing is in their way.
    weir.reload(config)
    for upstream in upstreams:
        upstream.script = None
        upstream.hold = True
        while not upstream.arrivals.empty():
            upstream.next()
        clients = [weir.ask(upstream.url("/last", scheme="http" if scheme == "http" else "https"))
                   for _ in range(LIMIT + 1)]
        for request in upstream.take(LIMIT):
            assert request.target == "/last"
            request.answer()
        upstream.next().answer()
        assert [client.read().status for client in clients] == [200] * (LIMIT + 1)
        assert upstream.peak_connections <= LIMIT


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_promise_to_close_that_is_not_kept(start_weir, new_upstream, tmp_path, scheme):
    """The library may say farewell and wait for the upstream's; the next request does not."""
    authority = Authority(tmp_path)
    upstream = new_upstream(tls=server_context(authority.issue("server")))
    Manners(upstream)
    weir = start_weir({**limited(1), "tls": {"ca_file": authority.file}})
    for _ in range(5):
        assert weir.fetch(upstream.url("/promise", scheme=scheme)).body == b"promise"
        assert weir.fetch(upstream.url("/close", scheme=scheme)).body == b"close"
        promised, closed = upstream.take(2)
        promised.wait_cancelled()
        assert promised.connection is not closed.connection
    assert upstream.peak_connections == 1
    wait_until(lambda: weir.host(upstream.host)["idle_connections"] == 0, "none is left")
