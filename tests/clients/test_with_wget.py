"""wget, one file after the other in each of several processes."""

import pytest

from programs import CLOSING, proxies
from site_of_files import numbered_files
from weir import limited


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_many_at_once(start_weir, new_site, programs, tmp_path, authority, scheme):
    weir, site = start_weir({**limited(2), **CLOSING}), new_site(numbered_files(24), gated=True)
    paths = list(site.files)
    wgets = []
    for number in range(6):
        part = tmp_path / f"list{number}"
        part.write_text("".join(site.url(path, scheme) + "\n" for path in paths[number::6]))
        wgets.append(programs.start("wget", "--no-config", "--no-verbose", "--no-hsts", "--tries=1",
                                    f"--ca-certificate={authority.ca}", "-P", tmp_path / "got",
                                    "-i", part, env=proxies(weir)))
    site.open_when(weir, active=2, queued=4)
    for wget in wgets:
        programs.finish(wget)
    assert {"/" + file.name: file.read_bytes() for file in (tmp_path / "got").iterdir()} == site.files
    site.check(2)
