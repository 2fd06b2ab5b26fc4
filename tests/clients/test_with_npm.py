"""npm installing from a registry of the test's own."""

import base64
import hashlib
import io
import json
import random
import tarfile

import pytest

from programs import POOLING, proxy_url
from weir import limited

COUNT = 12


def packed(name):
    """A package as npm publishes it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for path, data in (("package.json", json.dumps({"name": name, "version": "1.0.0"}).encode()),
                           ("data", random.Random(name).randbytes(50_000))):
            entry = tarfile.TarInfo("package/" + path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def registry(names, base):
    """What a registry at the URL BASE serves for NAMES, by path."""
    files = {}
    for name in names:
        data = packed(name)
        tarball = f"/{name}/-/{name}-1.0.0.tgz"
        files[tarball] = data
        files[f"/{name}"] = json.dumps({
            "name": name, "dist-tags": {"latest": "1.0.0"},
            "versions": {"1.0.0": {"name": name, "version": "1.0.0", "dist": {
                "tarball": base + tarball,
                "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode(),
            }}},
        }).encode()
    return files


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_install(start_weir, new_site, programs, tmp_path, authority, scheme):
    weir = start_weir({**limited(3), **POOLING})
    names = [f"weir-test-{number}" for number in range(COUNT)]
    site = new_site({})
    site.files = registry(names, site.url("", scheme))
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text(json.dumps(
        {"name": "project", "version": "1.0.0", "dependencies": {name: "1.0.0" for name in names}}))
    (project / ".npmrc").write_text(
        f"registry={site.url('/', scheme)}\nproxy={proxy_url(weir)}\nhttps-proxy={proxy_url(weir)}\n"
        f"noproxy=\ncafile={authority.ca}\naudit=false\nfund=false\nupdate-notifier=false\n"
        f"fetch-retries=0\n")
    programs.run("npm", "install", cwd=project, env={"NPM_CONFIG_USERCONFIG": "/dev/null",
                                                     "NPM_CONFIG_GLOBALCONFIG": "/nowhere"})
    for name in names:
        installed = project / "node_modules" / name / "data"
        assert installed.read_bytes() == random.Random(name).randbytes(50_000)
    site.check_limit(3)
    site.check_requests()
