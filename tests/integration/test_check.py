"""`weir check`: asks a running service, by the address that the service itself was told."""

import http.server
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

from waiting import DEADLINE_S, wait_until
from weir import BINARY, environment, run_weir

TOKEN = "0123456789abcdef-read"


def check(*arguments, env=None):
    return run_weir("check", *arguments, env=env)


def assert_good(ran, word="ready"):
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, word + "\n", "")


def assert_bad(ran, *parts, code=1):
    """It ended with CODE and one line on standard error that has PARTS in it."""
    assert ran.returncode == code and ran.stdout == "", ran
    assert ran.stderr.startswith("weir: check: ") and ran.stderr.count("\n") == 1, ran.stderr
    assert ran.stderr[:-1].isprintable()
    for part in parts:
        assert part in ran.stderr, ran.stderr


def address(weir):
    return f"127.0.0.1:{weir.admin[1]}"


def file_with(tmp_path, text):
    path = tmp_path / "check.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return str(path)


class Peer:
    """Listens, and answers each request with the same bytes; with none it stays silent."""

    def __init__(self, answer=b""):
        self.answer = answer
        self.seen = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.kept = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            data = b""
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65536)
                if not piece:
                    break
                data += piece
            self.seen.append(data)
            if self.answer:
                sock.sendall(self.answer)
                sock.close()
            else:
                self.kept.append(sock)

    def stop(self):
        self.listener.close()
        for sock in self.kept:
            sock.close()


@pytest.fixture
def peer():
    peers = []

    def start(*arguments):
        peers.append(Peer(*arguments))
        return peers[-1]

    yield start
    for one in peers:
        one.stop()


def answer(status, body="", *fields):
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *fields, "", body]
    return "\r\n".join(head).encode()


# --- Which service is asked ---

def test_flag_variable_file_and_default_say_where(shared_weir, tmp_path):
    good, dead = address(shared_weir), "127.0.0.1:1"
    good_file = file_with(tmp_path, {"admin": {"listen": good}})
    other = tmp_path / "other"
    other.mkdir()
    dead_file = file_with(other, {"admin": {"listen": dead}})
    assert_good(check("--admin", good))
    assert_good(check("--admin", dead, "--admin", good))
    assert_good(check("--admin", good, env={"WEIR_ADMIN": dead, "WEIR_CONFIG": dead_file}))
    assert_good(check(env={"WEIR_ADMIN": good, "WEIR_CONFIG": dead_file}))
    assert_good(check("--config", dead_file, env={"WEIR_ADMIN": good}))
    assert_good(check("--config", good_file))
    assert_good(check("--config", good_file, env={"WEIR_CONFIG": dead_file, "WEIR_ADMIN": ""}))
    assert_good(check(env={"WEIR_CONFIG": good_file}))
    assert_bad(check("--config", dead_file), "http://127.0.0.1:1/readyz: nobody listens there")
    assert_bad(check("--admin", good, "--admin", dead), "nobody listens there")


def test_the_flags_of_the_service_do(shared_weir):
    flags = ["--listen", "127.0.0.1:0", "--limit", "5", "--queue", "7", "--queue-timeout", "1s",
             "--allow-private", "--log-format", "none"]
    assert_good(check(*flags, "--admin", address(shared_weir)))


@pytest.mark.parametrize("listen,host", [("0.0.0.0", "127.0.0.1"), ("[::]", "::1"), ("[::1]", "::1")])
def test_a_listener_on_every_address_is_asked_on_this_machine(start_weir, listen, host):
    weir = start_weir({"admin": {"listen": f"{listen}:0"}})
    weir.admin = (host, weir.admin[1])
    assert_good(check("--admin", f"{listen}:{weir.admin[1]}"))
    shown = f"[{host}]" if ":" in host else host
    assert_bad(check("--admin", f"{listen}:1"), f"http://{shown}:1/readyz: nobody listens there")


def test_a_unix_socket_is_asked(start_weir, tmp_path):
    path = tmp_path / "admin.sock"
    config = {"admin": {"listen": f"unix:{path}"}}
    start_weir(config)
    assert_good(check(f"unix:{path}"))
    assert_good(check("--admin", f"unix:{path}"))
    assert_good(check("--config", file_with(tmp_path, config)))
    assert_bad(check(f"unix:{path}x"), f"unix:{path}x: nobody listens there")


@pytest.mark.parametrize("suffix", ["", "/", "/readyz", "/readyz?x", "?x"])
def test_a_url_says_where(shared_weir, suffix):
    assert_good(check(f"http://{address(shared_weir)}{suffix}", env={"WEIR_ADMIN": "127.0.0.1:1"}))


def test_a_url_may_have_another_path(shared_weir):
    url = f"http://{address(shared_weir)}"
    assert_good(check(url + "/healthz"), "ok")
    assert_good(check(url + "/status"), "answered 200")
    assert_bad(check(url + "/nothing"), f"{url}/nothing answered 404: no such route")


def test_names_resolve(shared_weir):
    assert_good(check(f"http://localhost:{shared_weir.admin[1]}"))
    assert_bad(check("http://weir.invalid:9901"), "http://weir.invalid:9901/readyz: ")


def test_readiness_asks_for_no_token(start_weir, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    weir = start_weir({"auth": {"admin": {"read": str(token)}}})
    weir.admin_headers = [("Authorization", f"Bearer {TOKEN}")]
    assert_good(check("--admin", address(weir)))
    assert_bad(check(f"http://{address(weir)}/status"), "answered 401: expected Authorization")


# --- What else is in the configuration does not matter ---

@pytest.mark.parametrize("rest", [
    '"auth": {"clients": "/nowhere/clients", "admin": {"read": "/nowhere/token"}}',
    '"tls": {"ca_file": "/nowhere/ca.pem"}',
    '"upstreams": {"a": {"url": "https://a.test", "headers": {"A": {"file": "/nowhere/secret"}}}}',
    '"limits": {"default": {"limit": "three"}}, "unknown": 1',
])
def test_other_parts_of_the_file_are_not_looked_at(shared_weir, tmp_path, rest):
    path = file_with(tmp_path, '{"admin": {"listen": "%s", "more": 1}, %s}' % (address(shared_weir), rest))
    assert run_weir("--config", path, "--check-config").returncode == 1
    assert_good(check("--config", path))


def test_other_variables_are_not_looked_at(shared_weir):
    env = {"WEIR_ADMIN": address(shared_weir), "WEIR_LIMIT": "three", "WEIR_LISTEN": "x"}
    assert_good(check(env=env))


def test_a_file_is_not_read_where_the_address_is_known(shared_weir):
    assert_good(check("--config", "/nowhere", "--admin", address(shared_weir)))
    assert_good(check("--config", "/nowhere", f"http://{address(shared_weir)}"))
    assert_good(check(env={"WEIR_CONFIG": "/nowhere", "WEIR_ADMIN": address(shared_weir)}))


@pytest.mark.parametrize("text,message", [
    ("{", "check.json:1: expected JSON"),
    ('{\n"admin": {"listen": 9901}}', "check.json:2: admin.listen: expected an address and port"),
    ('{"admin": {"listen": "127.0.0.1"}}', 'check.json:1: admin.listen: expected an address and port'),
])
def test_a_file_that_does_not_say_where(tmp_path, text, message):
    assert_bad(check("--config", file_with(tmp_path, text)), message)


def test_a_file_that_is_not_there():
    assert_bad(check("--config", "/nowhere/weir.json"), "/nowhere/weir.json: expected a file")
    assert_bad(check(env={"WEIR_ADMIN": "x"}), "WEIR_ADMIN: expected an address and port")


def test_a_port_that_only_the_service_knows():
    assert_bad(check("--admin", "127.0.0.1:0"), "127.0.0.1:0", "only the service knows")


# --- What it says ---

def test_a_drain_is_not_ready(start_weir, held):
    weir = start_weir()
    request = weir.ask(held.url())
    taken = held.next()
    weir.signal(signal.SIGTERM)
    wait_until(lambda: weir.admin_fetch("/readyz").status == 503, "it drains")
    assert_bad(check("--admin", address(weir)), f"http://{address(weir)}/readyz answered 503: draining\n")
    assert_good(check(f"http://{address(weir)}/healthz"), "ok")
    taken.answer()
    assert request.read().status == 200
    assert weir.wait_exit() == 0
    assert_bad(check("--admin", address(weir)), "nobody listens there")


@pytest.mark.parametrize("arguments", [
    ["https://127.0.0.1:9901"], ["ftp://127.0.0.1/"], ["127.0.0.1:9901"], ["file:///etc/passwd"], [""],
    ["http://"], ["http://u:p@127.0.0.1:9901/"], ["http://127.0.0.1:99999"], ["unix:relative"], ["unix:/" + "x" * 108],
    ["http://127.0.0.1:1", "http://127.0.0.1:2"], ["http://127.0.0.1:1", "--admin", "127.0.0.1:2"],
    ["--nix"], ["--admin"], ["--admin", "x"], ["--limit", "x"], ["--check-config"], ["check"],
    ["http://127.0.0.1:9901/\n\x1b[31m"],
])
def test_a_bad_command_line(arguments):
    assert_bad(check(*arguments), "expected", code=2)


def test_check_is_only_the_first_word():
    ran = run_weir("--limit", "3", "check")
    assert ran.returncode == 2 and 'found "check"' in ran.stderr


def test_help_names_it():
    for arguments in (["--help"], ["check", "--help"]):
        ran = run_weir(*arguments)
        assert ran.returncode == 0 and "weir check [flags] [URL]" in ran.stdout
    assert check("--version").stdout == run_weir("--version").stdout


def test_it_says_what_a_stranger_answered(peer):
    assert_bad(check(peer(answer(503)).url), "/readyz answered 503\n")
    assert_bad(check(peer(answer(500, '{"status": "a\\nb\\u001b"}')).url), "answered 500: a?b?\n")
    assert_bad(check(peer(answer(500, '{"status": [1]}')).url), "answered 500\n")
    assert_bad(check(peer(answer(404, '{"status": 404, "detail": "no such thing"}')).url),
               "answered 404: no such thing\n")
    assert_good(check(peer(answer(200, "x" * 100_000)).url), "answered 200")
    assert_bad(check(peer(b"\x00\x01garbage\r\n\r\n").url), "/readyz: ")
    assert_bad(check(peer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").url), "/readyz: ")


def test_a_stranger_writes_no_lines_of_its_own(peer):
    body = json.dumps({"status": "ready\n\x1b[2Jnot"}).encode()
    stranger = peer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert_good(check(stranger.url), "ready??[2Jnot")


def test_one_that_speaks_something_else(peer):
    assert_bad(check(peer(b"220 mail.example.com ESMTP\r\n").url), "does not speak HTTP")


def test_it_does_not_follow(peer):
    target = peer(answer(200))
    for status in (301, 302, 307):
        asked = peer(answer(status, "", f"Location: {target.url}/readyz"))
        assert_bad(check(asked.url), f"answered {status}\n")
    assert target.seen == []


def test_proxies_of_the_environment_are_not_used(shared_weir, peer):
    proxy = peer(answer(502))
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    env = {**{name: proxy.url for name in names}, "no_proxy": ""}
    assert_good(check("--admin", address(shared_weir), env=env))
    assert_good(check(f"http://{address(shared_weir)}", env=env))
    assert proxy.seen == []


def test_it_asks_once_and_waits_no_longer_than_a_moment(peer):
    silent = peer()
    assert_bad(check(silent.url), f"{silent.url}/readyz: no answer within 2 seconds\n")
    assert len(silent.seen) == 1
    head = silent.seen[0].decode()
    assert head.startswith("GET /readyz HTTP/1.1\r\n") and "Authorization" not in head


def test_one_that_answers_for_ever_is_no_answer():
    """Bytes that keep coming do not lengthen the wait: time counts, not silence."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # pylint: disable=invalid-name
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 1000)
            except OSError:
                pass

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert_bad(check("http://127.0.0.1:%d" % server.server_port), "no answer within 2 seconds")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_nobody_needs_to_listen_to_it(shared_weir, closed):
    def close_some():
        for number in closed:
            os.close(number)

    ran = subprocess.run([BINARY, "check", "--admin", address(shared_weir)], env=environment(),
                         preexec_fn=close_some, timeout=DEADLINE_S, check=False)
    assert ran.returncode == 0
    ran = subprocess.run([BINARY, "check", "--admin", "127.0.0.1:1"], env=environment(),
                         preexec_fn=close_some, timeout=DEADLINE_S, check=False)
    assert ran.returncode == 1


def test_a_reader_that_has_left_changes_nothing(shared_weir):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run([BINARY, "check", "--admin", address(shared_weir)], env=environment(),
                             stdout=writing, timeout=DEADLINE_S, check=False)
    finally:
        os.close(writing)
    assert ran.returncode == 0
