"""The image at work: settings, fetches, health, signals, its duties as process 1, and mounts that are
not good."""

import json
import os
import signal

import pytest

from container import CONFIG, mounted, run_image
from nameserver import Nameserver
from pki import Authority, server_context
from plain import PlainUpstream, echo, open_tunnel
from podman import podman
from waiting import wait_until

ROOTS = "/etc/ssl/certs/ca-certificates.crt"


def listening(container):
    return {event["for"]: event["address"] for event in container.events.find(event="listening")}


def health(container, image):
    """What the image's own health check says."""
    _, *command = image["Healthcheck"]["Test"]
    return container.exec(*command, check=False)


def one_line(done, *words):
    """Whether a run has ended as a bad configuration does: 1, and one line that says why."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # events
    assert done.returncode == 1 and len(lines) == 1 and not done.stdout, (done.returncode, lines)
    assert all(word in lines[0] for word in words), lines[0]
    return True


# What it starts with.

def test_it_starts_without_any_setting_and_has_no_rights(start):
    container = start(variables={})
    assert listening(container) == {"data": "127.0.0.1:8080", "admin": "127.0.0.1:9901"}
    status = container.kernel_says()
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65532"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    with open(f"/proc/{container.pid()}/mounts", encoding="ascii") as mounts:
        (options,) = [line.split()[3] for line in mounts if line.split()[1] == "/"]
    assert "ro" in options.split(",")


def test_variables_set_it(start):
    container = start(variables={"WEIR_LISTEN": "0.0.0.0:8080", "WEIR_LIMIT": "7"})
    assert listening(container)["data"] == "0.0.0.0:8080"
    assert container.events.find(event="open_to_all")


def test_arguments_set_it(start, new_upstream):
    container = start("--limit", "2")
    upstream = new_upstream()
    assert container.fetch(upstream.url()).status == 200
    assert container.host(upstream.host)["limit"] == 2


def test_a_mounted_file_sets_it_and_is_read_again(start, new_upstream):
    upstream = new_upstream()
    container = start(config={"limits": {"default": {"limit": 5}}})
    assert container.fetch(upstream.url()).status == 200
    assert container.host(upstream.host)["limit"] == 5
    container.reload({"limits": {"default": {"limit": 6}}})
    assert container.host(upstream.host)["limit"] == 6


# What it does.

@pytest.mark.parametrize("form", ["fetch", "forward"])
def test_it_fetches_and_says_so(start, new_upstream, form):
    upstream = new_upstream()
    container = start()
    answer = container.fetch(upstream.url("/path"), form)
    assert (answer.status, answer.body) == (200, b"hello")
    (host,) = [host for host in container.status()["hosts"] if host["host"] == upstream.host]
    assert host["completed_total"] == 1
    container.log.wait(outcome="ok", path="/path")
    wait_until(lambda: "/path" in podman("logs", container.name).stdout, "the engine has the line")
    for line in podman("logs", container.name).stdout.splitlines():
        assert json.loads(line)["form"] == form


def test_it_tunnels(start):
    container = start(variables={"WEIR_ALLOW_PRIVATE": "true"})
    upstream = PlainUpstream()
    try:
        client = open_tunnel(container, upstream.host)
        echo(client, upstream.take())
    finally:
        container.close_clients()
        upstream.stop()


def test_it_believes_the_roots_of_the_image_alone(start, new_upstream, tmp_path):
    authority = Authority(tmp_path)
    upstream = new_upstream(tls=server_context(authority.issue("server")))
    answer = start().fetch(upstream.url(scheme="https"))
    assert answer.status == 502 and "tls_certificate_error" in answer.get("Proxy-Status"), answer


def test_other_roots_can_be_mounted(start, new_upstream, tmp_path):
    authority = Authority(tmp_path)
    upstream = new_upstream(tls=server_context(authority.issue("server")))
    os.chmod(authority.file, 0o644)
    container = start(options=[mounted(authority.file, ROOTS)])
    assert container.fetch(upstream.url(scheme="https")).body == b"hello"


def test_names_are_looked_up_in_hosts_before_dns(start, new_upstream):
    upstream = new_upstream()
    names = Nameserver("127.0.0.53")
    names.names = {"both.test": ["127.0.0.9"], "dns.test": ["127.0.0.1"]}
    try:
        container = start(options=["--add-host", "both.test:127.0.0.1", "--dns", names.address])
        assert container.fetch(upstream.url(name="both.test")).status == 200
        assert container.fetch(upstream.url(name="dns.test")).status == 200
        assert "both.test" not in names.asked and "dns.test" in names.asked
    finally:
        names.stop()


def test_it_lives_within_a_small_memory(start, new_upstream):
    """More clients, and more for them, than fit: it says no to some, and the kernel kills nobody."""
    upstream = new_upstream()
    upstream.body = b"x" * 2_000_000
    container = start("--limit", "500", options=["--memory", "32m"])
    clients = [container.ask(upstream.url(f"/{number}")) for number in range(300)]
    for client in clients:
        answer = client.read()
        assert answer is not None and answer.complete and answer.status in (200, 503), answer
        assert answer.status == 503 or answer.body == upstream.body
        client.close()
    assert container.fetch(upstream.url()).status == 200
    assert container.inspect()["State"]["OOMKilled"] is False


# Health, signals, process 1.

def test_the_health_check_says_ready(start, image):
    container = start()
    done = health(container, image)
    assert done.returncode == 0, done.stderr
    assert container.exec("weir", "check").stdout == done.stdout == "ready\n"  # by its name, too


@pytest.mark.parametrize("variables", [{"WEIR_ADMIN": "0.0.0.0:9902"}, {"WEIR_ADMIN": "[::1]:9903"}])
def test_the_health_check_finds_the_admin_port(start, image, variables):
    assert health(start(variables=variables), image).returncode == 0


def test_sigterm_drains_and_loses_nothing(start, new_upstream, image):
    upstream = new_upstream()
    upstream.hold = True
    container = start()
    client = container.ask(upstream.url())
    request = upstream.next()
    container.signal(signal.SIGTERM)
    container.events.wait(event="draining")
    done = health(container, image)
    assert done.returncode == 1 and "draining" in done.stderr, done
    request.answer(body=b"in time")
    answer = client.read()
    assert answer.complete and (answer.status, answer.body) == (200, b"in time")
    assert container.wait_exit() == 0
    state = container.inspect()["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_podman_stop_ends_it_without_a_kill(start):
    container = start()
    container.told_to_end = True
    podman("stop", "--time", "20", container.name)
    assert container.wait_exit() == 0
    container.events.wait(event="stopped", how="drained")


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def test_as_process_1_it_reaps_orphans(start, shell):
    container = start(options=[mounted(shell, "/tmp-shell")])
    pid = container.pid()
    # The inner shell outlives the outer one, and stops itself until the test has seen it.
    container.exec("/tmp-shell", "-c", "/tmp-shell -c 'kill -STOP $$' &")
    (orphan,) = wait_until(lambda: children_of(pid), "the orphan is Weir's")
    os.kill(orphan, signal.SIGCONT)
    wait_until(lambda: not os.path.exists(f"/proc/{orphan}"), "the orphan is reaped")


# What cannot work ends with one line.

@pytest.fixture
def folder(tmp_path):
    """A directory that the image's user may read."""
    tmp_path.chmod(0o755)
    return tmp_path


def test_a_missing_configuration(folder):
    assert one_line(run_image(options=[mounted(folder, "/etc/weir")]), CONFIG, "No such file")


def test_a_configuration_that_is_a_directory(folder):
    (folder / "weir.json").mkdir()
    assert one_line(run_image(options=[mounted(folder, "/etc/weir")]), CONFIG, "directory")


def test_a_configuration_that_its_user_may_not_read(folder):
    file = folder / "weir.json"
    file.write_text("{}")
    file.chmod(0o600)
    assert one_line(run_image(options=[mounted(file, CONFIG)]), CONFIG, "Permission denied")


def test_a_mistake_in_the_configuration(folder):
    file = folder / "weir.json"
    file.write_text('{"limits": {"default": {"limit": "many"}}}')
    assert one_line(run_image(options=[mounted(file, CONFIG)]), CONFIG, "limits.default.limit")


def test_a_port_in_use(start):
    start()
    assert one_line(run_image(), "127.0.0.1:8080", "in use")
