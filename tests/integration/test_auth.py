"""Who may use it: credentials of clients, tokens of the admin port, sockets in the file system."""

import base64
import http.client
import os
import signal
import socket
import stat
import subprocess
import threading

import pytest

from client import FORMS, Client, chunk, fetch_target
from waiting import DEADLINE_S, wait_until
from weir import BINARY, environment, limited, run_weir

# crypt(5): wonderland, hunter2, sec:ret
ALICE = ("alice:$6$rounds=1000$abcdefgh$T4IxfLekGaBeQnTAwBiF44khEyJ0Me902qgy/TUTljtDBGek0yXtln/VLwcluRKT"
         "Xc0yr5n2UBkCl7H2BREdh0")
BOB = "bob:$5$rounds=1000$qwertyui$mBpP5Xd44yKDJ9o0bcZFN.1VO8R.cts3BOVbkPAxn4."
CI = "ci:$2b$04$abcdefghijklmnopqrstuuwoxBKLAPTpYmOCraVPmN0lNh6KVWefO"
# hunter2 too, but slow: long enough for a client to leave meanwhile
SLOW = ("slow:$6$rounds=9000000$abcdefgh$"
        "tG9PLEvBQbN2KBBL7rbzXhYAGUiDmYSY/rqfHOoTyEH9gAxWrzdYlqSRq2xYZXFPcuYXa4ZVWjEwRERiLs9AQ/")
READ, OPERATE = "reader-0123456789abcdef", "operator-0123456789abcdef"


def basic(name, password):
    return ("Proxy-Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())


GOOD = basic("alice", "wonderland")


def secret_file(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def clients_file(tmp_path):
    return secret_file(tmp_path / "clients", f"# clients\n{ALICE}\n{BOB}\n\n{CI}\n")


@pytest.fixture
def start(start_weir, clients_file):
    def run(config=None, **how):
        return start_weir({"auth": {"clients": clients_file}, **(config or {})}, **how)
    return run


@pytest.fixture(scope="module")
def module_weir(shared, tmp_path_factory):
    path = tmp_path_factory.mktemp("auth") / "clients"
    return shared.get({"auth": {"clients": secret_file(path, f"{ALICE}\n{BOB}\n{CI}\n")}})


@pytest.fixture
def weir(shared, module_weir):
    yield module_weir
    module_weir.wait_idle()


def curl(*arguments, data=None):
    ran = subprocess.run(["curl", "-sS", "--max-time", str(DEADLINE_S), *arguments], input=data,
                         capture_output=True, env=environment(), check=False)
    return ran.returncode, ran.stdout, ran.stderr.decode()


def proxy(weir):
    return f"http://127.0.0.1:{weir.data[1]}"


def expect_407(answer):
    assert answer.status == 407
    assert answer.get("Proxy-Authenticate") == 'Basic realm="weir"'
    assert answer.get("Content-Type") == "application/problem+json"
    assert b'"type": "urn:weir:problem:auth_required"' in answer.body
    assert "error=http_request_denied" in answer.get("Proxy-Status")
    assert answer.complete


# --- Credentials of clients ---

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("field", [
    basic("alice", "wonderland"), basic("bob", "hunter2"), basic("ci", "sec:ret"),
    ("proxy-authorization", "bASIC   " + base64.b64encode(b"bob:hunter2").decode()),
    ("Weir-Token", "alice:wonderland"), ("Weir-Token", "ci:sec:ret")])
def test_good_credentials(weir, upstream, form, field):
    answer = weir.fetch(upstream.url(), form=form, headers=[field])
    assert (answer.status, answer.body) == (200, b"hello")
    fields = [name.lower() for name, _ in upstream.next().headers]
    assert not {"proxy-authorization", "weir-token"} & set(fields)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fields", [
    [], [basic("alice", "Wonderland")], [basic("alice", "")], [basic("carol", "wonderland")],
    [basic("", "wonderland")], [basic("alice", "wonderland\n")],
    [("Authorization", basic("alice", "wonderland")[1])],
    [("Proxy-Authorization", "Basic")], [("Proxy-Authorization", "Basic !!!!")],
    [("Proxy-Authorization", "Basic YWxpY2U6d29uZGVybGFuZ")],
    [("Proxy-Authorization", "Basic YWxpY2U=")], [("Proxy-Authorization", "Basic YTo\0")],
    [("Proxy-Authorization", "Bearer " + basic("alice", "wonderland")[1][6:])],
    [("Proxy-Authorization", 'Digest username="alice"')],
    [basic("alice", "x" * 4000)], [basic("x" * 4000, "y")], [basic("alice\0", "wonderland")],
    [("Weir-Token", "wonderland")], [("Weir-Token", "")], [("Weir-Token", "alice:wonderlan")]])
def test_no_good_credentials(weir, upstream, form, fields):
    if any("\0" in value for _, value in fields):
        fields = [(name, value.replace("\0", "")) for name, value in fields]
    expect_407(weir.fetch(upstream.url(), form=form, headers=fields))
    assert upstream.targets() == []


@pytest.mark.parametrize("fields", [[GOOD, GOOD], [GOOD, basic("x", "y")],
                                    [GOOD, ("Weir-Token", "alice:wonderland")],
                                    [("Weir-Token", "alice:wonderland")] * 2])
def test_two_fields_are_a_bad_request(weir, upstream, fields):
    answer = weir.fetch(upstream.url(), headers=fields)
    assert answer.status == 400 and b"once" in answer.body
    assert answer.get("Proxy-Authenticate") is None
    assert upstream.targets() == []


def test_a_connection_stays_open_for_the_next_try(weir, upstream):
    client = weir.client()
    client.ask("GET", fetch_target(upstream.url()))
    expect_407(client.read())
    client.ask("GET", fetch_target(upstream.url()), [basic("alice", "no")])
    expect_407(client.read())
    client.ask("GET", fetch_target(upstream.url()), [GOOD])
    assert client.read().status == 200
    client.ask("GET", fetch_target(upstream.url()))  # each request shows them, not the connection
    expect_407(client.read())


def test_it_does_not_wait_for_the_body(weir, upstream):
    for head in ([("Content-Length", "1000000")], [("Transfer-Encoding", "chunked")],
                 [("Content-Length", "5"), ("Expect", "100-continue")]):
        client = weir.client()
        client.ask("POST", fetch_target(upstream.url()), head)
        answer = client.read()
        expect_407(answer)
        assert answer.interim == [] and answer.get("Connection") == "close"
        client.wait_end()
    assert upstream.targets() == []


def test_the_answer_survives_a_client_that_goes_on_sending(weir, upstream):
    for _ in range(20):
        client = weir.client()
        client.ask("POST", fetch_target(upstream.url()), [("Transfer-Encoding", "chunked")])
        for _ in range(8):
            client.send(chunk(b"x" * 60000))
        expect_407(client.read())
        client.close()


def test_the_body_comes_after_the_check(start, upstream):
    weir = start()
    answer = weir.fetch(upstream.url(), method="POST", headers=[GOOD], body=b"x" * 300000)
    assert answer.status == 200
    request = upstream.next()
    assert request.body == b"x" * 300000


def test_curl(weir, upstream):
    assert curl("-x", proxy(weir), "--proxy-user", "alice:wonderland", upstream.url()) == (0, b"hello", "")
    assert curl("-x", proxy(weir), "--proxy-user", "bob:hunter2", "--data-binary", "@-",
                upstream.url(), data=b"x" * 100000) == (0, b"hello", "")
    assert curl("-x", proxy(weir), "--proxy-anyauth", "--proxy-user", "bob:hunter2", "--data-binary",
                "abc", upstream.url()) == (0, b"hello", "")
    for user in ("alice:wrong", "nobody:wonderland"):
        code, body, _ = curl("-x", proxy(weir), "--proxy-user", user, "-w", "%{http_code}", upstream.url())
        assert code == 0 and body.endswith(b"407")
    code, body, _ = curl("-x", proxy(weir), "-w", "%{http_code}", "-H", "Weir-Token: ci:sec:ret",
                         upstream.url())
    assert (code, body) == (0, b"hello200")
    big = b"x" * 3000000
    code, body, error = curl("-x", proxy(weir), "--proxy-user", "alice:wrong", "-w", "%{http_code}",
                             "--data-binary", "@-", upstream.url(), data=big)
    assert code == 0 and body.endswith(b"407"), error


def test_curl_through_a_tunnel(weir, upstream):
    tunnel = ["-x", proxy(weir), "--proxytunnel"]
    assert curl(*tunnel, "--proxy-user", "alice:wonderland", upstream.url()) == (0, b"hello", "")
    code, _, error = curl(*tunnel, "--proxy-user", "alice:no", upstream.url())
    assert code == 56 and "407" in error
    code, _, error = curl(*tunnel, upstream.url())
    assert code == 56 and "407" in error


def test_a_password_is_checked_once(start, upstream):
    weir = start()
    for _ in range(20):
        assert weir.fetch(upstream.url(), headers=[GOOD]).status == 200
        expect_407(weir.fetch(upstream.url(), headers=[basic("alice", "wrong")]))
    auth = weir.status()["auth"]
    assert (auth["clients"], auth["checking"], auth["waiting"]) == (True, 0, 0)
    assert auth["checks_total"] == 2 and auth["refused_total"] == 20


def test_many_at_once_share_one_check(start, held):
    weir = start(limited(50))
    clients = [weir.ask(held.url(), headers=[GOOD]) for _ in range(50)]
    for request in held.take(50):
        request.answer()
    assert [client.read().status for client in clients] == [200] * 50
    assert weir.status()["auth"]["checks_total"] == 1


def test_a_slow_hash_does_not_hold_up_the_others(start_weir, tmp_path, upstream):
    path = secret_file(tmp_path / "clients", f"{ALICE}\n{SLOW}\n")
    weir = start_weir({"auth": {"clients": path}})
    slow = weir.ask(upstream.url(), headers=[basic("slow", "nonsense")])
    wait_until(lambda: weir.status()["auth"]["checking"] == 1, "it is being checked")
    for _ in range(5):
        assert weir.fetch(upstream.url(), headers=[GOOD]).status == 200
    leaver = weir.ask(upstream.url(), headers=[basic("slow", "other")])
    wait_until(lambda: weir.status()["auth"]["checking"] == 2, "both are being checked")
    leaver.close()
    weir.log.wait(outcome="client_gone")
    waiting = weir.ask(upstream.url(), headers=[basic("slow", "third")])
    wait_until(lambda: weir.status()["auth"]["waiting"] == 1, "the third waits")
    waiting.close()
    weir.log.wait(2, outcome="client_gone")
    assert weir.status()["auth"]["waiting"] == 0
    slow.close()
    weir.wait_idle()
    weir.signal(signal.SIGTERM)  # ends at once, though the checks go on
    assert weir.wait_exit() == 0


def test_too_many_checks_are_refused(start_weir, tmp_path, upstream):
    path = secret_file(tmp_path / "clients", f"{ALICE}\n{SLOW}\n")
    weir = start_weir({"auth": {"clients": path}})
    assert weir.fetch(upstream.url(), headers=[GOOD]).status == 200
    for number in range(258):
        weir.ask(upstream.url(), headers=[basic("slow", number)])
    wait_until(lambda: weir.status()["auth"]["waiting"] == 256, "all that may wait do")
    answer = weir.fetch(upstream.url(), headers=[basic("slow", "more")])
    assert answer.status == 503 and b"auth_busy" in answer.body and int(answer.get("Retry-After")) >= 1
    assert weir.fetch(upstream.url(), headers=[GOOD]).status == 200  # known: no check
    assert weir.status()["auth"]["busy_total"] == 1
    weir.close_clients()
    wait_until(lambda: weir.status()["auth"]["waiting"] == 0, "those who left wait no more")
    weir.wait_idle()
    weir.signal(signal.SIGTERM)
    assert weir.wait_exit() == 0


def test_nothing_secret_is_shown(start, upstream, clients_file):
    weir = start()
    shown = [weir.fetch(upstream.url(), headers=[field]).body for field in (
        GOOD, basic("alice", "wr0ngpass"), ("Weir-Token", "alice:wr0ngpass"), ("Weir-Token", "wr0ngpass"))]
    shown += [weir.admin_fetch(path).body for path in ("/status", "/config")]
    weir.log.wait(4)
    text = b"".join(shown).decode() + "\n".join(weir.log.text + weir.events.text)
    secrets = ["wonderland", "wr0ngpass", base64.b64encode(b"alice:wonderland").decode(), "$6$", "$2b$"]
    assert not [secret for secret in secrets if secret in text]


# --- Reloading and starting ---

def test_a_reload_takes_the_new_file(start, upstream, clients_file, tmp_path):
    weir = start()
    assert weir.fetch(upstream.url(), headers=[GOOD]).status == 200
    secret_file(tmp_path / "clients", BOB)
    weir.reload({"auth": {"clients": clients_file}})
    expect_407(weir.fetch(upstream.url(), headers=[GOOD]))
    assert weir.fetch(upstream.url(), headers=[basic("bob", "hunter2")]).status == 200
    weir.reload({})
    assert weir.fetch(upstream.url()).status == 200


def test_a_bad_file_fails_the_reload_and_changes_nothing(start, upstream, clients_file, tmp_path):
    weir = start()
    secret_file(tmp_path / "clients", f"{BOB}\nalice:secret\n")
    weir.write_config({"auth": {"clients": clients_file}, **limited(7)})
    weir.signal(signal.SIGHUP)
    event = weir.events.wait(event="reload_failed")
    assert event["reason"].startswith(f"auth.clients: {clients_file}:2: expected a hash of bcrypt")
    assert "secret" not in event["reason"]
    assert weir.fetch(upstream.url(), headers=[GOOD]).status == 200
    assert weir.host(upstream.host)["limit"] == 3


BAD_FILES = [
    ({"clients": "{0}/missing"}, "auth.clients: {0}/missing: expected a file that can be read: No such file or directory"),
    ({"clients": "{0}/empty"}, "auth.clients: {0}/empty: the file is empty"),
    ({"clients": "{0}"}, "auth.clients: {0}: expected a regular file, found a directory"),
    ({"clients": "{0}/locked"}, "auth.clients: {0}/locked:1: the hash is locked"),
    ({"admin": {"read": "{0}/missing"}}, "auth.admin.read: {0}/missing: expected a file that can be read: No such file"),
    ({"admin": {"operate": "{0}/empty"}}, "auth.admin.operate: {0}/empty: the file is empty"),
    ({"admin": {"operate": "{0}/short"}}, "auth.admin.operate: {0}/short: expected a token of 16 to 1024"),
]


@pytest.mark.parametrize("auth, reason", BAD_FILES)
@pytest.mark.parametrize("flags", [[], ["--check-config"]])
def test_bad_files_fail_the_start(tmp_path, auth, reason, flags):
    secret_file(tmp_path / "empty", "")
    secret_file(tmp_path / "short", "hunter2\n")
    secret_file(tmp_path / "locked", "alice:!\n")
    config = tmp_path / "weir.json"
    text = str(auth).replace("'", '"').replace("{0}", str(tmp_path))
    config.write_text(f'{{"listen": "127.0.0.1:0", "admin": {{"listen": "127.0.0.1:0"}}, "auth": {text}}}')
    ran = run_weir("--config", str(config), *flags)
    assert ran.returncode == 1 and ran.stdout == ""
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1 and lines[0].startswith("weir: " + reason.format(tmp_path)), ran.stderr
    assert "hunter2" not in ran.stderr


def test_an_unreadable_file_fails_the_start(tmp_path):
    path = secret_file(tmp_path / "clients", ALICE, 0)
    config = tmp_path / "weir.json"
    config.write_text(f'{{"auth": {{"clients": "{path}"}}}}')
    powers = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []  # root reads everything
    ran = subprocess.run([*powers, BINARY, "--config", str(config)], env=environment(),
                         capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ran.returncode == 1
    assert f"auth.clients: {path}: expected a file that can be read: Permission denied" in ran.stderr


def test_a_file_that_all_may_read_is_a_warning(start_weir, tmp_path):
    path = secret_file(tmp_path / "clients", ALICE, 0o644)
    weir = start_weir({"auth": {"clients": path}})
    event = weir.events.wait(event="secret_exposed")
    assert (event["level"], event["path"]) == ("warning", path)
    closed = secret_file(tmp_path / "closed", ALICE, 0o640)
    weir.reload({"auth": {"clients": closed}})
    assert len(weir.events.find(event="secret_exposed")) == 1


# --- The admin port ---

def admin(weir, target, token=None, method="GET", scheme="Bearer"):
    headers = [("Authorization", f"{scheme} {token}")] if token is not None else []
    client = Client(weir.admin)
    client.ask(method, target, [*headers, ("Connection", "close")], host="127.0.0.1")
    answer = client.read(method)
    client.close()
    return answer


@pytest.fixture
def tokens(tmp_path):
    return {"read": secret_file(tmp_path / "read", READ + "\n"),
            "operate": secret_file(tmp_path / "operate", OPERATE)}


def bearer(token):
    return [("Authorization", f"Bearer {token}")]


def test_admin_tokens(start_weir, tokens):
    weir = start_weir({"auth": {"admin": tokens}})
    weir.admin_headers = bearer(READ)
    for path in ("/healthz", "/readyz", "/healthz?x=1"):
        assert admin(weir, path).status == 200
    for token in (None, "", "x", READ[:-1], READ + "x", READ.upper()):
        answer = admin(weir, "/status", token)
        assert answer.status == 401
        assert answer.get("WWW-Authenticate") == 'Bearer realm="weir"'
        assert answer.get("Proxy-Authenticate") is None
        assert b"auth_required" in answer.body and READ.encode() not in answer.body
    assert admin(weir, "/nowhere").status == 401  # not even what there is
    assert admin(weir, "/status", READ, scheme="Basic").status == 401
    for token in (READ, OPERATE):
        assert admin(weir, "/status", token).status == 200
        assert admin(weir, "/status", token, scheme="bearer").status == 200
        assert admin(weir, "/status", token, method="HEAD").status == 200
        assert admin(weir, "/nowhere", token).status == 404
    assert admin(weir, "/status", method="HEAD").status == 401
    for method in ("POST", "PUT", "DELETE"):
        assert admin(weir, "/healthz", method=method).status == 401
        answer = admin(weir, "/status", READ, method=method)
        assert answer.status == 403 and b"auth.admin.operate" in answer.body
        assert admin(weir, "/status", OPERATE, method=method).status == 405
    weir.admin_headers = bearer(OPERATE)


def test_only_a_token_to_operate_leaves_reading_open(start_weir, tokens):
    weir = start_weir({"auth": {"admin": {"operate": tokens["operate"]}}})
    assert admin(weir, "/status").status == 200
    assert admin(weir, "/status", method="POST").status == 401
    assert admin(weir, "/status", OPERATE, method="POST").status == 405


def test_a_reload_takes_new_tokens(start_weir, tokens, tmp_path):
    weir = start_weir({"auth": {"admin": tokens}})
    weir.admin_headers = bearer(OPERATE)
    secret_file(tmp_path / "read", "another-0123456789")
    weir.reload({"auth": {"admin": tokens}})
    assert admin(weir, "/status", READ).status == 401
    assert admin(weir, "/status", "another-0123456789").status == 200


def test_curl_reads_with_a_token(start_weir, tokens):
    weir = start_weir({"auth": {"admin": tokens}})
    weir.admin_headers = bearer(READ)
    url = f"http://127.0.0.1:{weir.admin[1]}/status"
    code, body, _ = curl("--oauth2-bearer", READ, url)
    assert code == 0 and b'"version"' in body
    code, body, _ = curl("-w", "%{http_code}", "-o", "/dev/null", url)
    assert (code, body) == (0, b"401")


# --- unix: listeners ---

def test_unix_sockets(start_weir, upstream, tmp_path):
    data, control = tmp_path / "data.sock", tmp_path / "admin.sock"
    weir = start_weir({"listen": ["127.0.0.1:0", f"unix:{data}"], "admin": {"listen": f"unix:{control}"}})
    assert weir.events.wait(address=f"unix:{data}")["for"] == "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o660
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    via = ["--unix-socket", str(data)]
    assert curl(*via, "-G", "--data-urlencode", f"url={upstream.url()}", "http://weir/fetch") == (
        0, b"hello", "")
    assert weir.log.wait()["client"] == "unix:"
    client = weir_client(weir, data)
    client.ask("GET", upstream.url("/x"))
    assert client.read().status == 200
    client.send(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n" % upstream.host.encode())
    assert client.read().status == 400  # not the first request
    tunnel = weir_client(weir, data)
    tunnel.send(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n" % upstream.host.encode())
    assert tunnel.read_head().status == 200
    tunnel.ask("GET", "/through", host=upstream.host)
    assert tunnel.read().body == b"hello"
    code, body, _ = curl("--unix-socket", str(control), "http://localhost/status")
    assert code == 0 and b'"version"' in body
    assert weir.events.find(event="open_to_all") == []
    weir.stop()
    assert not data.exists() and not control.exists()


def weir_client(weir, path):
    weir.clients.append(Client(str(path)))
    return weir.clients[-1]


def test_a_unix_client_leaves_while_it_waits(start_weir, held, tmp_path):
    path = tmp_path / "data.sock"
    weir = start_weir({"listen": ["127.0.0.1:0", f"unix:{path}"], **limited(1)})
    clients = []
    for number in range(2):
        clients.append(weir_client(weir, path).ask("GET", fetch_target(held.url(f"/{number}"))))
        weir.wait_host(held.host, active=1, queued=number)
    clients[1].close()
    weir.wait_host(held.host, active=1, queued=0)
    held.next().answer()
    assert clients[0].read().status == 200


def test_the_mode_of_sockets(start_weir, tmp_path):
    data, control = tmp_path / "data.sock", tmp_path / "admin.sock"
    weir = start_weir({"listen": ["127.0.0.1:0", f"unix:{data}"], "socket_mode": "0666",
                       "admin": {"listen": f"unix:{control}", "socket_mode": "640"}})
    assert stat.S_IMODE(data.stat().st_mode) == 0o666
    assert stat.S_IMODE(control.stat().st_mode) == 0o640
    assert weir.status()["state"] == "ok"


def test_a_flag_names_a_socket(start_weir, tmp_path, upstream):
    path = tmp_path / "flag.sock"
    weir = start_weir(flags=["--listen", f"127.0.0.1:0,unix:{path}"])
    client = weir_client(weir, path)
    client.ask("GET", upstream.url())
    assert client.read().body == b"hello"


@pytest.mark.parametrize("how", ["second signal", "killed"])
def test_what_is_left_of_sockets(start_weir, held, tmp_path, how):
    path = tmp_path / "data.sock"
    config = {"listen": ["127.0.0.1:0", f"unix:{path}"]}
    weir = start_weir(config)
    weir.ask(held.url())
    held.next()
    weir.signal(signal.SIGTERM)
    if how == "killed":
        weir.expected_exit = -signal.SIGKILL
        weir.process.kill()
        weir.wait_exit()
        assert path.exists()
        weir = start_weir(config)  # a stale one is replaced
        assert weir_client(weir, path)
    else:
        wait_until(lambda: weir.admin_fetch("/readyz").status == 503, "it drains")
        weir.expected_exit = 3
        weir.signal(signal.SIGTERM)
        weir.wait_exit()
        assert not path.exists()


def test_a_live_socket_is_in_use(start_weir, tmp_path):
    path = tmp_path / "data.sock"
    start_weir({"listen": ["127.0.0.1:0", f"unix:{path}"]})
    ran = run_weir("--listen", f"unix:{path}", "--admin", "127.0.0.1:0")
    assert ran.returncode == 1
    assert f"weir: unix:{path}: cannot listen: Address already in use" in ran.stderr
    assert path.exists() and weir_answers(path)


def weir_answers(path):
    connection = http.client.HTTPConnection("weir")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", "/")
    return connection.getresponse().status == 404


def test_another_file_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    ran = run_weir("--listen", f"unix:{path}", "--admin", "127.0.0.1:0")
    assert ran.returncode == 1
    assert f"weir: unix:{path}: there is a file that is not a socket" in ran.stderr
    assert path.read_text() == "data"
    ran = run_weir("--listen", f"unix:{tmp_path}/nowhere/x", "--admin", "127.0.0.1:0")
    assert ran.returncode == 1 and "cannot listen: No such file or directory" in ran.stderr


# --- Open listeners ---

def test_a_warning_for_each_listener_that_all_may_use(start_weir, clients_file, tokens):
    weir = start_weir({"listen": ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"], "admin": {"listen": "0.0.0.0:0"}})
    warnings = weir.events.find(event="open_to_all")
    assert [(event["level"], event["for"]) for event in warnings] == [("warning", "data"), ("warning", "admin")]
    assert "auth.clients" in warnings[0]["reason"] and warnings[0]["address"].startswith("0.0.0.0:")
    assert "auth.admin.read" in warnings[1]["reason"]
    weir.admin = ("127.0.0.1", weir.admin[1])
    quiet = start_weir({"listen": ["127.0.0.1:0", "0.0.0.0:0"], "admin": {"listen": "0.0.0.0:0"},
                        "auth": {"clients": clients_file, "admin": tokens}})
    quiet.admin = ("127.0.0.1", quiet.admin[1])
    quiet.admin_headers = bearer(READ)
    assert quiet.events.find(event="open_to_all") == []
    quiet.reload({"listen": ["127.0.0.1:0", "0.0.0.0:0"], "admin": {"listen": "0.0.0.0:0"},
                  "auth": {"admin": tokens}})
    quiet.events.wait(event="reloaded")
    assert [event["for"] for event in quiet.events.find(event="open_to_all")] == ["data"]


def test_parallel_clients_with_many_names(start_weir, tmp_path, upstream):
    """More credentials than threads, all right in the end."""
    lines = [f"user{number}:{BOB.partition(':')[2]}" for number in range(40)]
    weir = start_weir({"auth": {"clients": secret_file(tmp_path / "clients", "\n".join(lines))},
                       **limited(100)})
    answers = []

    def load(number):
        for password in ("hunter2", "nonsense", "hunter2"):
            answers.append(weir.fetch(upstream.url(), headers=[basic(f"user{number}", password)]).status)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 80 + [407] * 40
    assert weir.status()["auth"]["checks_total"] == 80
