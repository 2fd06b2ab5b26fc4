"""curl, as a client of every form that Weir offers it."""

import pytest

from programs import CLOSING, POOLING, proxies, proxy_url
from site_of_files import numbered_files
from weir import limited


def load_at_once(programs, directory, weir, authority, urls):
    """Starts one curl that loads all URLS in parallel, into the files whose names are returned."""
    names = [directory / f"file{number}" for number in range(len(urls))]
    config = directory / "curlrc"
    config.write_text("".join(f'url = "{url}"\noutput = "{name}"\n' for url, name in zip(urls, names)))
    curl = programs.start("curl", "-sS", "--fail", "--parallel", "--parallel-immediate",
                          "--parallel-max", str(len(urls)), "--cacert", authority.ca, "-K", config,
                          env=proxies(weir))
    return curl, names


def test_http_proxy(start_weir, new_site, programs, tmp_path, authority):
    weir, site = start_weir(limited(3)), new_site(numbered_files(40), gated=True)
    curl, names = load_at_once(programs, tmp_path, weir, authority, site.urls())
    site.open_when(weir, active=3, queued=37)
    programs.finish(curl)
    assert [name.read_bytes() for name in names] == list(site.files.values())
    site.check(3)


def test_https_proxy(start_weir, new_site, programs, tmp_path, authority):
    weir, site = start_weir({**limited(3), **POOLING}), new_site(numbered_files(40))
    curl, names = load_at_once(programs, tmp_path, weir, authority, site.urls("https"))
    programs.finish(curl)
    assert [name.read_bytes() for name in names] == list(site.files.values())
    site.check(3)


def test_tunnels_and_fetches_share_one_limit(start_weir, new_site, programs, tmp_path, authority):
    weir, site = start_weir({**limited(3), **POOLING}), new_site(numbered_files(20))
    urls = [site.url(path, "https" if number % 2 else "http") for number, path in enumerate(site.files)]
    curl, names = load_at_once(programs, tmp_path, weir, authority, urls)
    programs.finish(curl)
    assert [name.read_bytes() for name in names] == list(site.files.values())
    site.check(3)


def test_fetch(start_weir, new_site, programs):
    """curl escapes what it is given: --data-urlencode needs one transfer for each."""
    weir, site = start_weir(limited(3)), new_site(numbered_files(12), gated=True)
    curls = [programs.start("curl", "-sS", "--fail", "-G", "--data-urlencode", f"url={url}",
                            proxy_url(weir) + "/fetch") for url in site.urls()]
    site.open_when(weir, active=3, queued=9)
    assert [programs.finish(curl) for curl in curls] == list(site.files.values())
    site.check(3)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_upload_through_a_tunnel(start_weir, new_site, programs, tmp_path, authority, scheme):
    weir, site = start_weir(limited(1)), new_site({"/up": b"thanks"})
    body = numbered_files(1)["/0"]
    (tmp_path / "body").write_bytes(body)
    flags = ["--proxytunnel", "--cacert", authority.ca, "-T", tmp_path / "body"]
    assert programs.run("curl", "-sS", *flags, site.url("/up", scheme), env=proxies(weir)) == b"thanks"
    assert site.upstream.next().body == body
    site.check(1)


def test_a_refusal_is_seen(start_weir, new_site, programs, authority):
    """Before the tunnel stands its answer is a problem, whose status curl shows."""
    weir, site = start_weir({**limited(1, queue=0), **CLOSING}), new_site({"/a": b"a"}, gated=True)
    first = programs.start("curl", "-sS", "--cacert", authority.ca, site.url("/a", "https"), env=proxies(weir))
    weir.wait_host(site.upstream.host, active=1)
    second = programs.start("curl", "-sS", "-w", "%{http_connect}", "--cacert", authority.ca,
                            site.url("/a", "https"), env=proxies(weir))
    out, _ = second.communicate(timeout=60)
    assert (second.returncode, out) == (56, b"503")
    site.open()
    assert programs.finish(first) == b"a"
    site.check(1)
