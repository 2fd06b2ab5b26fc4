"""Never more than N, never idle while work waits, in order."""

import os
import signal
import threading

import pytest

from client import FORMS
from needs import needs_names
from waiting import wait_until
from weir import in_order, limited

SPELLINGS = ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "[::ffff:7f00:1]"]


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_never_more_than_the_limit_under_ten_times_the_load(start_weir, upstream, limit):
    weir = start_weir(limited(limit))
    answers = []

    def load(number):
        client = weir.client()
        for turn in range(10):
            name = SPELLINGS[(number + turn) % len(SPELLINGS)]
            url = upstream.url(f"/{number}/{turn}", name=name)
            client.ask("GET", url if turn % 2 else "/fetch?url=" + url)
            answers.append(client.read().status)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(10 * limit)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 100 * limit
    assert upstream.peak_running <= limit
    assert upstream.peak_connections <= limit
    host = weir.wait_host(upstream.host, active=0, queued=0)
    assert host["peak_active"] == limit
    assert host["admitted_total"] == host["completed_total"] == 100 * limit


def test_spellings_of_a_host_share_its_limit(weir, held):
    clients = [weir.ask(held.url(f"/{number}", name=name), form=FORMS[number % 2])
               for number, name in enumerate(SPELLINGS)]
    weir.wait_host(held.host, active=3, queued=3)
    assert weir.status()["totals"]["hosts"] == 1
    running = held.take(3)
    assert held.running() == 3
    for request in running:
        request.answer()
    for request in held.take(3):
        request.answer()
    assert [client.read().status for client in clients] == [200] * 6
    assert held.peak_running == 3


def test_letter_case_of_a_name_is_one_host(weir, held):
    for name in ("localhost", "LOCALHOST", "LocalHost"):
        weir.ask(held.url("/", name=name))
    weir.ask(held.url("/", name="localhost"))
    weir.wait_host(f"localhost:{held.port}", active=3, queued=1)


def test_spellings_of_an_ipv6_host_share_its_limit(weir, new_upstream):
    held = new_upstream(address="::1")
    held.hold = True
    for name in ("[::1]", "[0:0:0:0:0:0:0:1]", "[0::1]", "[::0001]"):
        weir.ask(held.url("/", name=name))
    assert weir.wait_host(held.host, active=3, queued=1)["host"] == f"[::1]:{held.port}"


def test_ports_other_than_80_and_443_are_hosts_of_their_own(weir, new_upstream):
    upstreams = [new_upstream(), new_upstream()]
    for upstream in upstreams:
        upstream.hold = True
        for _ in range(4):
            weir.ask(upstream.url())
    for upstream in upstreams:
        weir.wait_host(upstream.host, active=3, queued=1)


def test_ports_80_and_443_are_one_host(start_weir, new_upstream):
    try:
        held = new_upstream(address="127.31.0.80", port=80)
    except OSError:
        pytest.skip("port 80 is not ours to use")
    held.hold = True
    weir = start_weir(limited(1))
    first = weir.ask("http://127.31.0.80/a")
    held_request = held.next()
    second = weir.ask("https://127.31.0.80/b", form="forward")
    weir.wait_host("127.31.0.80", active=1, queued=1)
    held_request.answer()
    assert first.read().status == 200
    assert second.read().status == 502  # nothing listens at 443


def test_http_and_https_to_one_port_share_a_budget_of_connections(start_weir, new_upstream, tls):
    both = new_upstream(tls=tls.context)
    weir = start_weir({**limited(2), "tls": {"ca_file": tls.certificate}})
    both.hold = True
    clients = [weir.ask(both.url("/")) for _ in range(2)]
    for request in both.take(2):
        request.answer()
    assert [client.read().status for client in clients] == [200, 200]
    both.hold = False
    assert weir.host(both.host)["idle_connections"] == 2
    for scheme in ("https", "http", "https", "https", "http"):
        assert weir.fetch(both.url("/", scheme=scheme), form="forward").status == 200
    assert both.peak_connections <= 2


@pytest.mark.parametrize("form", FORMS)
def test_https_is_fetched_over_tls(start_weir, new_upstream, tls, form):
    upstream = new_upstream(tls=tls.context)
    weir = start_weir({"tls": {"ca_file": tls.certificate}})
    answer = weir.fetch(upstream.url("/a", scheme="https"), form=form)
    assert (answer.status, answer.body) == (200, b"hello")


def test_a_certificate_that_nobody_vouches_for_is_refused(weir, new_upstream, tls):
    upstream = new_upstream(tls=tls.context)
    answer = weir.fetch(upstream.url("/", scheme="https"))
    assert answer.status == 502
    assert "tls_certificate_error" in answer.get("Proxy-Status")
    assert not upstream.requests


def test_https_to_a_port_that_speaks_http_is_a_tls_error(weir, new_upstream):
    upstream = new_upstream(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    answer = weir.fetch(upstream.url("/", scheme="https"))
    assert answer.status == 502
    assert "tls_protocol_error" in answer.get("Proxy-Status")


def test_idle_connections_count_against_the_limit(weir, held):
    for turn in range(4):
        clients = [weir.ask(held.url("/", name=SPELLINGS[(turn + number) % 6])) for number in range(5)]
        for _ in clients:
            held.next().answer()
        assert [client.read().status for client in clients] == [200] * 5
    assert held.peak_connections == 3
    assert len(held.connections) == 3, "idle connections were not used again"
    assert weir.host(held.host)["idle_connections"] == 3


def test_a_freed_slot_is_taken_at_once(weir, held):
    clients = in_order(weir, held, 9)
    running = held.take(3)
    for _ in range(6):
        running.pop(0).answer()
        running.append(held.next())  # one starts for each that ends, and
        assert held.running() == 3   # all three slots are used again
    for request in running:
        request.answer()
    assert [client.read().status for client in clients] == [200] * 9


def test_requests_start_in_the_order_of_their_arrival(start_weir, held):
    weir = start_weir(limited(1))
    clients = in_order(weir, held, 20, form="both")
    for number in range(20):
        request = held.next()
        assert request.target == f"/{number}"
        request.answer()
    assert [client.read().status for client in clients] == [200] * 20
    ahead = {line["path"]: line["ahead"] for line in weir.log.wait(20, status=200)}
    assert ahead == {f"/{number}": number for number in range(20)}


def test_a_newcomer_never_overtakes_a_waiter(start_weir, held):
    weir = start_weir(limited(1))
    first = weir.ask(held.url("/0"))
    running = held.next()
    waiter = weir.ask(held.url("/1"))
    weir.wait_host(held.host, queued=1)
    for number in range(2, 60):
        # The slot comes free and a newcomer arrives in the same moment.
        newcomer = weir.client()
        running.answer()
        newcomer.ask("GET", held.url(f"/{number}"))
        running = held.next()
        assert running.target == f"/{number - 1}"
        assert first.read().status == 200
        first.close()
        first, waiter = waiter, newcomer
        weir.wait_host(held.host, active=1, queued=1)
    running.answer()
    held.next().answer()
    assert first.read().status == waiter.read().status == 200


def test_hosts_do_not_wait_for_each_other(weir, held, upstream):
    in_order(weir, held, 5)
    assert weir.fetch(upstream.url()).status == 200
    weir.wait_host(held.host, active=3, queued=2)


def test_the_total_limit_holds_over_all_hosts(start_weir, new_upstream):
    weir = start_weir(limited(2, total={"limit": 3}))
    upstreams = [new_upstream() for _ in range(3)]
    for upstream in upstreams:
        upstream.hold = True
    clients = [weir.ask(upstream.url()) for upstream in upstreams for _ in range(4)]
    weir.wait_totals(active=3, queued=9)
    for _ in range(12):
        assert sum(upstream.running() for upstream in upstreams) <= 3
        wait_until(lambda: any(not upstream.arrivals.empty() for upstream in upstreams), "one runs")
        next(upstream for upstream in upstreams if not upstream.arrivals.empty()).next().answer()
    assert [client.read().status for client in clients] == [200] * 12
    assert weir.wait_totals(active=0)["peak_active"] == 3
    assert all(upstream.peak_running <= 2 for upstream in upstreams)


def test_under_the_total_limit_the_oldest_waiter_starts_first(start_weir, new_upstream):
    weir = start_weir(limited(3, total={"limit": 1}))
    first, second = new_upstream(), new_upstream()
    first.hold = second.hold = True
    in_order(weir, first, 1)
    running = first.next()
    for queued, upstream in enumerate([second, first, first, second], start=1):
        weir.ask(upstream.url(f"/{queued}"))
        weir.wait_totals(active=1, queued=queued)
    for number, upstream in enumerate([second, first, first, second], start=1):
        running.answer()
        running = upstream.next()
        assert running.target == f"/{number}"
    running.answer()


def test_a_host_of_its_own_rule_has_its_own_limit(start_weir, new_upstream):
    ruled, other = new_upstream(), new_upstream()
    ruled.hold = other.hold = True
    weir = start_weir(limited(2, hosts={ruled.host: {"limit": 1}}))
    for upstream in (ruled, other):
        for _ in range(3):
            weir.ask(upstream.url())
    assert weir.wait_host(ruled.host, active=1, queued=2)["rule"] == ruled.host
    assert weir.wait_host(other.host, active=2, queued=1)["rule"] == "default"


def test_a_rule_without_port_holds_on_every_port(start_weir, held):
    weir = start_weir(limited(3, hosts={"localhost": {"limit": 1}}))
    for _ in range(3):
        weir.ask(held.url(name="localhost"))
    weir.wait_host(f"localhost:{held.port}", active=1, queued=2)


@needs_names
@pytest.mark.parametrize("scope,hosts", [("shared", 1), ("each", 2)])
def test_a_pattern_gives_one_budget_together_or_one_each(start_weir, held, scope, hosts):
    weir = start_weir(limited(5, hosts={"*.weir.test": {"limit": 2, "scope": scope},
                                        "b.b.weir.test": {"limit": 4}}),
                      hosts="127.0.0.1 a.weir.test x.a.weir.test b.b.weir.test\n")
    for name in ("a.weir.test", "x.a.weir.test"):
        for _ in range(3):
            weir.ask(held.url(name=name))
    weir.wait_totals(active=2 * hosts, queued=6 - 2 * hosts, hosts=hosts)
    for _ in range(5):  # an exact name beats the pattern
        weir.ask(held.url(name="b.b.weir.test"))
    weir.wait_host(f"b.b.weir.test:{held.port}", active=4, queued=1)


@needs_names
def test_a_name_whose_first_address_refuses_is_reached_at_its_next(start_weir, upstream):
    weir = start_weir(hosts="127.31.0.1 many.weir.test\n127.0.0.1 many.weir.test\n")
    for _ in range(3):
        assert weir.fetch(upstream.url(name="many.weir.test")).status == 200


def test_limits_lowered_while_running_let_running_fetches_finish(start_weir, held):
    weir = start_weir(limited(4))
    clients = in_order(weir, held, 8)
    running = held.take(4)
    weir.reload(limited(2))
    weir.wait_host(held.host, limit=2, active=4, queued=4)
    for left in (3, 2):  # none starts until fewer than two run
        running.pop(0).answer()
        weir.wait_host(held.host, active=left, queued=4)
    for _ in range(4):
        running.pop(0).answer()
        running.append(held.next())
        assert held.running() == 2
    for request in running:
        request.answer()
    assert [client.read().status for client in clients] == [200] * 8
    weir.wait_host(held.host, active=0)
    wait_until(lambda: held.open_connections() <= 2, "idle connections above the limit are closed")


def test_idle_connections_above_a_lowered_limit_are_closed(start_weir, held):
    weir = start_weir(limited(4))
    clients = in_order(weir, held, 4)
    for request in held.take(4):
        request.answer()
    assert [client.read().status for client in clients] == [200] * 4
    weir.wait_host(held.host, active=0, idle_connections=4)
    weir.reload(limited(1))
    wait_until(lambda: held.open_connections() == 1, "three connections are closed")
    assert weir.host(held.host)["idle_connections"] == 1


def test_a_raised_limit_starts_waiters_at_once(start_weir, held):
    weir = start_weir(limited(1))
    in_order(weir, held, 4)
    weir.reload(limited(3))
    held.take(3)
    weir.wait_host(held.host, active=3, queued=1)


@pytest.mark.parametrize("bad", ['{"limits": {"default": {"limit": 0}}}', "{", '{"limit": 3}', ""])
def test_a_bad_configuration_at_reload_changes_nothing(start_weir, held, bad):
    weir = start_weir(limited(2))
    in_order(weir, held, 3)
    generation = weir.status()["config_generation"]
    weir.config_file.write_text(bad)
    weir.signal(signal.SIGHUP)
    event = weir.events.wait(level="error")
    assert os.path.basename(weir.config_file) in str(event)
    assert weir.status()["config_generation"] == generation
    weir.wait_host(held.host, limit=2, active=2, queued=1)
    weir.reload(limited(3))
    weir.wait_host(held.host, limit=3, active=3, queued=0)
