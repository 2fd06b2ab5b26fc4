"""Named upstreams: where a request goes and with which fields; one budget with the other ways; what
is wrong with a configuration; and that nothing secret is ever shown."""

import json
import os

import pytest

from client import request_bytes
from waiting import wait_until
from weir import limited, run_weir

TOKEN = "tok3n-of-the-t3st"


def named(**upstreams):
    return {"upstreams": upstreams}


def ask(weir, target, method="GET", headers=(), body=None):
    return weir.client().ask(method, target, headers, body)


def get(weir, target, **how):
    return ask(weir, target, **how).read(how.get("method", "GET"))


def problem(answer, status, word):
    assert (answer.status, answer.get("Content-Type")) == (status, "application/problem+json"), answer
    found = json.loads(answer.body)
    assert found["type"].endswith(word), found
    return found


@pytest.mark.parametrize("base, rest, expected", [
    ("", "", "/"),
    ("", "?x=1", "/?x=1"),
    ("", "/a%2Fb?x", "/a%2Fb?x"),
    ("/v1", "", "/v1"),
    ("/v1", "/", "/v1/"),
    ("/v1", "?x", "/v1?x"),
    ("/v1", "/a%2Fb?x", "/v1/a%2Fb?x"),
    ("/v1", "/../%2e%2e/./a//b;c?d=/../&e", "/v1/../%2e%2e/./a//b;c?d=/../&e"),
    ("/v1", "/\xfc%zz'\"<>\\^`{|}", "/v1/\xfc%zz'\"<>\\^`{|}"),
    ("/v1/", "/a", "/v1/a"),
    ("/v1/", "", "/v1/"),
])
def test_the_rest_goes_behind_the_base_path(start_weir, upstream, base, rest, expected):
    weir = start_weir(named(it={"url": upstream.url(base)}))
    client = weir.client()
    client.send(f"GET /to/it{rest} HTTP/1.1\r\nHost: weir.test\r\n\r\n".encode("latin-1"))
    assert client.read().status == 200
    request = upstream.next()
    assert request.target == expected
    assert request.get("Host") == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PROPFIND"])
def test_methods_and_bodies(start_weir, upstream, method):
    weir = start_weir(named(it={"url": upstream.url()}))
    body = None if method == "HEAD" else b"a body"
    assert get(weir, "/to/it/x", method=method, body=body).status == 200
    request = upstream.next()
    assert (request.method, request.target, request.wait_body()) == (method, "/x", body or b"")


def test_added_fields_take_the_place_of_those_that_came(start_weir, upstream, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    weir = start_weir(named(
        it={"url": upstream.url(), "headers": {
            "Authorization": {"file": str(secret), "prefix": "Bearer "},
            "X-Key": {"env": "THE_KEY"}, "x-plain": "a, b"}},
        bare={"url": upstream.url()}), env={"THE_KEY": "key of the test"})
    theirs = [("authorization", "Bearer theirs"), ("X-KEY", "1"), ("X-Other", "kept"), ("x-key", "2"),
              ("X-Plain", "3"), ("Cookie", "c=1")]
    assert get(weir, "/to/it/", headers=theirs).status == 200
    request = upstream.next()
    assert request.all("Authorization") == ["Bearer " + TOKEN]
    assert request.all("X-Key") == ["key of the test"]
    assert request.all("X-Plain") == ["a, b"]
    assert (request.get("X-Other"), request.get("Cookie")) == ("kept", "c=1")
    for target in ("/to/bare/", upstream.url(), "/fetch?url=" + upstream.url()):
        assert get(weir, target, headers=theirs).status == 200
        request = upstream.next()
        assert request.all("Authorization") == ["Bearer theirs"]
        assert request.all("X-Key") == ["1", "2"]


def test_many_added_fields(start_weir, upstream):
    fields = {f"X-Field-{number}": f"value {number}" for number in range(50)}
    weir = start_weir(named(it={"url": upstream.url(), "headers": fields}))
    for _ in range(2):
        assert get(weir, "/to/it/").status == 200
        request = upstream.next()
        assert {name: request.get(name) for name in fields} == fields


@pytest.mark.parametrize("target", ["/to/other/x", "/to/", "/to/it%20/", "/to/IT/"])
def test_an_unknown_name(start_weir, upstream, target):
    weir = start_weir(named(it={"url": upstream.url("/" + TOKEN), "headers": {"X": TOKEN}}))
    found = problem(get(weir, target), 404, "unknown_upstream")
    assert found["detail"] == "no upstream of this name is configured: expected /to/NAME/PATH"
    assert not upstream.requests
    assert weir.log.wait(outcome="unknown_upstream")["status"] == 404


def test_without_upstreams_every_name_is_unknown(weir):
    problem(get(weir, "/to/it/"), 404, "unknown_upstream")


def test_names_are_no_forward_targets(start_weir, upstream):
    """An absolute URL whose path begins with /to/ goes where it says."""
    weir = start_weir(named(it={"url": upstream.url("/base")}))
    assert get(weir, upstream.url("/to/it/x")).status == 200
    assert upstream.next().target == "/to/it/x"


def test_the_log_has_the_path_that_the_client_sent(start_weir, upstream):
    weir = start_weir(named(it={"url": upstream.url("/base")}))
    assert get(weir, "/to/it/a%2Fb?secret=1").status == 200
    line = weir.log.wait(form="upstream")
    assert (line["path"], line["host"], line["outcome"]) == ("/to/it/a%2Fb", upstream.host, "ok")


# One budget a host.

def test_all_ways_share_the_budget(start_weir, held):
    weir = start_weir({**limited(5), **named(it={"url": held.url("/v1"), "limit": 2, "queue": 3})})
    ways = ["/to/it/0", held.url("/1"), "/fetch?url=" + held.url("/2"), "/to/it/3", held.url("/4")]
    clients = []
    for number, target in enumerate(ways):
        clients.append(ask(weir, target))
        weir.wait_host(held.host, active=min(number + 1, 2), queued=max(0, number - 1))
    view = weir.host(held.host)
    assert (view["limit"], view["queue_limit"], view["rule"]) == (2, 3, held.host)
    assert get(weir, "/to/it/full").status == 503
    assert get(weir, held.url("/full")).status == 503
    running = held.take(2)
    assert {request.target for request in running} == {"/v1/0", "/1"}
    for expected in ("/2", "/v1/3", "/4"):
        running.pop(0).answer()
        running.append(held.next())
        assert running[-1].target == expected
    for request in running:
        request.answer()
    assert [client.read().status for client in clients] == [200] * 5
    assert held.peak_running == 2
    assert held.peak_connections <= 2


def test_two_upstreams_of_one_host_share_it(start_weir, held):
    weir = start_weir(named(a={"url": held.url("/a"), "limit": 1}, b={"url": held.url("/b")}))
    first, second = ask(weir, "/to/a"), None
    request = held.next()
    second = ask(weir, "/to/b")
    weir.wait_host(held.host, active=1, queued=1)
    request.answer()
    held.next().answer()
    assert (first.read().status, second.read().status) == (200, 200)
    assert held.targets() == ["/a", "/b"]


# Where it may lead.

def test_allow_private_opens_the_named_way_alone(start_weir, upstream):
    weir = start_weir(named(inside={"url": upstream.url(), "allow_private": True},
                            plain={"url": upstream.url()}), defaults=[])
    assert get(weir, "/to/inside/x").status == 200
    for target in ("/to/plain/x", upstream.url(), "/fetch?url=" + upstream.url()):
        problem(get(weir, target), 403, "denied")
    assert upstream.targets() == ["/x"]


# Reloads.

def test_a_reload_reads_secrets_anew(start_weir, upstream, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("first")
    config = named(it={"url": upstream.url(), "headers": {"X-Key": {"file": str(secret)}}})
    weir = start_weir(config)
    assert get(weir, "/to/it/").status == 200
    secret.write_text("second")
    assert get(weir, "/to/it/").status == 200
    weir.reload(config)
    assert get(weir, "/to/it/").status == 200
    assert [request.get("X-Key") for request in upstream.take(3)] == ["first", "first", "second"]


def test_a_request_keeps_the_upstream_that_it_began_with(start_weir, held):
    weir = start_weir({**limited(1), **named(it={"url": held.url("/v1"), "headers": {"X-Key": "old"}})})
    running, waiting = ask(weir, "/to/it/a"), None
    request = held.next()
    waiting = ask(weir, "/to/it/b")
    weir.wait_host(held.host, active=1, queued=1)
    weir.reload(limited(1))
    problem(get(weir, "/to/it/c"), 404, "unknown_upstream")
    request.answer()
    second = held.next()
    assert (second.target, second.get("X-Key")) == ("/v1/b", "old")
    second.answer()
    assert (running.read().status, waiting.read().status) == (200, 200)


def test_a_reload_without_its_secret_changes_nothing(start_weir, upstream, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    weir = start_weir(named(it={"url": upstream.url(), "headers": {"X-Key": {"file": str(secret)}}}))
    os.unlink(secret)
    weir.signal(1)
    reason = weir.events.wait(event="reload_failed")["reason"]
    assert f"{secret}: expected a file that can be read: No such file or directory" in reason and "upstreams.it.headers" in reason
    assert get(weir, "/to/it/").status == 200
    assert upstream.next().get("X-Key") == TOKEN


# What is wrong with a configuration.

@pytest.mark.parametrize("upstreams, expected", [
    ({"it": {"url": "http://h", "headers": {"X": {"env": "NOT_THERE"}}}},
     "weir.json:7: upstreams.it.headers.X.env: NOT_THERE: the variable is not set"),
    ({"it": {"url": "http://h", "headers": {"X": {"file": "/nowhere/token"}}}},
     "upstreams.it.headers.X.file: /nowhere/token: expected a file that can be read: No such file or directory"),
    ({"it": {"url": f"http://user:{TOKEN}@h"}}, "upstreams.it.url: the URL holds user information"),
    ({"it": {"url": "http://h", "headers": {"X": f"{TOKEN}\r\nY: 1"}}},
     "upstreams.it.headers.X: the value holds a control character"),
    ({"a": {"url": "http://h", "limit": 1}, "b": {"url": "http://h/x", "limit": 2}},
     "upstreams.b.limit: expected the same as upstreams.a says of h: a host has one budget"),
])
@pytest.mark.parametrize("flags", [[], ["--check-config"]])
def test_a_bad_configuration_fails_the_start(tmp_path, upstreams, expected, flags):
    config = tmp_path / "weir.json"
    config.write_text(json.dumps({"upstreams": upstreams}, indent=1))
    result = run_weir("--config", str(config), *flags)
    assert (result.returncode, result.stdout) == (1, "")
    assert expected in result.stderr
    assert TOKEN not in result.stderr


# Nothing secret is shown.

def test_nothing_secret_is_shown(start_weir, new_upstream, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    upstream, gone = new_upstream(), new_upstream()
    broken = new_upstream(greeting=b"this is no HTTP\r\n\r\n")
    gone.close_listener()
    headers = {"Authorization": {"file": str(secret), "prefix": "Bearer "},
               "X-Env": {"env": "THE_KEY"}, "X-Literal": TOKEN}
    config = named(
        it={"url": upstream.url("/" + TOKEN), "headers": headers},
        gone={"url": gone.url("/" + TOKEN), "headers": headers},
        broken={"url": broken.url("/" + TOKEN), "headers": headers},
        full={"url": upstream.url("/" + TOKEN, name="localhost"), "headers": headers, "limit": 1,
              "queue": 0})
    weir = start_weir(config, env={"THE_KEY": TOKEN})
    shown = []

    def see(answer):
        shown.append(repr((answer.headers, answer.body, answer.trailers)))
        return answer.status

    assert see(get(weir, "/to/it/a")) == 200
    assert see(get(weir, "/to/gone/a")) == 502
    assert see(get(weir, "/to/broken/a")) == 502
    assert see(get(weir, "/to/nobody/a")) == 404
    assert upstream.next().get("X-Literal") == TOKEN

    upstream.hold = True
    running = ask(weir, "/to/it/held")
    request = upstream.next()
    for target in ("/status", "/config", "/requests", "/metrics", "/", "/hosts/" + upstream.host,
                   "/hosts/" + gone.host, "/healthz", "/readyz", "/to/it/"):
        see(weir.admin_fetch(target))
    request.answer()
    assert see(running.read()) == 200
    client = weir.client()
    client.send(request_bytes("GET", "/to/it/cut"))
    upstream.next()
    client.reset()
    weir.log.wait(outcome="client_gone")

    # A reload of a file that is broken right beside a secret, and of one that says it wrongly.
    weir.config_file.write_text('{"upstreams": {"it": {"headers": {"X": "%s" "%s"' % (TOKEN, TOKEN))
    weir.signal(1)
    weir.events.wait(1, event="reload_failed")
    for number, bad in enumerate([{"X": [TOKEN]}, {"X": TOKEN + "\n"}, {"Host": TOKEN}, TOKEN,
                                  {"X": {"env": TOKEN + " "}}, {"X": {"file": [TOKEN]}}]):
        weir.write_config(named(it={"url": upstream.url(), "headers": bad}))
        weir.signal(1)
        weir.events.wait(number + 2, event="reload_failed")
    weir.reload(config)
    wait_until(lambda: upstream.running() == 0, "the cancelled request is gone")

    weir.stop()
    everything = "\n".join(shown + weir.log.text + weir.events.text)
    assert len(weir.log.text) >= 6
    assert TOKEN not in everything
