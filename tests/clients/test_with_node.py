"""Node's clients that pool: undici's and Node's own fetch with a ProxyAgent, and hpagent."""

import hashlib
import json
from pathlib import Path

import pytest

from programs import POOLING, proxy_url
from site_of_files import numbered_files
from weir import limited

HERE = Path(__file__).parent
MODULES = HERE.parent.parent / "build" / "clients" / "node_modules"


def start(programs, kind, weir, authority, urls):
    assert MODULES.is_dir(), "npm's packages are not installed; `tests/run --installs` does it"
    return programs.start("node", HERE / "parallel.cjs", kind, proxy_url(weir), authority.ca, *urls,
                          env={"NODE_PATH": str(MODULES)})


def check_many_at_once(weir, site, programs, kind, authority, scheme):
    node = start(programs, kind, weir, authority, site.urls(scheme))
    sums = json.loads(programs.finish(node))
    assert sums == [hashlib.sha256(body).hexdigest() for body in site.files.values()]
    site.check(4)


@pytest.mark.parametrize("kind, scheme", [("undici", "http"), ("undici", "https"), ("global", "https"),
                                          ("hpagent", "https")])
def test_many_at_once(start_weir, new_site, programs, authority, kind, scheme):
    """Those of undici use tunnels for http too."""
    weir, site = start_weir({**limited(4), **POOLING}), new_site(numbered_files(40))
    check_many_at_once(weir, site, programs, kind, authority, scheme)


def test_many_at_once_with_nothing_configured(start_weir, new_site, programs, authority):
    """Weir's own timeouts let them all in before a queue_timeout refuses the last."""
    weir, site = start_weir(limited(4)), new_site(numbered_files(40))
    check_many_at_once(weir, site, programs, "hpagent", authority, "https")
