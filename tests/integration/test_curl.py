"""The real curl as the client."""

import subprocess

import pytest

from upstream import answer_bytes
from waiting import DEADLINE_S
from weir import environment, limited


@pytest.fixture
def weir(shared_weir):
    return shared_weir


def curl(*arguments, data=None):
    ran = subprocess.run(["curl", "-sS", "--max-time", str(DEADLINE_S), *arguments], input=data,
                         capture_output=True, env=environment(), check=False)
    return ran.returncode, ran.stdout, ran.stderr.decode()


def data_url(weir):
    return f"http://127.0.0.1:{weir.data[1]}"


def fetch_arguments(weir, url):
    return ["-G", "--data-urlencode", f"url={url}", data_url(weir) + "/fetch"]


def test_the_fetch_api(weir, upstream):
    assert curl(*fetch_arguments(weir, upstream.url("/a b?c=d&e".replace(" ", "%20")))) == (0, b"hello", "")
    assert upstream.next().target == "/a%20b?c=d&e"


def test_the_forward_proxy(weir, upstream):
    assert curl("-x", data_url(weir), upstream.url("/a")) == (0, b"hello", "")
    assert upstream.next().target == "/a"


def test_http_proxy_in_the_environment(weir, upstream):
    ran = subprocess.run(["curl", "-sS", upstream.url()], capture_output=True, check=False,
                         env=environment({"http_proxy": data_url(weir)}))
    assert ran.stdout == b"hello"
    assert "1.1 weir" in upstream.next().get("Via")


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_an_upload(weir, upstream, size):
    body = b"\0\xff" * (size // 2)
    assert curl("-x", data_url(weir), "-H", "Content-Type: a/b", "--data-binary", "@-", upstream.url(),
                data=body)[:2] == (0, b"hello")
    request = upstream.next()
    assert request.wait_body() == body and request.get("Content-Type") == "a/b"


def test_a_chunked_upload_with_expectation(weir, upstream):
    code, out, _ = curl("-x", data_url(weir), "-H", "Expect: 100-continue", "-T", "-", upstream.url("/up"),
                        data=b"x" * 2_000_000)
    assert (code, out) == (0, b"hello")
    assert len(upstream.next().wait_body()) == 2_000_000


def test_head(weir, upstream):
    code, out, _ = curl("-I", "-x", data_url(weir), upstream.url())
    assert code == 0 and out.startswith(b"HTTP/1.1 200 ")


def test_http_1_0(weir, upstream):
    assert curl("-0", "-x", data_url(weir), upstream.url())[:2] == (0, b"hello")


def test_a_truncated_answer_is_an_error(weir, upstream):
    upstream.script = lambda request: (request.send(answer_bytes(body=b"x" * 1000)[:-10]), request.close())
    assert curl("-x", data_url(weir), upstream.url())[0] == 18  # partial file


def test_a_truncated_chunked_answer_is_an_error(weir, upstream):
    upstream.script = lambda request: (
        request.send(answer_bytes(body=b"x" * 5000, chunked=True)[:-10]), request.close())
    assert curl("-x", data_url(weir), upstream.url())[0] in (18, 56)


def test_a_compressed_answer(weir, held):
    import gzip
    import threading
    threading.Thread(target=lambda: held.next().answer(
        headers=[("Content-Encoding", "gzip")], body=gzip.compress(b"hello"))).start()
    assert curl("--compressed", "-x", data_url(weir), held.url())[:2] == (0, b"hello")


def test_many_in_parallel_stay_within_the_limit(start_weir, upstream):
    weir = start_weir(limited(3))
    code, out, err = curl("-x", data_url(weir), "--parallel", "--parallel-max", "40",
                          "--parallel-immediate", upstream.url("/[1-120]"))
    assert (code, out) == (0, b"hello" * 120), err
    assert upstream.peak_running <= 3 and upstream.peak_connections <= 3
    assert len(set(upstream.targets())) == 120


def test_status_is_json_for_people_too(weir, upstream):
    curl(*fetch_arguments(weir, upstream.url()))
    code, out, _ = curl("http://127.0.0.1:%d/status" % weir.admin[1])
    assert code == 0 and upstream.host.encode() in out and out.endswith(b"\n")
