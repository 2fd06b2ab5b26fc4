"""The admin port says what is going on."""

import json
import urllib.parse

import pytest

from client import Client
from test_limits import in_order
from weir import limited

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
