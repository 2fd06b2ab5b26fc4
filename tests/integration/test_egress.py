"""What may be reached, and what not: by name, by port, and by the address that is dialled."""

import signal
import socket

import pytest

from client import FORMS, Client, assert_problem, fetch_target, request_bytes
from nameserver import Nameserver
from needs import needs_names, needs_nameserver
from weir import DEFAULT_FLAGS, Weir, limited

NAMESERVER = "127.0.53.1"
EVERY_FORM = [*FORMS, "tunnel"]


def assert_denied_address(answer):
    assert_problem(answer, 403, "denied", "destination_ip_prohibited")


def assert_denied_name(answer):
    assert_problem(answer, 403, "denied", "http_request_denied")


def assert_loop(answer):
    assert_problem(answer, 508, "loop", "proxy_loop_detected")


def ask(weir, url, form):
    """The answer to a request for URL, or for a tunnel to where that is."""
    if form != "tunnel":
        return weir.fetch(url, form=form)
    authority = url.split("/")[2]
    has_port = ":" in authority.rpartition("]")[2]
    client = weir.client()
    client.ask("CONNECT", authority if has_port else authority + ":80")
    answer = client.read("CONNECT")
    client.close()
    return answer


def egress(**keys):
    return {"egress": keys}


def detail(answer):
    return answer.get("Proxy-Status")


@pytest.fixture
def start_closed(start_weir):
    """Starts services with the rules that hold where nobody says anything."""
    return lambda config=None, **how: start_weir(config, defaults=[], **how)


@pytest.fixture(scope="module")
def of_module(tmp_path_factory):
    """One service with the default rules but for the ports, and one with --allow-private."""
    services = {}

    def get(name):
        if name not in services:
            defaults, config = ([], egress(ports="any")) if name == "closed" else (DEFAULT_FLAGS, {})
            services[name] = Weir(tmp_path_factory.mktemp(name), config, defaults=defaults)
        return services[name]

    yield get
    for service in services.values():
        service.stop()


@pytest.fixture
def pair(new_upstream):
    """Two upstreams at one port: of 127.0.0.2, and of 127.0.0.1."""
    good = new_upstream(address="127.0.0.2")
    bad = new_upstream(port=good.port)
    return good, bad


# --- addresses ---

@pytest.mark.parametrize("form", EVERY_FORM)
@pytest.mark.parametrize("spelling", [
    "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "0X7F.0.0.1", "0177.0.0.1",
    "017700000001", "2130706433", "2130706433.", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "[::1]", "[0000::0001]", "[::]", "0.0.0.0", "0", "0x0", "localhost",
    "LOCALHOST.", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254",
    "0xa9fea9fe", "[fe80::1]", "[fc00::1]", "[fec0::1]", "192.0.2.1", "198.18.0.1", "224.0.0.1",
    "255.255.255.255", "[2001:db8::1]", "[5f00::1]", "[ff02::1]",
])
def test_refused_by_default(of_module, upstream, form, spelling):
    weir = of_module("closed")
    answer = ask(weir, f"http://{spelling}:{upstream.port}/", form)
    assert_denied_address(answer)
    assert not upstream.connections


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spelling", [
    "１２７.０.０.１", "127。0。0。1", "①②⑦.0.0.1", "%31%32%37.0.0.1", "127.0.0.1%00", "127.0.0.256",
    "0x7f.0.0.0.1", "[::1%25lo]", "[::ffff:127.0.0.1", "127.0.0.1@8.8.8.8",
])
def test_what_is_no_host_at_all(of_module, upstream, form, spelling):
    weir = of_module("closed")
    client = weir.client()
    url = f"http://{spelling}:{upstream.port}/"
    target = url if form == "forward" else fetch_target(url)
    client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert client.read().status == 400
    assert not upstream.connections


@pytest.mark.parametrize("form", EVERY_FORM)
@pytest.mark.parametrize("spelling", [
    "169.254.169.254", "169.254.169.254.", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376",
    "169.254.43518", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]", "[fd00:0ec2:0::0254]", "100.100.100.200",
    "169.254.170.2", "169.254.1.1", "[fe80::1]", "168.63.129.16",
])
def test_metadata_is_never_private(of_module, form, spelling):
    weir = of_module("private")
    assert_denied_address(ask(weir, f"http://{spelling}/latest/meta-data/", form))


@needs_names
def test_names_of_metadata(start_weir):
    weir = start_weir(egress(allow=["169.254.0.0/16", "metadata.internal", "*.internal"]),
                      hosts="169.254.169.254 metadata.internal\nfd00:ec2::254 six.internal\n")
    for name in ("metadata.internal", "six.internal", "METADATA.internal."):
        answer = weir.fetch(f"http://{name}/")
        assert_denied_address(answer)
        assert "metadata" in detail(answer)


@pytest.mark.parametrize("form", FORMS)
def test_private_opens_loopback(start_weir, upstream, new_upstream, form):
    six = new_upstream(address="::1")
    weir = start_weir()
    for at in (upstream, six):
        assert weir.fetch(at.url(), form=form).status == 200


@pytest.mark.parametrize("how", [{"config": egress(private=True)},
                                 {"env": {"WEIR_ALLOW_PRIVATE": "true"}},
                                 {"flags": ["--allow-private"]},
                                 {"config": egress(ports=[443]), "flags": ["--allow-private"]}])
def test_ways_to_open(start_closed, upstream, how):
    assert start_closed(**how).fetch(upstream.url()).status == 200


def test_ways_that_do_not_open(start_closed, upstream):
    weir = start_closed(egress(private=True), env={"WEIR_ALLOW_PRIVATE": "false"})
    assert_denied_name(weir.fetch(upstream.url()))
    # A limit is not a permission: it opens its port for its host, and no address.
    weir = start_closed(limited(hosts={upstream.host: {"limit": 1}}))
    assert_denied_address(weir.fetch(upstream.url()))
    assert not upstream.connections


def test_ranges(start_closed, pair):
    good, bad = pair
    weir = start_closed(egress(allow=[f"127.0.0.2/31:{good.port}"]))
    assert weir.fetch(good.url()).status == 200
    assert_denied_name(weir.fetch(bad.url()))
    weir.reload(egress(allow=["127.0.0.0/8"], deny=["127.0.0.1"], ports="any"))
    assert weir.fetch(good.url()).status == 200
    assert_denied_address(weir.fetch(bad.url()))
    assert not bad.connections


# --- names and ports ---

@needs_names
def test_names(start_weir, upstream):
    weir = start_weir(egress(deny=["evil.test", "*.evil.test", "*.half.test:1"]),
                      hosts="127.0.0.1 evil.test a.evil.test a.b.evil.test notevil.test a.half.test\n")
    for name in ("evil.test", "EVIL.test.", "a.evil.test", "a.b.evil.test", "A.Evil.Test."):
        answer = weir.fetch(upstream.url(name=name))
        assert_denied_name(answer)
    assert_denied_name(weir.fetch("http://no-such-name.evil.test/"))  # before anybody looks it up
    assert not upstream.connections
    for name in ("notevil.test", "a.half.test"):
        assert weir.fetch(upstream.url(name=name)).status == 200


@needs_names
def test_allowed_names(start_closed, upstream):
    weir = start_closed(egress(allow=[f"*.ok.test:{upstream.port}", "port.test"]),
                        hosts="127.0.0.1 a.ok.test ok.test other.test port.test\n")
    assert weir.fetch(upstream.url(name="a.ok.test")).status == 200
    assert weir.fetch(upstream.url(name="A.OK.test.")).status == 200
    for name in ("ok.test", "other.test", "port.test"):
        assert_denied_name(weir.fetch(upstream.url(name=name)))  # by the port
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("form", EVERY_FORM)
def test_ports(start_closed, form):
    weir = start_closed()
    for port in (1, 22, 25, 79, 81, 8080, 65535):
        answer = ask(weir, f"http://name.invalid:{port}/", form)
        assert_denied_name(answer)
        assert "port" in detail(answer)
    answer = ask(weir, "https://name.invalid:443/", form)
    assert answer.status in (502, 504)  # looked up, and not there


def test_named_ports(start_closed, new_upstream):
    one, other = new_upstream(), new_upstream()
    allowed = {"allow": ["127.0.0.1"]}
    weir = start_closed({**egress(**allowed), **limited(hosts={one.host: {"limit": 1}})})
    assert weir.fetch(one.url()).status == 200
    assert_denied_name(weir.fetch(other.url()))
    weir.reload({**egress(**allowed, ports=[other.port])})
    assert weir.fetch(other.url()).status == 200
    assert_denied_name(weir.fetch(one.url()))
    weir.reload({**egress(**allowed, ports="any", deny=[f":{one.port}"])})
    assert weir.fetch(other.url()).status == 200
    assert_denied_name(weir.fetch(one.url()))


# --- what a denied request costs ---

def test_a_denied_request_takes_nothing(start_weir, held):
    """It needs no slot and no place in the queue, and the connection that asked can be used on."""
    weir = start_weir({**limited(1, queue=0), **egress(deny=["*.evil.test", f":{held.port + 1}"])})
    first = weir.ask(held.url())
    request = held.next()
    client = weir.client()
    for _ in range(2):
        client.ask("POST", "/fetch?url=http://a.evil.test/", [], b"some body")
        assert_denied_name(client.read())
    client.ask("GET", f"http://127.0.0.1:{held.port + 1}/")
    assert_denied_name(client.read())
    assert weir.log.wait(outcome="denied", host="a.evil.test")["status"] == 403
    totals = weir.status()["totals"]
    assert totals["rejected_total"]["denied"] == 3
    assert (totals["active"], totals["queued"], totals["hosts"]) == (1, 0, 1)
    request.answer()
    assert first.read().status == 200


@needs_names
def test_a_denied_address_is_counted(start_closed):
    weir = start_closed(hosts="10.1.1.1 inside.test\n")
    assert_denied_address(weir.fetch("http://inside.test/"))
    assert weir.status()["totals"]["rejected_total"]["denied"] == 1
    weir.wait_totals(active=0, queued=0)


def test_head_and_body(start_closed, upstream):
    weir = start_closed(egress(ports="any"))
    client = weir.client()
    client.ask("HEAD", upstream.url())
    answer = client.read("HEAD")
    assert (answer.status, answer.body) == (403, b"")
    client.ask("POST", upstream.url(), [("Expect", "100-continue")], b"")
    assert_denied_address(client.read("POST"))


# --- DNS ---

@needs_names
def test_only_the_good_of_mixed_addresses(start_closed, pair):
    good, bad = pair
    names = "127.0.0.1 mixed.test\n127.0.0.2 mixed.test\n::1 mixed.test\n127.0.0.3 mixed.test\n"
    weir = start_closed({**limited(4), **egress(allow=["127.0.0.2"], ports=[good.port])}, hosts=names)
    for _ in range(4):
        assert weir.fetch(good.url(name="mixed.test"), headers=[("Connection", "close")]).status == 200
    assert len(good.requests) == 4
    good.close_listener()
    good.stop()
    assert_problem(weir.fetch(good.url(name="mixed.test")), 502, "connection_refused")
    assert not bad.connections


@pytest.fixture
def nameserver():
    server = Nameserver(NAMESERVER)
    yield server
    server.stop()


@needs_names
@needs_nameserver(NAMESERVER)
def test_rebinding(start_closed, pair, nameserver):
    """Names whose first answer is good, and whose every later one is not."""
    good, bad = pair
    count = 12
    for number in range(count):
        nameserver.names[f"n{number}.test"] = \
            lambda asked: ["127.0.0.2"] if asked == 0 else ["127.0.0.1"]
    weir = start_closed(egress(allow=["127.0.0.2"], ports=[good.port]), nameserver=NAMESERVER)
    for number in range(count):
        url = good.url(name=f"n{number}.test")
        for _ in range(2):
            assert weir.fetch(url, headers=[("Connection", "close")]).status == 200
        tunnel = weir.client()
        tunnel.ask("CONNECT", f"n{number}.test:{good.port}")
        assert tunnel.read_head().status == 200
        tunnel.ask("GET", "/")
        assert tunnel.read().status == 200
        tunnel.close()
    assert len(good.requests) == 3 * count
    assert not bad.connections


@needs_names
@needs_nameserver(NAMESERVER)
def test_rebinding_the_other_way(start_closed, pair, nameserver):
    """Many at once, for names whose answers take turns: whatever is dialled has been checked."""
    good, bad = pair
    for number in range(8):
        nameserver.names[f"n{number}.test"] = \
            lambda asked, number=number: ["127.0.0.2" if (asked + number) % 2 else "127.0.0.1"]
    weir = start_closed({**limited(4), **egress(allow=["127.0.0.2"], ports=[good.port])},
                        nameserver=NAMESERVER)
    clients = [weir.ask(good.url(name=f"n{number}.test")) for number in range(8) for _ in range(4)]
    statuses = [client.read().status for client in clients]
    assert set(statuses) == {200, 403}
    assert len(good.requests) == statuses.count(200)
    assert not bad.connections


@needs_names
@needs_nameserver(NAMESERVER)
def test_only_the_resolver_looks_names_up(start_weir, new_upstream, nameserver):
    """Also after a request whose client left just when its turn had come, so that libcurl was told
    of an address and never asked for it."""
    nameserver.names["one.test"] = ["127.0.0.1"]
    first, second = new_upstream(), new_upstream()
    weir = start_weir(limited(1), nameserver=NAMESERVER)
    assert weir.fetch(first.url(name="one.test")).status == 200
    for _ in range(5):
        tunnel = weir.client()
        tunnel.ask("CONNECT", f"one.test:{second.port}")
        assert tunnel.read_head().status == 200
        waiting = weir.ask(second.url(name="one.test"))
        weir.wait_host(f"one.test:{second.port}", queued=1)
        weir.process.send_signal(signal.SIGSTOP)
        tunnel.reset()
        waiting.reset()
        weir.process.send_signal(signal.SIGCONT)
        assert weir.fetch(second.url(name="one.test")).status == 200
    assert nameserver.asked == {"one.test": 1}


# --- reloads ---

@needs_names
def test_a_connection_of_the_old_rules_is_not_used(start_closed, new_upstream):
    one = new_upstream(address="127.0.0.2")
    other = new_upstream(address="127.0.0.3", port=one.port)
    names = "127.0.0.2 both.test\n127.0.0.3 both.test\n"
    ranges = {"allow": ["127.0.0.2/31"], "ports": [one.port]}
    weir = start_closed(egress(**ranges), hosts=names)
    url = one.url(name="both.test")
    clients = [weir.ask(url, method="POST", body=b"x") for _ in range(3)]
    assert [client.read().status for client in clients] == [200] * 3
    first, second = (one, other) if one.requests else (other, one)
    weir.wait_host(f"both.test:{one.port}", active=0)
    opened = len(first.connections)
    weir.reload(egress(**ranges, deny=[first.address]))
    # Not idempotent: nothing of it may have been sent to the first.
    for _ in range(3):
        assert weir.fetch(url, method="POST", body=b"x").status == 200
    assert (len(first.requests), len(second.requests)) == (3, 3)
    assert len(first.connections) == opened
    weir.reload(egress(**ranges, deny=["127.0.0.2/31"]))
    assert_denied_address(weir.fetch(url))
    weir.reload(egress(**ranges))
    assert weir.fetch(url).status == 200


def test_those_that_wait_over_a_reload(start_weir, held):
    """One that runs goes on; one that waits is judged by the rules of the moment it starts."""
    weir = start_weir(limited(1))
    first, second = weir.ask(held.url("/1")), None
    running = held.next()
    second = weir.ask(held.url("/2"))
    weir.wait_host(held.host, active=1, queued=1)
    weir.reload({**limited(1), **egress(deny=[f"127.0.0.1:{held.port}"])})
    running.answer()
    assert first.read().status == 200
    assert_denied_address(second.read())
    assert held.targets() == ["/1"]


def test_a_bad_reload_keeps_the_rules(start_weir, upstream):
    weir = start_weir(egress(deny=["*.evil.test"]))
    weir.write_config(egress(deny=["10.0.0.1/8"]))
    weir.signal(1)
    reason = weir.events.wait(event="reload_failed")["reason"]
    assert "egress.deny[0]: expected an address" in reason
    assert_denied_name(weir.fetch("http://a.evil.test/"))
    assert weir.fetch(upstream.url()).status == 200


# --- loops ---

def own_addresses():
    """Addresses of this machine that others would use."""
    found = set()
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((far, 9))
                address = sock.getsockname()[0]
            except OSError:
                continue
            if "%" not in address:
                found.add(f"[{address}]" if ":" in address else address)
    return sorted(found)


@pytest.mark.parametrize("form", EVERY_FORM)
@pytest.mark.parametrize("private", [False, True])
def test_loops(start_weir, form, private):
    weir = start_weir(defaults=DEFAULT_FLAGS if private else [])
    for port in (weir.data[1], weir.admin[1]):
        for host in ("127.0.0.1", "127.0.0.1.", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0",
                     "0", "localhost", "LOCALHOST."):
            assert_loop(ask(weir, f"http://{host}:{port}/healthz", form))
            assert_loop(ask(weir, f"https://{host}:{port}/", form))
    assert weir.status()["totals"]["rejected_total"]["denied"] == 36


@needs_names
def test_loops_by_any_address(start_weir):
    weir = start_weir({"listen": ["0.0.0.0:0", "[::]:0"], **egress(allow=["0.0.0.0/0", "::/0"])},
                      hosts="127.5.5.5 here.test\n::1 here6.test\n203.0.113.9 there.test\n"
                            "127.0.0.1 there.test\n")
    four, six = (int(event["address"].rpartition(":")[2])
                 for event in weir.events.find(event="listening", **{"for": "data"}))
    own = own_addresses()
    for host in ("127.0.0.1", "127.5.5.5", "0.0.0.0", "[::ffff:127.0.0.1]", "here.test", "there.test",
                 *[address for address in own if "[" not in address]):
        assert_loop(weir.fetch(f"http://{host}:{four}/"))
    for host in ("[::1]", "[::]", "here6.test", *[address for address in own if "[" in address]):
        assert_loop(weir.fetch(f"http://{host}:{six}/"))
    assert weir.fetch(f"http://[::1]:{four}/").status == 502  # nobody is there


def test_a_loop_is_no_other_machine(start_weir, new_upstream):
    """The same port at an address where we do not listen is somebody else's."""
    weir = start_weir()
    neighbour = new_upstream(address="127.0.0.9", port=weir.data[1])
    assert weir.fetch(neighbour.url()).status == 200


def test_no_loop_by_connections_kept_open(start_weir):
    """Nothing comes back, even with a request that would be answered by the admin port."""
    weir = start_weir()
    with_own_host = Client(weir.data)
    with_own_host.send(request_bytes("GET", f"http://127.0.0.1:{weir.admin[1]}/status",
                                     host=f"127.0.0.1:{weir.admin[1]}"))
    assert_loop(with_own_host.read())
    with_own_host.close()


# --- named upstreams ---

@needs_names
def test_an_upstream_opens_for_itself_only(start_closed, pair):
    """What an upstream may reach, and keeps a connection to, is not open to the same name in a URL."""
    good, bad = pair
    where = f"mix.test:{good.port}"
    weir = start_closed({"upstreams": {"in": {"url": f"http://{where}", "allow_private": True},
                                       "out": {"url": f"http://{where}"}},
                         **egress(allow=["127.0.0.2"])},
                        hosts="127.0.0.1 mix.test\n127.0.0.2 mix.test\n")

    def post(target):
        client = weir.client()
        client.ask("POST", target, [], b"x")
        return client.read().status

    assert post("/to/in/") == 200
    if not bad.requests:
        pytest.skip("the resolver puts 127.0.0.2 first")
    weir.wait_host(where, active=0, idle_connections=1)
    assert post("/to/out/") == 200  # its port is open, as the configuration names it
    assert post(f"http://{where}/") == 200
    assert (len(bad.requests), len(good.requests)) == (1, 2)
    weir.reload({"upstreams": {"in": {"url": f"http://{where}", "allow_private": True}},
                 **egress(deny=["127.0.0.1"])})
    assert_denied_address(weir.fetch(f"http://{where}/"))
    assert post("/to/in/") == 200  # deny beats it: at the other address
    assert len(bad.requests) == 1


@needs_names
@pytest.mark.parametrize("target", ["/to/meta/x", "/to/evil/x"])
def test_an_upstream_opens_no_more_than_it_says(start_closed, target):
    weir = start_closed({"upstreams": {"meta": {"url": "http://meta.test", "allow_private": True},
                                       "evil": {"url": "http://a.evil.test", "allow_private": True}},
                         **egress(deny=["*.evil.test"])},
                        hosts="169.254.169.254 meta.test\n127.0.0.1 a.evil.test\n")
    client = weir.client()
    client.ask("GET", target)
    assert client.read().status == 403
