"""Starting, draining, ending; the log; and running out of things."""

import os
import resource
import signal
import socket
import subprocess
import threading

import pytest

from client import Client, target_for
from nameserver import Nameserver
from needs import needs_names, needs_nameserver
from waiting import DEADLINE_S, wait_asleep, wait_until
from weir import BINARY, in_order, limited, run_weir

NAMESERVER = "127.0.53.3"
LOG_KEYS = {"time", "id", "client", "form", "method", "host", "path", "status", "bytes_in", "bytes_out",
            "queue_ms", "fetch_ms", "ahead", "outcome"}


def drain(weir):
    weir.signal(signal.SIGTERM)
    wait_until(lambda: weir.admin_fetch("/readyz").status == 503, "it drains")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_ends_at_once(weir, upstream, number):
    assert weir.fetch(upstream.url()).status == 200
    weir.client()  # a connection that never asks
    kept = weir.ask(upstream.url())
    assert kept.read().status == 200
    weir.signal(number)
    assert weir.wait_exit() == 0


def test_a_drain_finishes_what_runs_and_waits(start_weir, held):
    weir = start_weir(limited(1))
    clients = in_order(weir, held, 3)
    drain(weir)
    assert weir.status()["state"] == "draining"
    assert weir.admin_fetch("/healthz").status == 200
    for number in range(3):
        request = held.next()
        assert request.target == f"/{number}"
        request.answer()
    for client in clients:
        answer = client.read()
        assert answer.status == 200 and answer.body == b""
        client.wait_end()
    assert weir.wait_exit() == 0
    assert [line["outcome"] for line in weir.log.wait(3)] == ["ok"] * 3


def test_a_drain_refuses_new_requests(weir, held, upstream):
    kept = weir.ask(upstream.url())
    assert kept.read().status == 200
    clients = in_order(weir, held, 1)
    running_kept = weir.client()
    running_kept.ask("GET", held.url("/kept"))
    held.next()
    request = held.next()
    drain(weir)
    answer = weir.fetch(upstream.url("/new"))
    assert answer.status == 503
    assert answer.get("Connection") == "close"
    assert "destination_unavailable" in answer.get("Proxy-Status")
    assert weir.log.wait(outcome="draining")["path"] == "/new"
    kept.ask("GET", target_for(upstream.url("/new"), "fetch"))
    answer = kept.read()
    assert answer is None or (answer.status, answer.get("Connection")) == (503, "close")
    request.answer()
    assert running_kept.read().get("Connection") == "close"
    assert "/new" not in upstream.targets()
    clients[0].close()
    assert weir.wait_exit() == 0


def test_a_drain_that_takes_too_long_ends_with_3(start_weir, held):
    weir = start_weir({**limited(1), "timeouts": {"drain": "300ms"}})
    clients = in_order(weir, held, 3)
    weir.signal(signal.SIGTERM)
    weir.expected_exit = 3
    assert weir.wait_exit() == 3
    for client in clients:
        answer = client.read()
        assert answer is None or answer.status >= 500 or not answer.complete


@needs_names
@needs_nameserver(NAMESERVER)
def test_what_a_drain_cuts_off_is_logged_also_while_a_name_is_looked_up(start_weir, held):
    """Nothing can interrupt a look-up, and an end that waited for it would come late."""
    nameserver = Nameserver(NAMESERVER)
    gate = threading.Event()
    nameserver.names["slow.test"] = lambda asked: gate.wait(DEADLINE_S) and []
    try:
        weir = start_weir({"timeouts": {"drain": "300ms"}}, nameserver=NAMESERVER)
        tunnel = weir.client().ask("CONNECT", held.host)
        assert tunnel.read_head().status == 200
        weir.ask("http://slow.test/")
        weir.ask(held.url("/held"))
        held.next()
        weir.wait_host("slow.test", active=1)
        weir.signal(signal.SIGTERM)
        weir.expected_exit = 3
        assert weir.wait_exit() == 3
    finally:
        gate.set()
        nameserver.stop()
    weir.log.thread.join(DEADLINE_S)
    forms = [line["form"] for line in weir.log.find(outcome="draining")]
    assert sorted(forms) == ["connect", "fetch", "fetch"]


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: a", b"CONNECT a:443 HTTP/1.1\r\n"])
def test_a_drain_does_not_wait_for_half_a_request(start_weir, data):
    weir = start_weir({"timeouts": {"drain": "1h", "head": "1h"}})
    client = weir.client()
    client.send(data)
    wait_until(lambda: weir.client_connections() == 1, "it is there")
    weir.signal(signal.SIGTERM)
    assert weir.wait_exit() == 0
    assert client.read_all() == b""


def test_a_second_signal_ends_at_once(start_weir, held):
    weir = start_weir({**limited(1), "timeouts": {"drain": "1h"}})
    in_order(weir, held, 3)
    drain(weir)
    weir.signal(signal.SIGTERM)
    weir.expected_exit = 3
    assert weir.wait_exit() == 3


def test_a_reload_while_draining_does_no_harm(start_weir, held):
    weir = start_weir(limited(1))
    clients = in_order(weir, held, 2)
    drain(weir)
    weir.signal(signal.SIGHUP)
    assert weir.admin_fetch("/readyz").status == 503
    for _ in clients:
        held.next().answer()
    assert [client.read().status for client in clients] == [200, 200]
    assert weir.wait_exit() == 0


def test_sigpipe_is_ignored(weir, upstream):
    weir.signal(signal.SIGPIPE)
    assert weir.fetch(upstream.url()).status == 200


def test_version():
    ran = run_weir("--version")
    assert ran.returncode == 0 and ran.stdout.startswith("weir ") and ran.stdout.count("\n") == 1


def test_help_names_every_flag_of_daily_use():
    ran = run_weir("--help")
    assert ran.returncode == 0 and ran.stderr == ""
    for flag in ("--listen", "--admin", "--limit", "--queue", "--queue-timeout", "--config",
                 "--check-config", "--allow-private", "--version", "--help"):
        assert flag in ran.stdout


def test_check_config_of_a_good_file(tmp_path):
    file = tmp_path / "weir.json"
    file.write_text('{"limits": {"default": {"limit": 5}}}')
    ran = run_weir("--config", str(file), "--check-config")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("text,line,words", [
    ('{\n "limits": {\n  "default": {\n   "limit": "three"}}}', 4, ["limits.default.limit", "three"]),
    ('{\n "limits": {"default": {"limit": 0}}}', 2, ["limits.default.limit"]),
    ('{\n\n "limit": 3}', 3, ["limit"]),
    ('{"timeouts": {"connect": "soon"}}', 1, ["timeouts.connect", "soon"]),
    ('{\n', 2, []),
    ('{"listen": "127.0.0.1:70000"}', 1, ["listen"]),
    ('{"overflow_status": 500}', 1, ["overflow_status"]),
])
def test_check_config_of_a_bad_file_says_where_and_what(tmp_path, text, line, words):
    file = tmp_path / "weir.json"
    file.write_text(text)
    for flags in (["--check-config"], []):
        ran = run_weir("--config", str(file), *flags)
        assert ran.returncode == 1
        assert ran.stderr.count("\n") == 1
        assert f"weir.json:{line}" in ran.stderr
        for word in words:
            assert word in ran.stderr


def test_a_configuration_that_is_not_there_exits_1(tmp_path):
    ran = run_weir("--config", str(tmp_path / "none.json"))
    assert ran.returncode == 1 and "none.json" in ran.stderr and ran.stderr.count("\n") == 1


@pytest.mark.parametrize("flags", [["--nonsense"], ["--limit"], ["--limit", "none"], ["word"],
                                   ["--limit", "0"], ["--queue-timeout", "soon"]])
def test_a_bad_command_line_exits_2(flags):
    ran = run_weir(*flags)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and ran.stdout == ""


def test_a_bad_environment_exits_1():
    ran = run_weir(env={"WEIR_LIMIT": "none"})
    assert ran.returncode == 1 and "WEIR_LIMIT" in ran.stderr and ran.stderr.count("\n") == 1


@pytest.mark.parametrize("purpose", ["data", "admin"])
def test_a_port_in_use_exits_1_with_one_line(purpose):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        listen, admin = ((address, "127.0.0.1:0") if purpose == "data" else ("127.0.0.1:0", address))
        ran = run_weir("--listen", listen, "--admin", admin)
    assert ran.returncode == 1
    assert address in ran.stderr
    assert sum("error" in line.lower() or address in line for line in ran.stderr.splitlines()) == 1
    assert ran.stdout == ""


def test_a_flag_beats_the_environment_and_that_the_file(start_weir, upstream):
    for how, limit in (({}, 5), ({"env": {"WEIR_LIMIT": "6"}}, 6),
                       ({"env": {"WEIR_LIMIT": "6"}, "flags": ["--limit", "7"]}, 7)):
        weir = start_weir(limited(5), **how)
        weir.fetch(upstream.url())
        assert weir.host(upstream.host)["limit"] == limit


def test_a_flag_limits_one_host(start_weir, upstream):
    weir = start_weir(flags=["--limit", f"{upstream.host}=2"])
    weir.fetch(upstream.url())
    assert weir.host(upstream.host)["limit"] == 2


def test_it_listens_on_several_addresses(start_weir, upstream):
    weir = start_weir({"listen": ["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]})
    addresses = [event["address"] for event in weir.events.wait(3, event="listening", **{"for": "data"})]
    assert len(set(addresses)) == 3
    for address in addresses:
        host, _, port = address.rpartition(":")
        client = Client((host.strip("[]"), int(port)))
        assert client.ask("GET", upstream.url()).read().status == 200
        client.close()


def test_each_request_has_one_line_in_the_log(weir, upstream, new_upstream):
    refused = new_upstream()
    refused.close_listener()
    answers = [
        weir.fetch(upstream.url("/a?secret=1"), method="POST", body=b"12345"),
        weir.fetch(upstream.url("/b?secret=1"), form="forward"),
        weir.fetch(refused.url("/c")),
        weir.client().ask("GET", "/nothing").read(),
        weir.fetch("ftp://a/"),
    ]
    lines = weir.log.wait(5)
    assert all(set(line) >= LOG_KEYS - {"host", "path"} for line in lines)
    by_id = {line["id"]: line for line in lines}
    lines = [by_id[answer.get("X-Request-Id")] for answer in answers]
    assert [line["status"] for line in lines] == [200, 200, 502, 404, 400]
    assert [line["form"] for line in lines] == ["fetch", "forward", "fetch", "none", "none"]
    assert [line["outcome"] for line in lines] == ["ok", "ok", "connection_refused", "not_found", "bad_target"]
    assert [line["method"] for line in lines] == ["POST", "GET", "GET", "GET", "GET"]
    assert [line.get("host") for line in lines[:3]] == [upstream.host, upstream.host, refused.host]
    assert [line["path"] for line in lines[:3]] == ["/a", "/b", "/c"]
    assert (lines[0]["bytes_in"], lines[0]["bytes_out"]) == (5, 5)
    assert lines[1]["bytes_in"] == 0 and lines[1]["ahead"] == 0 and lines[1]["queue_ms"] >= 0
    assert lines[0]["client"].startswith("127.0.0.1:")
    assert "secret" not in "".join(weir.log.text)
    assert set(lines[0]) >= LOG_KEYS
    weir.close_clients()
    weir.stop()
    assert len(weir.log.records()) == 5


def test_odd_bytes_in_a_request_leave_the_log_json(weir, upstream):
    weir.fetch(upstream.url('/"\\\xe9%0a'), form="forward", method="X'Y", headers=[("X-Request-Id", 'a"b\\')])
    line = weir.log.wait(id='a"b\\')
    assert line["method"] == "X'Y"
    weir.log.records()


def test_the_log_may_be_off(start_weir, upstream):
    weir = start_weir({"log": {"access": "none"}})
    assert weir.fetch(upstream.url()).status == 200
    weir.stop()
    assert weir.log.text == []


def test_a_log_that_nobody_reads_any_more_does_no_harm(tmp_path, upstream):
    process = subprocess.Popen([BINARY, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                                "--allow-private"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.stdout.close()
        events = []
        while not events or '"ready"' not in events[-1]:
            events.append(process.stderr.readline().decode())
            assert events[-1], events
        port = next(event for event in events if '"data"' in event).split("127.0.0.1:")[1].split('"')[0]
        threading.Thread(target=process.stderr.read, daemon=True).start()
        for _ in range(20):
            client = Client(("127.0.0.1", int(port)))
            assert client.ask("GET", upstream.url()).read().status == 200
            client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one(start_weir):
    def prepare():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 3000))

    weir = start_weir(prepare=prepare)
    assert resource.prlimit(weir.process.pid, resource.RLIMIT_NOFILE) == (3000, 3000)


def test_out_of_descriptors_running_requests_finish_and_service_goes_on(start_weir, held):
    weir = start_weir()
    clients = in_order(weir, held, 3)
    weir.wait_host(held.host, active=3)
    in_use = len(os.listdir(f"/proc/{weir.process.pid}/fd"))
    resource.prlimit(weir.process.pid, resource.RLIMIT_NOFILE, (in_use + 5, in_use + 5))
    crowd = [weir.client() for _ in range(40)]
    weir.events.wait(event="accept_paused")
    for request in held.take(3):
        request.answer(body=b"done")
    assert [client.read().body for client in clients] == [b"done"] * 3
    assert len(weir.events.find(event="accept_paused")) == 1
    for client in crowd + clients:
        client.close()
    client = weir.ask(held.url("/after"))
    held.next().answer()
    assert client.read().status == 200
    assert len(weir.events.find(event="accept_paused")) == 1


def test_few_descriptors_from_the_start_still_serve_or_say_so(upstream, tmp_path):
    def prepare():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    ran = subprocess.run([BINARY, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
                         capture_output=True, text=True, timeout=DEADLINE_S, preexec_fn=prepare,
                         check=False)
    assert ran.returncode == 1 and ran.stderr.strip()


def test_a_request_after_a_long_rest_is_answered(start_weir, upstream):
    """Nothing has happened for longer than timeouts.head, and the request comes with its connection."""
    weir = start_weir({"timeouts": {"head": "200ms"}})
    for _ in range(3):
        wait_asleep(weir)
        os.kill(weir.process.pid, signal.SIGSTOP)
        client = weir.ask(upstream.url())
        os.kill(weir.process.pid, signal.SIGCONT)
        assert client.read().status == 200
