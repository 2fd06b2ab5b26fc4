"""TLS toward upstreams: who is believed, what is shown, which versions; files that are not good; and
what a reload changes."""

import json
import shutil
import ssl

import pytest

from pki import Authority, server_context
from waiting import wait_until
from weir import run_weir


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def server(authority):
    """The identity of an upstream at 127.0.0.1."""
    return authority.issue("server")


def for_host(upstream, **settings):
    return {"tls": {"hosts": {upstream.host: settings}}}


def refused(answer, word):
    assert answer.status == 502, answer
    assert f"error={word};" in answer.get("Proxy-Status"), answer
    return True


def fetch(weir, upstream, path="/"):
    return weir.fetch(upstream.url(path, scheme="https"))


def test_a_ca_file_is_believed_by_its_host_alone(start_weir, new_upstream, authority, server):
    one, other = (new_upstream(tls=server_context(server)) for _ in range(2))
    weir = start_weir(for_host(one, ca_file=authority.file))
    assert fetch(weir, one).status == 200
    assert refused(fetch(weir, other), "tls_certificate_error")
    assert not other.requests


def test_the_ca_file_of_a_host_takes_the_place_of_that_of_all(
        start_weir, new_upstream, tmp_path, authority, server):
    stranger = Authority(tmp_path, "stranger")
    one, other = (new_upstream(tls=server_context(server)) for _ in range(2))
    weir = start_weir({"tls": {"ca_file": authority.file,
                               "hosts": {one.host: {"ca_file": stranger.file}}}})
    assert fetch(weir, other).status == 200
    assert refused(fetch(weir, one), "tls_certificate_error")


def test_a_certificate_for_another_name_is_refused(start_weir, new_upstream, authority):
    upstream = new_upstream(tls=server_context(authority.issue("other", san="DNS:other.test")))
    weir = start_weir({"tls": {"ca_file": authority.file}})
    assert refused(fetch(weir, upstream), "tls_certificate_error")
    assert not upstream.requests


def test_an_expired_certificate_is_refused(start_weir, new_upstream, authority):
    upstream = new_upstream(tls=server_context(authority.issue("old", expired=True)))
    weir = start_weir({"tls": {"ca_file": authority.file}})
    answer = fetch(weir, upstream)
    assert refused(answer, "tls_certificate_error")
    assert b"expired" in answer.body
    assert not upstream.requests


def test_a_client_certificate_is_shown_where_it_belongs(start_weir, new_upstream, authority, server):
    client = authority.issue("client")
    asking = new_upstream(tls=server_context(server, clients=authority))
    other = new_upstream(tls=server_context(server, clients=authority))
    seen = []

    def script(request):
        seen.append(dict(pair[0] for pair in request.connection.socket.getpeercert()["subject"]))
        request.send_answer()

    asking.script = script
    weir = start_weir({"tls": {"ca_file": authority.file, "hosts": {
        asking.host: {"certificate_file": client.certificate, "key_file": client.key}}}})
    assert fetch(weir, asking).status == 200
    assert seen == [{"commonName": "client"}]
    assert refused(fetch(weir, other), "tls_protocol_error")
    assert not other.requests


def test_certificate_and_key_in_one_file(start_weir, new_upstream, authority, server, tmp_path):
    client = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_text(open(client.key, encoding="ascii").read()
                    + open(client.certificate, encoding="ascii").read())
    upstream = new_upstream(tls=server_context(server, clients=authority))
    weir = start_weir(for_host(upstream, ca_file=authority.file, certificate_file=str(both)))
    assert fetch(weir, upstream).status == 200


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_that_is_missing(start_weir, new_upstream, authority, server, most):
    upstream = new_upstream(tls=server_context(server, clients=authority, most=most))
    weir = start_weir({"tls": {"ca_file": authority.file}})
    assert refused(fetch(weir, upstream), "tls_protocol_error")


def test_a_minimum_version(start_weir, new_upstream, authority, server):
    old = new_upstream(tls=server_context(server, most=ssl.TLSVersion.TLSv1_2))
    new = new_upstream(tls=server_context(server))
    other = new_upstream(tls=server_context(server, most=ssl.TLSVersion.TLSv1_2))
    weir = start_weir({"tls": {"ca_file": authority.file, "hosts": {
        host: {"minimum_version": "1.3"} for host in (old.host, new.host)}}})
    assert refused(fetch(weir, old), "tls_protocol_error")
    assert fetch(weir, new).status == 200
    assert fetch(weir, other).status == 200


def test_a_minimum_version_for_all(start_weir, new_upstream, authority, server):
    old = new_upstream(tls=server_context(server, most=ssl.TLSVersion.TLSv1_2))
    spared = new_upstream(tls=server_context(server, most=ssl.TLSVersion.TLSv1_2))
    weir = start_weir({"tls": {"ca_file": authority.file, "minimum_version": "1.3",
                               "hosts": {spared.host: {"minimum_version": "1.2"}}}})
    assert refused(fetch(weir, old), "tls_protocol_error")
    assert fetch(weir, spared).status == 200


def test_insecure_is_for_one_host_and_warns(start_weir, new_upstream, tls):
    any_one, other = (new_upstream(tls=tls.context) for _ in range(2))
    weir = start_weir(for_host(any_one, insecure=True))
    warning = weir.events.wait(event="tls_insecure")
    assert (warning["level"], warning["host"]) == ("warning", any_one.host)
    # The same handles serve both hosts, in turns.
    for _ in range(3):
        assert fetch(weir, any_one).status == 200
        assert refused(fetch(weir, other), "tls_certificate_error")
    assert not other.requests
    assert len(weir.events.find(event="tls_insecure")) == 1


def test_insecure_does_not_outlast_a_reload(start_weir, new_upstream, tls):
    upstream = new_upstream(tls=tls.context)
    weir = start_weir(for_host(upstream, insecure=True))
    assert fetch(weir, upstream).status == 200
    weir.reload({})
    wait_until(lambda: upstream.open_connections() == 0, "the connection is closed")
    for _ in range(3):
        assert refused(fetch(weir, upstream), "tls_certificate_error")
    assert len(upstream.requests) == 1


def test_settings_of_an_upstream_are_those_of_its_host(start_weir, new_upstream, authority, server):
    client = authority.issue("client")
    upstream = new_upstream(tls=server_context(server, clients=authority))
    weir = start_weir({"upstreams": {"inside": {
        "url": upstream.url("/base", scheme="https"),
        "tls": {"ca_file": authority.file, "certificate_file": client.certificate,
                "key_file": client.key, "minimum_version": "1.3"}}}})
    named = weir.client().ask("GET", "/to/inside/x").read()
    assert named.status == 200
    assert fetch(weir, upstream, "/y").status == 200
    assert weir.fetch(upstream.url("/z", scheme="https"), form="forward").status == 200
    assert upstream.targets() == ["/base/x", "/y", "/z"]
    assert upstream.peak_connections == 1


def test_sessions_are_resumed(start_weir, new_upstream, authority, server):
    context = server_context(server)
    upstream = new_upstream(tls=context)

    def script(request):
        request.send_answer(headers=[("Connection", "close")])
        request.close()

    upstream.script = script
    weir = start_weir({"tls": {"ca_file": authority.file}})
    for _ in range(5):
        assert fetch(weir, upstream).status == 200
    assert len(upstream.connections) == 5
    assert context.session_stats()["hits"] >= 3


# Reloads.

def test_a_reload_that_changes_nothing_keeps_connections(start_weir, new_upstream, authority, server):
    upstream = new_upstream(tls=server_context(server))
    config = for_host(upstream, ca_file=authority.file)
    weir = start_weir(config)
    assert fetch(weir, upstream).status == 200
    weir.reload(config)
    assert fetch(weir, upstream).status == 200
    assert upstream.peak_connections == len(upstream.connections) == 1


@pytest.mark.parametrize("insecure", [False, True])
def test_a_reload_reads_certificates_anew(start_weir, new_upstream, authority, server, tmp_path, insecure):
    first, second = authority.issue("first"), authority.issue("second")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"

    def show(identity):
        shutil.copy(identity.certificate, certificate)
        shutil.copy(identity.key, key)

    upstream = new_upstream(tls=server_context(server, clients=authority))
    untouched = new_upstream(tls=server_context(server))
    seen = []

    def script(request):
        seen.append(request.connection.socket.getpeercert()["subject"][0][0][1])
        request.send_answer()

    upstream.script = script
    config = {"tls": {"ca_file": authority.file, "hosts": {
        upstream.host: {"certificate_file": str(certificate), "key_file": str(key),
                        "insecure": insecure}}}}
    show(first)
    weir = start_weir(config)
    assert fetch(weir, upstream).status == 200
    assert fetch(weir, untouched).status == 200
    show(second)
    assert fetch(weir, upstream).status == 200
    weir.reload(config)
    wait_until(lambda: upstream.open_connections() == 0, "the old connection is closed")
    assert weir.host(upstream.host)["idle_connections"] == 0
    assert fetch(weir, upstream).status == 200
    assert fetch(weir, untouched).status == 200
    assert seen == ["first", "first", "second"]
    assert len(untouched.connections) == 1


def test_a_reload_lets_what_runs_finish_on_the_old_connection(
        start_weir, new_upstream, authority, server):
    upstream = new_upstream(tls=server_context(server))
    upstream.hold = True
    config = for_host(upstream, ca_file=authority.file)
    weir = start_weir(config)
    running = weir.ask(upstream.url("/a", scheme="https"))
    request = upstream.next()
    config["tls"]["hosts"][upstream.host]["minimum_version"] = "1.3"
    weir.reload(config)
    assert request.connection.is_open()
    request.answer()
    assert running.read().status == 200
    wait_until(lambda: upstream.open_connections() == 0, "the old connection is closed")
    assert weir.host(upstream.host)["idle_connections"] == 0
    upstream.hold = False
    assert fetch(weir, upstream).status == 200
    assert len(upstream.connections) == 2


def test_a_request_that_waits_during_a_reload_gets_the_new_settings(
        start_weir, new_upstream, authority, server):
    upstream = new_upstream(tls=server_context(server, most=ssl.TLSVersion.TLSv1_2))
    upstream.hold = True
    config = {**for_host(upstream, ca_file=authority.file), "limits": {"default": {"limit": 1}}}
    weir = start_weir(config)
    running = weir.ask(upstream.url("/a", scheme="https"))
    request = upstream.next()
    waiting = weir.ask(upstream.url("/b", scheme="https"))
    weir.wait_host(upstream.host, active=1, queued=1)
    config["tls"]["hosts"][upstream.host]["minimum_version"] = "1.3"
    weir.reload(config)
    request.answer()
    assert running.read().status == 200
    assert refused(waiting.read(), "tls_protocol_error")
    assert len(upstream.requests) == 1
    assert upstream.peak_connections == 1


def test_a_reload_with_a_bad_file_changes_nothing(start_weir, new_upstream, authority, server, tmp_path):
    upstream = new_upstream(tls=server_context(server))
    roots = tmp_path / "roots.pem"
    shutil.copy(authority.file, roots)
    config = for_host(upstream, ca_file=str(roots))
    weir = start_weir(config)
    assert fetch(weir, upstream).status == 200
    roots.write_text("not a certificate\n")
    weir.signal(1)
    reason = weir.events.wait(event="reload_failed")["reason"]
    assert str(roots) in reason and "expected certificates in PEM" in reason
    assert fetch(weir, upstream).status == 200
    assert len(upstream.connections) == 1


# Files that are not good.

@pytest.fixture
def bad_files(authority, server, tmp_path):
    other = authority.issue("other")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return {
        "missing": ({"ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem", "No such file"),
        "garbage": ({"ca_file": str(garbage)}, str(garbage), "expected certificates in PEM"),
        "a key for roots": ({"ca_file": server.key}, server.key, "found none"),
        "mismatch": ({"certificate_file": server.certificate, "key_file": other.key}, other.key,
                     "does not belong to the certificate in " + server.certificate),
        "no key": ({"certificate_file": server.certificate}, server.certificate,
                   "expected a private key in PEM"),
    }


@pytest.mark.parametrize("what", ["missing", "garbage", "a key for roots", "mismatch", "no key"])
@pytest.mark.parametrize("flags", [[], ["--check-config"]])
def test_a_bad_file_fails_the_start(bad_files, tmp_path, what, flags):
    settings, path, reason = bad_files[what]
    config = tmp_path / "weir.json"
    config.write_text(json.dumps({
        "listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"},
        "tls": {"hosts": {"h.test": settings}}}))
    result = run_weir("--config", str(config), *flags)
    assert result.returncode == 1
    line = [line for line in result.stderr.splitlines() if line.startswith("weir: ")]
    assert len(line) == 1
    assert "tls.hosts.\"h.test\"" in line[0] and path in line[0] and reason in line[0]
