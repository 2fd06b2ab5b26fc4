"""apt against a repository of the test's own."""

import hashlib
import random

import pytest

from programs import proxy_url
from weir import limited

SETTINGS = """
Dir "{root}";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc "{root}/etc";
APT::Architecture "all";
APT::Architectures {{ "all"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::http::Proxy "{proxy}";
Acquire::https::Proxy "{proxy}";
Acquire::https::CaInfo "{ca}";
"""
PACKAGE = """Package: {name}
Version: 1.0
Architecture: all
Maintainer: Tester <tester@example.org>
Description: a package for a test
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The files of a repository of ten packages, by path. apt looks at sums, not into packages."""
    files, index = {}, ""
    for number in range(10):
        name = f"weir-test-{number}"
        data = random.Random(name).randbytes(50_000 + number)
        files[f"/pool/{name}_1.0_all.deb"] = data
        index += PACKAGE.format(name=name) + (
            f"Filename: pool/{name}_1.0_all.deb\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n")
    return {**files, "/flat/Packages": index.encode()}


def prepare(programs, root, weir, authority, url):
    """What one apt needs, below ROOT. Returns the environment that sends it there."""
    for part in ("state/lists/partial", "cache/archives/partial", "etc/sources.list.d",
                 "etc/preferences.d", "etc/apt.conf.d", "etc/trusted.gpg.d", "got"):
        (root / part).mkdir(parents=True)
    (root / "status").write_text("")
    (root / "etc/sources.list").write_text(f"deb [trusted=yes] {url} flat/\n")
    (root / "apt.conf").write_text(SETTINGS.format(root=root, proxy=proxy_url(weir), ca=authority.ca))
    return {"APT_CONFIG": str(root / "apt.conf")}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_updates_and_downloads(start_weir, new_site, programs, tmp_path, authority, repository, scheme):
    """Four at once, each of which sends requests ahead of the answers (pipelining)."""
    weir, site = start_weir(limited(2)), new_site(repository)
    roots = [tmp_path / f"apt{number}" for number in range(4)]
    names = [f"weir-test-{number}" for number in range(10)]
    environments = [prepare(programs, root, weir, authority, site.url("/", scheme)) for root in roots]
    for arguments in (["update", "-q"], ["download", "-q", *names]):
        apts = [programs.start("apt-get", *arguments, env=env, cwd=root / "got")
                for root, env in zip(roots, environments)]
        for apt in apts:
            programs.finish(apt)
    expected = {path.rpartition("/")[2]: data for path, data in repository.items() if "pool" in path}
    for root in roots:
        assert {file.name: file.read_bytes() for file in (root / "got").iterdir()} == expected
    site.check_limit(2)
    assert all(site.upstream.targets().count(path) == 4 for path in repository if "pool" in path)
