"""Poor surroundings: files that are not there, closed streams, little memory, few open files."""

import json
import os
import resource
import signal
import socket
import subprocess

import pytest

from bare import Root
from client import Client, fetch_target
from nameserver import Nameserver
from needs import needs_nameserver
from waiting import DEADLINE_S, wait_until
from weir import BINARY, environment, in_order, limited, waiting_at

MIB = 1 << 20
NAMESERVER = "127.0.53.2"
ANY_PORTS = {"listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}}
HASHES = {
    "bcrypt": "$2b$04$abcdefghijklmnopqrstuuwoxBKLAPTpYmOCraVPmN0lNh6KVWefO",
    "yescrypt": "$y$j9T$abcdefghijkl$Ni6YAln6Uaif70x1WKWwiuo/LUf96t0/ZFkWikmeGE5",
}


@pytest.fixture(name="bare")
def bare_root(tmp_path):
    path = tmp_path / "root"
    path.mkdir()
    tmp_path.chmod(0o755)
    return Root(path)


def run(command, prepare=None):
    """Runs COMMAND until it ends by itself."""
    return subprocess.run(command, env=environment(), capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False, preexec_fn=prepare)


def expect_refusal(ran, *words):
    """One clear line and the exit code of a bad configuration."""
    assert ran.returncode == 1, ran.stderr
    assert ran.stdout == ""
    assert ran.stderr.startswith("weir: ") and ran.stderr.count("\n") == 1, ran.stderr
    for word in ("expected", *words):
        assert word in ran.stderr


def few_files(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


# --- the configuration's mount ---


def test_a_configuration_that_is_a_directory(tmp_path):
    (tmp_path / "weir.json").mkdir()
    expect_refusal(run([BINARY, "--config", str(tmp_path / "weir.json")]), "weir.json", "directory")


def test_a_configuration_that_may_not_be_read(bare):
    bare.write("/weir.json", "{}").chmod(0)
    bare.user = 65532
    expect_refusal(run(bare.command("--config", "/weir.json")), "/weir.json", "Permission denied")


def test_a_configuration_that_is_empty(tmp_path):
    (tmp_path / "weir.json").touch()
    expect_refusal(run([BINARY, "--config", str(tmp_path / "weir.json")]), "weir.json", "empty")


def test_a_configuration_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "weir.json")
    expect_refusal(run([BINARY, "--config", str(tmp_path / "weir.json")]), "weir.json", "a pipe")


def test_a_pipe_in_the_place_of_a_file_does_not_hold_up_a_reload(start_weir, upstream, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    config = {"upstreams": {"it": {"url": upstream.url("/"), "allow_private": True,
                                   "headers": {"Authorization": {"file": str(token)}}}}}
    weir = start_weir(config)
    for count, path in enumerate((token, weir.config_file), 1):
        path.unlink()
        os.mkfifo(path)
        weir.signal(signal.SIGHUP)
        weir.events.wait(count, event="reload_failed")
        assert str(path) in weir.events.find(event="reload_failed")[-1]["reason"]
        assert weir.fetch(upstream.url("/")).status == 200
        path.unlink()
        path.write_text("another")


@pytest.mark.parametrize("purpose", ["data", "admin"])
def test_a_port_in_use_is_one_line_and_no_other(purpose):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        listen, admin = ((address, "127.0.0.1:0") if purpose == "data" else ("127.0.0.1:0", address))
        ran = run([BINARY, "--listen", listen, "--admin", admin])
    assert ran.returncode == 1 and ran.stdout == ""
    assert ran.stderr == f"weir: {address}: cannot listen: Address already in use\n"


# --- the standard streams ---


class Plain:
    """A service of which only the data port is known, for streams that tell nothing."""

    def __init__(self, directory, streams, prepare=None):
        self.path = str(directory / "socket")
        self.streams = streams
        config = directory / "weir.json"
        config.write_text(json.dumps({**ANY_PORTS, "listen": f"unix:{self.path}"}))
        self.process = subprocess.Popen([BINARY, "--config", str(config), "--allow-private"],
                                        env=environment(), preexec_fn=prepare, **streams)
        try:
            wait_until(self._listens, "it listens")
        except AssertionError:
            self._kill()
            raise

    def _listens(self):
        assert self.process.poll() is None, "it has ended"
        try:
            Client(self.path).close()
            return True
        except OSError:
            return False

    def _kill(self):
        """Where it has not ended by itself."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def fetch(self, url):
        client = Client(self.path)
        answer = client.ask("GET", fetch_target(url)).read()
        client.close()
        return answer

    def stop(self):
        """What the streams said in the end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            output, events = self.process.communicate(timeout=DEADLINE_S)
        finally:
            self._kill()
        assert self.process.returncode == 0, events
        return output, events


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]],
                         ids=lambda closed: "".join(map(str, closed)))
def test_standard_streams_that_are_closed(tmp_path, upstream, closed):
    def close():
        for fd in closed:
            os.close(fd)

    weir = Plain(tmp_path, {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                            "stderr": subprocess.PIPE}, close)
    try:
        for _ in range(3):  # also through sockets that took the numbers, if they could
            assert weir.fetch(upstream.url()).status == 200
    finally:
        output, events = weir.stop()
    assert output.count(b'"outcome":"ok"') == (0 if 1 in closed else 3)
    assert events.count(b'"ready"') == (0 if 2 in closed else 1)
    for lost, rest, name in ((1, events, b"access"), (2, output, b"event")):
        said = b'"event":"log_lost","stream":"' + name + b'"' in rest
        assert said == (lost in closed and 3 - lost not in closed), rest


def test_a_full_disk_behind_standard_output(tmp_path, upstream):
    with open("/dev/full", "wb") as full:
        weir = Plain(tmp_path, {"stdout": full, "stderr": subprocess.PIPE})
        try:
            for _ in range(3):
                assert weir.fetch(upstream.url()).status == 200
        finally:
            _, events = weir.stop()
    told = [json.loads(line) for line in events.splitlines() if b"log_blocked" in line]
    assert [(event["level"], event["stream"], event["error"]) for event in told] == [
        ("warning", "access", "No space left on device")]


@pytest.mark.parametrize("asked", [["--help"], ["--version"], ["--check-config"], ["check", "--help"]],
                         ids=" ".join)
def test_what_is_asked_for_and_cannot_be_written(asked):
    with open("/dev/full", "wb") as full:
        ran = subprocess.run([BINARY, *asked], env=environment(), stdout=full, stderr=subprocess.PIPE,
                             text=True, timeout=DEADLINE_S, check=False)
    assert (ran.returncode, ran.stderr) == (1, "weir: standard output: No space left on device\n")


def test_a_file_behind_standard_output_that_may_not_grow(tmp_path, upstream):
    def bound():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    with open(tmp_path / "log", "wb") as log:
        weir = Plain(tmp_path, {"stdout": log, "stderr": subprocess.PIPE}, bound)
        try:
            for _ in range(3):
                assert weir.fetch(upstream.url()).status == 200
        finally:
            _, events = weir.stop()
    assert b'"event":"log_blocked"' in events


def test_a_reader_of_standard_output_that_has_stopped(tmp_path, upstream):
    read_end, write_end = os.pipe()
    weir = Plain(tmp_path, {"stdout": write_end, "stderr": subprocess.PIPE})
    os.close(write_end)
    try:
        client = Client(weir.path)
        for _ in range(250):  # 2 MB of lines: more than the pipe and the log hold
            assert client.ask("GET", fetch_target(upstream.url("/" + "x" * 8000))).read().status == 200
        client.close()
    finally:
        _, events = weir.stop()
        os.close(read_end)
    assert events.count(b'"event":"log_blocked","stream":"access"') == 1


# --- files of the system ---


def test_without_the_files_of_a_system(start_weir, bare, upstream, tls, new_upstream):
    secure = new_upstream(tls=tls.context)
    weir = start_weir(root=bare)
    assert weir.fetch(upstream.url()).status == 200
    answer = weir.fetch(secure.url(scheme="https"))
    assert answer.status == 502
    problem = json.loads(answer.body)
    assert problem["type"].endswith("tls_certificate_error")
    assert "tls.ca_file" in problem["detail"]
    warning = weir.events.wait(event="tls_no_roots")
    assert warning["level"] == "warning" and warning["path"].startswith("/")
    assert "ca-certificates" in warning["reason"] and "tls.ca_file" in warning["reason"]
    assert len(weir.events.find(event="tls_no_roots")) == 1

    answer = weir.fetch("http://weir.invalid/")
    assert answer.status == 502
    assert json.loads(answer.body)["type"].endswith("dns_error")
    bare.write("/etc/hosts", "127.0.0.1 in-hosts.test\n")
    assert weir.fetch(f"http://in-hosts.test:{upstream.port}/").status == 200


@needs_nameserver(NAMESERVER)
def test_a_name_server_that_comes_later(start_weir, bare, upstream):
    server = Nameserver(NAMESERVER)
    server.names["later.test"] = ["127.0.0.1"]
    weir = start_weir(root=bare)
    try:
        assert weir.fetch("http://sooner.test/").status == 502
        bare.write("/etc/resolv.conf", f"nameserver {NAMESERVER}\n")
        # Threads that have looked up names before notice, and those that have not.
        assert weir.fetch(f"http://later.test:{upstream.port}/").status == 200
    finally:
        server.stop()


# --- memory ---


def limits_of(weir):
    status = weir.status()
    return {"connections": status["connections"]["client_limit"],
            "limits.total.limit": status["totals"]["limit"],
            "limits.hosts_max": status["totals"]["hosts_limit"],
            "buffer_bytes": status["buffers"]["limit_bytes"]}


def test_a_bound_on_memory_lowers_what_may_take_it(start_weir, bare, upstream):
    bare.bound_memory(32 * MIB)
    weir = start_weir(root=bare)
    event = weir.events.wait(event="memory_bounded")
    assert event["bytes"] == str(32 * MIB) and event["source"] == "/sys/fs/cgroup/memory.max"
    lowered = limits_of(weir)
    assert {key: str(value) for key, value in lowered.items()} == {key: event[key] for key in lowered}
    assert 64 <= lowered["connections"] <= 1000
    assert 8 <= lowered["limits.total.limit"] <= 128
    assert MIB <= lowered["buffer_bytes"] <= 16 * MIB
    assert weir.fetch(upstream.url()).status == 200
    # A reload is bounded too, and what is given at the start stays.
    weir.reload({"limits": {"total": {"limit": 5000}}, "buffer_bytes": 64 * MIB})
    assert limits_of(weir) == lowered
    weir.events.wait(2, event="memory_bounded")
    weir.reload({"limits": {"total": {"limit": 2}}})
    assert limits_of(weir) == {**lowered, "limits.total.limit": 2}


def segment_bytes(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def test_sockets_of_a_bounded_service_hold_several_segments(start_weir, bare, upstream):
    """Else both ends of loopback, whose segments are large, wait for timers."""
    free = start_weir()
    bare.bound_memory(32 * MIB)
    weir = start_weir(root=bare)
    assert segment_bytes(free.client().socket) > 16384
    client = weir.ask(upstream.url())
    assert segment_bytes(client.socket) <= 4500
    upstream.body = b"x" * MIB
    assert client.read().status == 200
    assert weir.fetch(upstream.url()).body == upstream.body
    assert max(segment_bytes(connection.socket) for connection in upstream.connections) <= 32768


def test_what_fits_into_the_memory_is_not_lowered(start_weir, bare):
    bare.bound_memory(32 * MIB)
    config = {"connections": 20, "buffer_bytes": MIB,
              "limits": {"total": {"limit": 3}, "hosts_max": 10}}
    weir = start_weir(config, root=bare)
    assert limits_of(weir) == {"connections": 20, "limits.total.limit": 3, "limits.hosts_max": 10,
                               "buffer_bytes": MIB}
    assert not weir.events.find(event="memory_bounded")


def test_no_bound_on_memory(start_weir, bare):
    bare.bound_memory("max")
    weir = start_weir(root=bare)
    assert limits_of(weir)["buffer_bytes"] == 256 * MIB
    assert not weir.events.find(event="memory_bounded")


def test_requests_beyond_what_fits_wait_their_turn(start_weir, bare, upstream):
    bare.bound_memory(16 * MIB)
    weir = start_weir(limited(100), root=bare)
    most = limits_of(weir)["limits.total.limit"]
    upstream.body = b"x" * 5000
    count = limits_of(weir)["connections"] + 20  # some wait in the kernel
    clients = [weir.ask(upstream.url(f"/{number}")) for number in range(count)]
    for client in clients:
        answer = client.read()
        assert answer.status == 200 and answer.body == upstream.body
        client.close()
    assert upstream.peak_running <= most


def test_too_little_memory(bare):
    bare.bound_memory(8 * MIB)
    bare.write("/weir.json", json.dumps(ANY_PORTS))
    expect_refusal(run(bare.command("--config", "/weir.json")), "/sys/fs/cgroup/memory.max", "8192",
                   "16384 KiB")


@pytest.mark.parametrize("method,good", [("bcrypt", True), ("yescrypt", False)])
def test_memory_for_the_checks_of_passwords(start_weir, bare, method, good):
    bare.bound_memory(32 * MIB)
    bare.write("/clients", f"alice:{HASHES[method]}\n").chmod(0o600)
    config = {**ANY_PORTS, "auth": {"clients": "/clients"}}
    bare.write("/weir.json", json.dumps(config))
    if good:
        start_weir(config, root=bare)
    else:
        expect_refusal(run(bare.command("--config", "/weir.json")), "memory.max", "auth.clients")
        bare.bound_memory(64 * MIB)
        start_weir(config, root=bare)


# --- threads ---


def few_threads(root, count):
    """What bounds ROOT's binary to COUNT threads beside its own: it runs as nobody else does."""
    root.user = 70000 + os.getpid() % 100000
    return lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1 + count, 1 + count))


@pytest.mark.parametrize("count", [1, 3])
def test_few_threads_look_up_all_names(start_weir, bare, upstream, count):
    names = [f"name{number}.test" for number in range(20)]
    bare.write("/etc/hosts", "".join(f"127.0.0.1 {name}\n" for name in names))
    weir = start_weir(root=bare, prepare=few_threads(bare, count))
    assert weir.events.find(event="threads_lowered")[0]["threads"] == str(count)
    clients = [weir.ask(f"http://{name}:{upstream.port}/") for name in names]
    assert [client.read().status for client in clients] == [200] * len(names)


def test_no_thread_at_all(bare):
    bare.write("/weir.json", json.dumps(ANY_PORTS))
    prepare = few_threads(bare, 0)
    expect_refusal(run(bare.command("--config", "/weir.json"), prepare), "ulimit -u")


# --- open files ---


@pytest.mark.parametrize("count", [5, 6, 8, 16, 32])
def test_too_few_open_files(count):
    ran = run([BINARY, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], few_files(count))
    expect_refusal(ran, "ulimit -n", f"found {count}")


def test_64_open_files_serve_in_order(start_weir, held):
    weir = start_weir(limited(1), prepare=few_files(64))
    event = weir.events.wait(event="connections_lowered")
    assert int(event["connections"]) == weir.status()["connections"]["client_limit"] >= 8
    clients = in_order(weir, held, 6)
    for number, client in enumerate(clients):
        request = held.next()
        assert request.target == f"/{number}"
        request.answer()
        assert client.read().status == 200


def test_64_open_files_and_many_clients_that_keep_their_connections(start_weir, upstream):
    weir = start_weir(prepare=few_files(64))
    for number in range(60):
        answer = weir.ask(upstream.url(f"/{number}")).read()  # and stays
        assert answer.status == 200
    assert weir.client_connections() <= weir.status()["connections"]["client_limit"]


def test_64_open_files_and_crowds_at_both_ports(start_weir, held, new_upstream):
    weir = start_weir(limited(3), prepare=few_files(64))
    others = [new_upstream() for _ in range(3)]
    clients = in_order(weir, held, 3)
    running = held.take(3)
    admin_crowd = [Client(weir.admin) for _ in range(100)]
    data_crowd = [weir.client() for _ in range(100)]
    for request in running:
        request.answer(body=b"done")
    assert [client.read().body for client in clients] == [b"done"] * 3
    for client in data_crowd:
        client.close()
    for other in others:  # each needs one more connection
        assert weir.fetch(other.url()).status == 200
    for client in admin_crowd:
        client.close()


def cpu_s(weir):
    """The processor time that it has taken."""
    with open(f"/proc/{weir.process.pid}/stat", encoding="ascii") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def test_a_listener_that_has_to_wait_twice_takes_no_processor_time(start_weir):
    """First for open files, and then for one of the connections that another listener has taken."""
    weir = start_weir({"listen": ["127.0.0.1:0", "127.0.0.1:0"], "connections": 2,
                       "timeouts": {"head": "2s"}})
    one, other = [("127.0.0.1", int(event["address"].rpartition(":")[2]))
                  for event in weir.events.find(event="listening", **{"for": "data"})]
    pid = weir.process.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)

    def files():
        return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}

    idle = len(files())

    def both_wait():
        clients = [Client(other)]
        clients[0].send(b"GET ")
        wait_until(lambda: len(files()) == idle + 1, "the first is in, and nobody else")
        in_use = files()
        lowest = next(number for number in range(most) if number not in in_use)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, most))
        count = len(weir.events.find(event="accept_paused"))
        clients.append(Client(one))
        weir.events.wait(count + 1, event="accept_paused")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        clients.append(Client(other))
        clients[2].send(b"GET ")
        wait_until(lambda: weir.client_connections() == 2, "it is full")
        if waiting_at(one[1]) == 1 and waiting_at(other[1]) == 0:
            return clients
        for client in clients:  # the first listener was faster
            client.close()
        wait_until(lambda: len(files()) == idle, "all have left")
        return None

    clients = wait_until(both_wait, "one waits twice")
    before = cpu_s(weir)
    clients[0].wait_end()  # after the time that a head may take
    assert cpu_s(weir) - before < 0.5
    for client in clients:
        client.close()


def test_a_crowd_that_has_to_wait_takes_no_processor_time(start_weir, held):
    weir = start_weir(limited(1, queue_timeout="2s"), prepare=few_files(64))
    most = weir.status()["connections"]["client_limit"]
    clients = in_order(weir, held, 2)
    crowd = [weir.client() for _ in range(most + 50)]
    wait_until(lambda: weir.status()["connections"]["full_total"] == 1, "it is full")

    before = cpu_s(weir)
    assert clients[1].read().status == 503  # that is the clock
    assert cpu_s(weir) - before < 0.5
    held.next().answer()
    assert clients[0].read().status == 200
    for client in crowd:
        client.close()


# --- process 1 ---


def test_children_that_it_did_not_start_leave_no_zombies(start_weir):
    """As process 1 of a container it inherits others' children; here one from before its start."""
    told, tell = os.pipe()
    read_end, write_end = os.pipe()

    def prepare():
        child = os.fork()
        if child == 0:
            os.dup2(told, 0)
            os.closerange(1, 1024)  # subprocess waits until they are closed
            os.read(0, 1)
            os._exit(0)
        os.write(write_end, b"%d\n" % child)

    start_weir(prepare=prepare)
    child = int(os.read(read_end, 32))
    assert os.path.exists(f"/proc/{child}")
    os.close(tell)
    wait_until(lambda: not os.path.exists(f"/proc/{child}"), "it is reaped")
    for fd in (told, read_end, write_end):
        os.close(fd)
