"""Python's urllib in threads, and aiohttp with no semaphore in sight."""

import asyncio
import concurrent.futures
import gc
import ssl
import urllib.parse
import urllib.request

import aiohttp
import pytest

from programs import CLOSING, POOLING, proxy_url
from site_of_files import numbered_files
from waiting import DEADLINE_S
from weir import limited


@pytest.fixture
def context(authority):
    return ssl.create_default_context(cafile=authority.ca)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_urllib(start_weir, new_site, context, scheme):
    weir, site = start_weir({**limited(3), **CLOSING}), new_site(numbered_files(40), gated=True)
    proxy = proxy_url(weir)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}),
                                         urllib.request.HTTPSHandler(context=context))

    def load(url):
        with opener.open(url, timeout=DEADLINE_S) as answer:
            return answer.read()

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        loads = [pool.submit(load, url) for url in site.urls(scheme)]
        site.open_when(weir, active=3, queued=37)
        assert [load.result() for load in loads] == list(site.files.values())
    site.check(3)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_urllib_takes_the_proxy_from_the_environment(start_weir, new_site, context, scheme, monkeypatch):
    weir, site = start_weir(), new_site({"/a": b"a"})
    monkeypatch.setenv(f"{scheme}_proxy", proxy_url(weir))
    monkeypatch.setenv("no_proxy", "")
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    with opener.open(site.url("/a", scheme), timeout=DEADLINE_S) as answer:
        assert answer.read() == b"a"
    weir.wait_host(site.upstream.host, admitted_total=1)


def gathered(urls, open_gate=None, **how):
    """The bodies of URLS, all asked for at once; OPEN_GATE runs beside that."""
    async def load(session, url):
        async with session.get(url, **how) as answer:
            assert answer.status == 200, (url, answer.status)
            return await answer.read()

    async def load_all():
        async with aiohttp.ClientSession() as session:
            loads = asyncio.gather(*(load(session, url) for url in urls))
            if open_gate:
                await asyncio.get_running_loop().run_in_executor(None, open_gate)
            return await loads

    bodies = asyncio.run(load_all())
    gc.collect()  # aiohttp may leave connections with TLS to the collector
    return bodies


def test_aiohttp_with_http_proxy(start_weir, new_site):
    weir, site = start_weir(limited(3)), new_site(numbered_files(40), gated=True)
    bodies = gathered(site.urls(), lambda: site.open_when(weir, active=3, queued=37),
                      proxy=proxy_url(weir))
    assert bodies == list(site.files.values())
    site.check(3)


def test_aiohttp_with_https_proxy(start_weir, new_site, context):
    weir, site = start_weir({**limited(3), **POOLING}), new_site(numbered_files(40))
    bodies = gathered(site.urls("https"), proxy=proxy_url(weir), ssl=context)
    assert bodies == list(site.files.values())
    site.check(3)


def test_aiohttp_with_fetch(start_weir, new_site):
    weir, site = start_weir(limited(3)), new_site(numbered_files(40), gated=True)
    urls = [f"{proxy_url(weir)}/fetch?url={urllib.parse.quote(url, safe='')}" for url in site.urls()]
    bodies = gathered(urls, lambda: site.open_when(weir, active=3, queued=37))
    assert bodies == list(site.files.values())
    site.check(3)
