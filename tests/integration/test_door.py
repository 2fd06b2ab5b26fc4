"""Fair share of the door: connections in all and of each client, and bytes on their way."""

import socket
import subprocess
import threading

import pytest

from client import Client, chunk, fetch_target, request_bytes
from waiting import DEADLINE_S, wait_until
from weir import environment, limited, waiting_at

KEYS = ["client", "client_limit", "upstream", "clients", "largest_client", "per_client_limit",
        "per_local_client_limit", "full_total", "client_full_total"]


def connections(weir):
    return weir.status()["connections"]


def from_address(weir, source):
    """A client whose own address is SOURCE."""
    client = Client.__new__(Client)
    client.socket = socket.create_connection(weir.data, DEADLINE_S, (source, 0))
    client.buffer, client.ended = b"", False
    weir.clients.append(client)
    return client


def expect_full(client, weir):
    answer = client.read()
    assert answer.status == 503 and answer.complete
    assert b'"type": "urn:weir:problem:client_full"' in answer.body
    assert "error=connection_limit_reached" in answer.get("Proxy-Status")
    assert int(answer.get("Retry-After")) >= 1 and answer.get("Connection") == "close"
    client.wait_end()
    return answer


def test_status_tells_the_bounds(weir):
    status = weir.status()
    assert list(status["connections"]) == KEYS
    assert status["connections"]["per_client_limit"] == 1000
    assert status["connections"]["per_local_client_limit"] == status["connections"]["client_limit"]
    assert status["buffers"] == {
        "bytes": 0, "limit_bytes": 256 << 20, "peak_bytes": 0, "scarce_total": 0, "full_total": 0,
        "head_bytes": 0, "head_limit_bytes": status["connections"]["client_limit"] * 16384}


def test_one_client_has_its_share(start_weir, upstream):
    weir = start_weir({"connections_per_client": 3})
    mine = [from_address(weir, "127.0.0.5") for _ in range(3)]
    for client in mine:
        client.ask("GET", fetch_target(upstream.url()))
        assert client.read().status == 200
    for number in range(3):
        excess = from_address(weir, "127.0.0.5")
        if number > 0:  # one that says nothing, one that asks and one that tunnels
            excess.send(b"GET / HTTP/1.1\r\n\r\n" if number == 1 else b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        expect_full(excess, weir)
    other = from_address(weir, "127.0.0.6")
    other.ask("GET", fetch_target(upstream.url()))
    assert other.read().status == 200
    now = connections(weir)
    assert (now["client"], now["clients"], now["largest_client"]) == (4, 2, 3)
    assert (now["per_client_limit"], now["per_local_client_limit"]) == (3, 3)
    assert now["client_full_total"] == 3
    lines = weir.log.wait(3, outcome="client_full")
    assert all(line["status"] == 503 and line["client"].startswith("127.0.0.5:") for line in lines)
    mine[0].close()
    wait_until(lambda: connections(weir)["client"] == 3, "one has left")
    again = from_address(weir, "127.0.0.5")
    again.ask("GET", fetch_target(upstream.url()))
    assert again.read().status == 200


def test_the_status_can_be_429(start_weir):
    weir = start_weir({"connections_per_client": 1, "overflow_status": 429})
    from_address(weir, "127.0.0.5")
    wait_until(lambda: connections(weir)["client"] == 1, "the first is in")
    assert from_address(weir, "127.0.0.5").read().status == 429


def test_tunnels_and_silent_ones_count(start_weir, upstream):
    weir = start_weir({"connections_per_client": 2})
    tunnel = from_address(weir, "127.0.0.5")
    tunnel.send(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n" % upstream.host.encode())
    assert tunnel.read_head().status == 200
    from_address(weir, "127.0.0.5")
    wait_until(lambda: connections(weir)["client"] == 2, "both are in")
    expect_full(from_address(weir, "127.0.0.5"), weir)
    tunnel.close()
    wait_until(lambda: connections(weir)["client"] == 1, "the tunnel has left")
    client = from_address(weir, "127.0.0.5")
    client.ask("GET", fetch_target(upstream.url()))
    assert client.read().status == 200


def test_local_clients_have_all_where_nothing_is_configured(start_weir):
    weir = start_weir()
    clients = [weir.client() for _ in range(1100)]
    wait_until(lambda: connections(weir)["client"] == len(clients), "all are in")
    assert connections(weir)["client_full_total"] == 0


def test_unix_clients_are_one(start_weir, tmp_path):
    path = tmp_path / "data.sock"
    weir = start_weir({"listen": ["127.0.0.1:0", f"unix:{path}"], "connections_per_client": 2})
    clients = [Client(str(path)) for _ in range(3)]
    weir.clients += clients
    expect_full(clients[2], weir)
    assert weir.log.wait(outcome="client_full")["client"] == "unix:"


def test_curl_hears_of_it(start_weir):
    weir = start_weir({"connections_per_client": 1})
    weir.client()
    wait_until(lambda: connections(weir)["client"] == 1, "the first is in")
    proxy = f"http://127.0.0.1:{weir.data[1]}"
    for body in ([], ["--data-binary", "@-"]):
        ran = subprocess.run(["curl", "-s", "-m", str(DEADLINE_S), "-w", "%{http_code}", "-x", proxy,
                              *body, "http://127.0.0.1:1/"], input=b"x" * 500000,
                             capture_output=True, env=environment(), check=False)
        assert ran.stdout.endswith(b"503"), ran


def test_a_reload_changes_the_share(start_weir):
    weir = start_weir({"connections_per_client": 1})
    weir.client()
    wait_until(lambda: connections(weir)["client"] == 1, "the first is in")
    weir.reload({"connections_per_client": 2})
    weir.client()
    wait_until(lambda: connections(weir)["client"] == 2, "the second is in")
    expect_full(weir.client(), weir)


def test_all_connections_in_use(start_weir, upstream):
    weir = start_weir({"connections": 2})
    clients = [weir.client() for _ in range(2)]
    wait_until(lambda: connections(weir)["client"] == 2, "both are in")
    waiting = weir.ask(upstream.url())  # in the kernel
    wait_until(lambda: connections(weir)["full_total"] == 1, "it is full")
    clients[0].close()
    assert waiting.read().status == 200
    assert connections(weir)["client_limit"] == 2


def test_a_flood_of_one_leaves_the_others_alone(start_weir, upstream):
    weir = start_weir({"connections_per_client": 5})
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            client = Client.__new__(Client)
            try:
                client.socket = socket.create_connection(weir.data, DEADLINE_S, ("127.0.0.66", 0))
                client.socket.close()
            except OSError:
                pass

    keepers = [from_address(weir, "127.0.0.66") for _ in range(5)]
    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            client = from_address(weir, "127.0.0.7")
            client.ask("GET", fetch_target(upstream.url()))
            assert client.read().status == 200
            client.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(keepers) == 5


# --- Bytes on their way ---

LIMIT = 1 << 20
LEAST = 32768


def slow_reader(weir, upstream, number):
    """A client that does not read its answer of 4 MB."""
    client = Client(weir.data, receive_buffer_bytes=4096)
    weir.clients.append(client)
    client.ask("GET", fetch_target(upstream.url(f"/{number}")))
    return client


@pytest.fixture
def large(upstream):
    """An upstream whose answers are larger than all buffers together."""
    upstream.body = b"y" * (4 << 20)
    return upstream


def test_slow_clients_fill_the_buffers_and_no_more(start_weir, large, new_upstream):
    weir = start_weir({"buffer_bytes": LIMIT, **limited(100)})
    other = new_upstream()
    clients = []
    while weir.status()["buffers"]["bytes"] < LIMIT:
        clients.append(slow_reader(weir, large, len(clients)))
        assert len(clients) <= 60
        # each fills its own before the next comes, so that the last ones find little left
        before = [-1]

        def settled():
            now = weir.status()["buffers"]["bytes"]
            still, before[0] = now == before[0] and now > 0, now
            return still

        wait_until(settled, "its buffer is full")
    buffers = weir.status()["buffers"]
    assert buffers["bytes"] <= LIMIT + len(clients) * 2 * LEAST
    assert buffers["scarce_total"] >= 1 and buffers["peak_bytes"] >= LIMIT
    for method, body in (("GET", None), ("POST", b"x" * 1000)):
        answer = weir.fetch(other.url(), method=method, body=body)
        assert answer.status == 503 and int(answer.get("Retry-After")) >= 1
        assert b"urn:weir:problem:buffers_full" in answer.body
        assert "error=connection_limit_reached" in answer.get("Proxy-Status")
    assert other.targets() == []
    assert weir.status()["buffers"]["full_total"] == 2
    assert weir.log.wait(2, outcome="buffers_full")
    # those that run go on, all of them, to their end
    received = []

    def read(client):
        answer = client.read()
        received.append(answer.status == 200 and answer.complete and answer.body == large.body)

    threads = [threading.Thread(target=read, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert received == [True] * len(clients)
    weir.wait_idle()
    assert weir.status()["buffers"]["bytes"] == 0
    assert weir.fetch(other.url()).status == 200


def test_uploads_go_on_when_buffers_are_scarce(start_weir, held, new_upstream):
    weir = start_weir({"buffer_bytes": LIMIT, **limited(100)})
    data = bytes(range(256)) * 8192  # 2 MB
    senders = []
    for number in range(20):
        client = weir.client()
        client.ask("POST", fetch_target(held.url(f"/{number}")), [("Transfer-Encoding", "chunked")])
        senders.append(client)
    weir.wait_host(held.host, active=20)

    def send(client):
        for start in range(0, len(data), 65536):
            client.send(chunk(data[start:start + 65536]))
        client.send(chunk(b""))

    threads = [threading.Thread(target=send, args=(client,)) for client in senders]
    for thread in threads:
        thread.start()
    requests = held.take(20)
    for request in requests:
        request.wait_body()
        request.answer(body=b"%d" % len(request.body))
    for thread in threads:
        thread.join()
    assert [client.read().body for client in senders] == [b"%d" % len(data)] * 20
    assert all(request.body == data for request in requests)
    weir.wait_idle()


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_buffers_come_back_when_clients_leave(start_weir, large, leave):
    weir = start_weir({"buffer_bytes": LIMIT, **limited(100)})
    clients = [slow_reader(weir, large, number) for number in range(5)]
    wait_until(lambda: weir.status()["buffers"]["bytes"] >= 5 * LEAST, "bytes are on their way")
    for client in clients:
        getattr(client, leave)()
    weir.wait_idle()
    assert weir.status()["buffers"]["bytes"] == 0


def test_heads_are_told(start_weir):
    weir = start_weir({"header_bytes": 8192})
    for _ in range(3):
        weir.client()
    wait_until(lambda: weir.status()["buffers"]["head_bytes"] == 3 * 8192, "three heads may come")


def test_who_is_idle_makes_room_for_who_comes(start_weir, upstream, held):
    weir = start_weir({"connections": 3})
    busy = weir.ask(held.url())
    request = held.next()
    idle = [weir.ask(upstream.url()) for _ in range(2)]
    assert [client.read().status for client in idle] == [200, 200]
    idle[0].ask("GET", fetch_target(upstream.url()))  # now the other one is idle for longer
    assert idle[0].read().status == 200
    assert connections(weir)["client"] == 3
    newcomer = weir.ask(upstream.url("/new"))
    assert newcomer.read().status == 200
    idle[1].wait_end()
    assert idle[0].ask("GET", fetch_target(upstream.url())).read().status == 200
    request.answer()
    assert busy.read().status == 200


def test_who_has_said_nothing_makes_room_for_who_comes(start_weir, upstream):
    """But not who has begun to."""
    weir = start_weir({"connections": 3, "timeouts": {"head": "1h"}})
    begun = [weir.client() for _ in range(2)]
    for client, data in zip(begun, (b"CONN", b"GET ")):
        client.send(data)
    silent = weir.client()
    wait_until(lambda: connections(weir)["client"] == 3, "all are in")
    newcomer = weir.ask(upstream.url("/new"))
    assert newcomer.read().status == 200
    silent.wait_end()
    begun[1].send(request_bytes("GET", fetch_target(upstream.url()))[4:])
    assert begun[1].read().status == 200


def test_a_crowd_at_one_listener_keeps_nobody_out_of_another(start_weir, held):
    weir = start_weir({"listen": ["127.0.0.1:0", "127.0.0.1:0"], "connections": 1})
    crowded, other = [("127.0.0.1", int(event["address"].rpartition(":")[2]))
                      for event in weir.events.find(event="listening", **{"for": "data"})]
    for address, path, waiting in ((crowded, "/first", 0), (crowded, "/second", 1), (crowded, "/third", 2),
                                   (other, "/other", 1)):
        client = Client(address)
        weir.clients.append(client)
        client.ask("GET", fetch_target(held.url(path)), [("Connection", "close")])
        wait_until(lambda: waiting_at(address[1]) == waiting, f"{path} is in, or waits")
    arrived = []
    for _ in range(4):
        request = held.next()
        arrived.append(request.target)
        request.answer()
    assert arrived == ["/first", "/other", "/second", "/third"]


def test_a_full_house_of_idle_ones_is_left_alone_while_nobody_comes(start_weir, upstream):
    weir = start_weir({"connections": 3})
    clients = [weir.ask(upstream.url()) for _ in range(3)]
    assert [client.read().status for client in clients] == [200] * 3
    for _ in range(5):
        for client in clients:
            assert client.ask("GET", fetch_target(upstream.url())).read().status == 200
