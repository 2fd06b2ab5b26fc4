"""The admin port says what is going on."""

import json
import select
import signal
import subprocess
import urllib.parse

import pytest

from client import Client, request_bytes
from waiting import DEADLINE_S, wait_until
from weir import in_order, limited

CONNECTIONS = 64  # that the admin port has at once
QUIT = "/quitquitquit"
READ, OPERATE = "0123456789abcdef-read", "0123456789abcdef-operate"

HOST_KEYS = {"host", "rule", "limit", "active", "peak_active", "queued", "peak_queued", "queue_limit",
             "oldest_wait_ms", "idle_connections", "tunnels", "state", "admitted_total",
             "completed_total", "rejected_total", "wait_ms", "service_ms"}
REJECTED_KEYS = {"queue_full", "queue_timeout", "client_gone", "draining", "denied"}
TIME_KEYS = {"p50", "p95", "p99", "max"}


def assert_host_document(host):
    assert set(host) >= HOST_KEYS
    assert set(host["rejected_total"]) >= REJECTED_KEYS
    assert set(host["wait_ms"]) >= TIME_KEYS and set(host["service_ms"]) >= TIME_KEYS


def test_status_tells_of_the_whole_service(weir, held):
    in_order(weir, held, 5)
    status = weir.status()
    assert set(status) >= {"version", "uptime_seconds", "state", "totals", "hosts"}
    assert status["state"] == "ok"
    assert status["totals"]["active"] == 3 and status["totals"]["queued"] == 2
    assert_host_document(status["hosts"][0])


def test_a_host_tells_of_itself(start_weir, held):
    weir = start_weir(limited(2, queue=7))
    in_order(weir, held, 3)
    host = weir.host(held.host)
    assert_host_document(host)
    expected = {"host": held.host, "rule": "default", "limit": 2, "active": 2, "peak_active": 2,
                "queued": 1, "peak_queued": 1, "queue_limit": 7, "state": "saturated",
                "admitted_total": 2, "completed_total": 0, "tunnels": 0}
    assert {key: host[key] for key in expected} == expected
    assert weir.wait_host(held.host)["oldest_wait_ms"] >= host["oldest_wait_ms"]
    for request in held.take(2):
        request.answer()
    held.next().answer()
    host = weir.wait_host(held.host, active=0, queued=0, completed_total=3, state="ok")
    assert host["oldest_wait_ms"] == 0 and host["peak_active"] == 2
    assert host["wait_ms"]["max"] > 0 and host["service_ms"]["max"] > 0


@pytest.mark.parametrize("quote", [lambda host: host, lambda host: urllib.parse.quote(host, safe=""),
                                   lambda host: "".join(f"%{ord(c):02x}" for c in host)])
def test_a_host_is_found_by_its_name_escaped_or_not(weir, upstream, quote):
    weir.fetch(upstream.url())
    answer = weir.admin_fetch("/hosts/" + quote(upstream.host))
    assert answer.status == 200 and json.loads(answer.body)["host"] == upstream.host


def test_an_ipv6_host_is_found(weir, new_upstream):
    upstream = new_upstream(address="::1")
    assert weir.fetch(upstream.url()).status == 200
    assert weir.host(upstream.host)["host"] == upstream.host


@pytest.mark.parametrize("target", ["/hosts/unknown.test", "/hosts/", "/hosts", "/hosts/a/b",
                                    "/statusx", "/Status", "/fetch?url=x"])
def test_what_is_not_there_is_404(shared_weir, target):
    answer = shared_weir.admin_fetch(target)
    assert answer.status == 404
    assert answer.get("Content-Type") == "application/problem+json"
    assert json.loads(answer.body)["status"] == 404


@pytest.mark.parametrize("host", ["%zz", "%", "%00", "a%0ab"])
def test_a_host_that_is_not_well_formed_is_400(shared_weir, host):
    assert shared_weir.admin_fetch("/hosts/" + host).status in (400, 404)


def test_looking_at_a_host_does_not_make_one(shared_weir):
    before = len(shared_weir.status()["hosts"])
    shared_weir.admin_fetch("/hosts/never.asked.for")
    assert len(shared_weir.status()["hosts"]) == before


@pytest.mark.parametrize("target", ["/healthz", "/readyz"])
def test_health_and_readiness(shared_weir, target):
    assert shared_weir.admin_fetch(target).status == 200


@pytest.mark.parametrize("target", ["/status", "/healthz", "/readyz", "/hosts/unknown.test"])
def test_head_is_get_without_its_body(shared_weir, target):
    client = Client(shared_weir.admin)
    for _ in range(2):
        get = client.ask("GET", target, host="localhost").read()
        head = client.ask("HEAD", target, host="localhost").read("HEAD")
        assert head.status == get.status and head.get("Content-Type") == get.get("Content-Type")
        assert head.all("Content-Length") != []
    client.close()


def test_json_is_not_stored(shared_weir):
    answer = shared_weir.admin_fetch("/status")
    assert answer.get("Content-Type").startswith("application/json")
    assert answer.get("Cache-Control") == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
@pytest.mark.parametrize("target", ["/status", "/healthz", "/readyz", "/hosts/a.test"])
def test_another_method_is_405_with_allow(shared_weir, method, target):
    answer = shared_weir.admin_fetch(target, method=method, body=b"{}")
    assert answer.status == 405
    assert set(answer.get("Allow").replace(" ", "").split(",")) == {"GET", "HEAD"}


def test_the_admin_port_answers_while_the_data_port_is_full(weir, held):
    for _ in range(100):
        weir.ask(held.url())
    weir.wait_host(held.host, active=3, queued=97)
    assert weir.admin_fetch("/healthz").status == 200


@pytest.mark.parametrize("host,status", [("localhost", 200), ("127.0.0.1:9901", 200), ("[::1]", 200),
                                         ("rebound.test", 403), ("localhost.evil.test:80", 403)])
def test_a_name_in_the_host_field_is_refused(shared_weir, host, status):
    """A web page whose name was made to mean this address must not read the admin port."""
    assert shared_weir.admin_fetch("/status", host=host).status == status


@pytest.mark.parametrize("data", [b"\0\0\0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 100_000])
def test_garbage_on_the_admin_port_leaves_it_alive(shared_weir, data):
    client = Client(shared_weir.admin)
    client.send(data)
    client.reset()
    assert shared_weir.admin_fetch("/healthz").status == 200


def test_totals_add_up(weir, new_upstream):
    upstreams = [new_upstream() for _ in range(3)]
    for upstream in upstreams:
        for _ in range(4):
            weir.fetch(upstream.url(), method="POST", body=b"12345")
    totals = weir.wait_totals(active=0)
    assert totals["admitted_total"] == totals["completed_total"] == 12
    hosts = weir.status()["hosts"]
    assert sum(host["completed_total"] for host in hosts) == 12
    assert hosts[0]["host"] == upstreams[2].host  # last used, first listed


# --- Clients that take their time ---

def drip(weir, text):
    client = Client(weir.admin)
    client.send(text)
    return client


@pytest.mark.parametrize("text", [b"", b"G", b"GET /status HTTP/1.1\r\nHost: localhost\r\nA: ",
                                  b"POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"],
                         ids=["nothing", "method", "head", "body"])
def test_clients_that_drip_keep_nobody_out(shared_weir, text):
    clients = [drip(shared_weir, text) for _ in range(CONNECTIONS)]
    for number in range(3 * CONNECTIONS):
        assert shared_weir.admin_fetch("/readyz").status == 200
        clients[number % CONNECTIONS].close()
        clients[number % CONNECTIONS] = drip(shared_weir, text)
    more = [drip(shared_weir, text) for _ in range(2 * CONNECTIONS)]
    assert shared_weir.admin_fetch("/readyz").status == 200
    for client in clients:
        client.wait_end()  # the oldest gave way
    for client in [*clients, *more]:
        client.close()


def test_a_request_of_the_admin_port_has_ten_seconds(start_weir, shared_weir):
    """Not since the last byte: since the connection began. Where a client is silent, nothing else wakes
    the service."""
    silent = drip(start_weir(), b"GET /status HTTP/1.1\r\n")
    dripping = drip(shared_weir, b"GET /status HTTP/1.1\r\nA: ")

    def has_ended():
        try:
            dripping.send(b"b")
        except OSError:
            return True
        return select.select([dripping.socket], [], [], 0.1)[0]

    wait_until(has_ended, "the connection that drips ends")
    for client in (dripping, silent):
        client.wait_end()
        client.close()


# --- The end ---

def quit_it(weir, headers=(), body=None):
    answer = weir.admin_fetch(QUIT, method="POST", headers=headers, body=body)
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "draining"})
    weir.told_to_end = True


@pytest.mark.parametrize("body", [None, b"", b"x" * 60_000], ids=["none", "empty", "large"])
def test_an_idle_service_ends_and_answers_before(start_weir, upstream, body):
    for _ in range(3):
        weir = start_weir()
        kept = weir.ask(upstream.url())
        assert kept.read().status == 200
        quit_it(weir, body=body)
        assert weir.wait_exit() == 0
        assert weir.events.wait(event="draining")["asked_by"] == "quitquitquit"


@pytest.mark.parametrize("how", [["-X", "POST"], ["-d", ""], ["-d", "now"], ["-X", "POST", "-H", "Expect: 100-continue", "-d", "x"]])
def test_curl_ends_it(start_weir, how):
    weir = start_weir()
    ran = subprocess.run(["curl", "-sS", "-f", "--noproxy", "*", *how, f"http://127.0.0.1:{weir.admin[1]}{QUIT}"],
                         capture_output=True, timeout=DEADLINE_S, check=False)
    weir.told_to_end = True
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b'{"status":"draining"}\n', b"")
    assert weir.wait_exit() == 0


def test_it_finishes_what_runs_and_waits(start_weir, held):
    weir = start_weir(limited(1))
    clients = in_order(weir, held, 2)
    for _ in range(3):  # asking again ends nothing at once
        quit_it(weir)
        assert weir.admin_fetch("/readyz").status == 503
    weir.signal(signal.SIGTERM)  # nor does the first signal
    assert weir.fetch(held.url("/new")).status == 503
    held.next().answer()
    held.next().answer()
    for client in clients:
        assert client.read().status == 200
    assert weir.wait_exit() == 0
    weir.events.wait(event="stopped")
    assert len(weir.events.find(event="draining")) == 1


def test_it_does_not_hurry_a_drain(start_weir, held):
    weir = start_weir(limited(1))
    clients = in_order(weir, held, 1)
    weir.signal(signal.SIGTERM)
    wait_until(lambda: weir.admin_fetch("/readyz").status == 503, "it drains")
    quit_it(weir)
    quit_it(weir)
    held.next().answer()
    assert clients[0].read().status == 200
    assert weir.wait_exit() == 0
    assert weir.events.wait(event="draining")["asked_by"] == "signal"


def test_its_time_is_that_of_a_drain(start_weir, held):
    weir = start_weir({**limited(1), "timeouts": {"drain": "300ms"}})
    in_order(weir, held, 1)
    quit_it(weir)
    weir.expected_exit = 3
    assert weir.wait_exit() == 3


@pytest.mark.parametrize("headers", [[("Origin", "http://evil.test")], [("Origin", "null")],
                                     [("Sec-Fetch-Site", "cross-site")],
                                     [("Origin", "http://evil.test"), ("Content-Type", "text/plain")]])
def test_a_web_page_cannot_end_it(shared_weir, headers):
    answer = shared_weir.admin_fetch(QUIT, method="POST", headers=headers, body=b"")
    assert answer.status == 403 and answer.get("Content-Type") == "application/problem+json"
    assert shared_weir.admin_fetch(QUIT, method="POST", host="evil.test").status == 403
    assert shared_weir.admin_fetch("/readyz").status == 200


def test_a_coding_with_a_space_behind_it_is_not_waited_for(start_weir):
    """libmicrohttpd 1.0 knows it for chunked; 0.9.75 would wait for the end of the connection."""
    weir = start_weir()
    client = Client(weir.admin)
    client.send(b"POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked \r\n\r\n0\r\n\r\n")
    answer = client.read()
    assert answer.status in (200, 400)
    weir.told_to_end = answer.status == 200
    client.wait_end()


@pytest.mark.parametrize("fields", [
    b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"Content-Length: 0\r\nContent-Length: 5\r\n",
    b"X-Folded: a\r\n b\r\n", b"Transfer-Enc: chunked\r\n oding\r\n"])
def test_what_can_be_read_in_two_ways_is_refused(shared_weir, fields):
    client = Client(shared_weir.admin)
    client.send(b"POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n0\r\n\r\n")
    assert client.read().status == 400
    client.wait_end()
    assert shared_weir.admin_fetch("/readyz").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_a_post_ends_it(shared_weir, method):
    answer = shared_weir.admin_fetch(QUIT, method=method)
    assert answer.status == 405 and answer.get("Allow") == "POST"
    assert shared_weir.admin_fetch("/readyz").status == 200


@pytest.fixture
def tokens(tmp_path):
    paths = {}
    for name, token in (("read", READ), ("operate", OPERATE)):
        path = tmp_path / name
        path.write_text(token)
        path.chmod(0o600)
        paths[name] = str(path)
    return paths


@pytest.mark.parametrize("configured,statuses", [
    (["read", "operate"], {None: 401, READ: 403, OPERATE: 200}),
    (["operate"], {None: 401, READ: 401, OPERATE: 200}),
    (["read"], {None: 401, READ: 403, OPERATE: 401}),  # nobody may
])
def test_only_the_token_to_operate_ends_it(start_weir, tokens, configured, statuses):
    weir = start_weir({"auth": {"admin": {name: tokens[name] for name in configured}}})
    for token, status in statuses.items():
        headers = [("Authorization", f"Bearer {token}")] if token else []
        if status == 200:
            quit_it(weir, headers)
            assert weir.wait_exit() == 0
        else:
            assert weir.admin_fetch(QUIT, method="POST", headers=headers).status == status
            assert weir.admin_fetch("/readyz").status == 200
    weir.admin_headers = [("Authorization", f"Bearer {READ}")]


def test_half_a_request_ends_nothing(start_weir):
    weir = start_weir()
    whole = request_bytes("POST", QUIT, [], b"0123456789", "localhost")
    half = drip(weir, whole[:-1])
    assert weir.admin_fetch("/readyz").status == 200
    half.send(whole[-1:])
    weir.told_to_end = True
    assert half.read().status == 200
    assert weir.wait_exit() == 0
