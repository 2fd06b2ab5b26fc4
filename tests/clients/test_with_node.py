"""Node's clients that pool: undici's and Node's own fetch with a ProxyAgent, and hpagent."""

import hashlib
import json
from pathlib import Path

import pytest

from programs import proxy_url
from site_of_files import numbered_files
from weir import limited

HERE = Path(__file__).parent
MODULES = HERE.parent.parent / "build" / "clients" / "node_modules"


def start(programs, kind, weir, authority, urls):
    assert MODULES.is_dir(), "npm's packages are not installed; `tests/run --installs` does it"
    return programs.start("node", HERE / "parallel.cjs", kind, proxy_url(weir), authority.ca, *urls,
                          env={"NODE_PATH": str(MODULES)})


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["undici", "global", "hpagent"])
def test_many_at_once(start_weir, new_site, programs, authority, kind, scheme):
    weir, site = start_weir(limited(4)), new_site(numbered_files(40), gated=True)
    node = start(programs, kind, weir, authority, site.urls(scheme))
    site.open_when(weir, active=4, queued=36)
    sums = json.loads(programs.finish(node))
    assert sums == [hashlib.sha256(body).hexdigest() for body in site.files.values()]
    site.check(4)
