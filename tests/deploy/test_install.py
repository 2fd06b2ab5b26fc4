"""`cmake --install`: what goes where, below whatever prefix. cpack: deploy/package-test."""

import os
import re
import subprocess
from pathlib import Path

BINARY = Path(os.environ.get("WEIR_BINARY", ""))

INSTALLED = {
    "bin/weir", "share/man/man1/weir.1", "share/man/man5/weir.json.5", "lib/systemd/system/weir.service",
    "share/doc/weir/README.md", "share/doc/weir/SECURITY.md", "share/doc/weir/CHANGELOG.md",
    "share/doc/weir/LICENSE", "share/doc/weir/examples/weir.json",
}


def install(prefix, destination=None):
    environment = {key: value for key, value in os.environ.items() if key != "DESTDIR"}
    if destination:
        environment["DESTDIR"] = str(destination)
    done = subprocess.run(["cmake", "--install", str(BINARY.parent), "--prefix", str(prefix)],
                          capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def files_below(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def unit_of(root):
    return (root / "lib/systemd/system/weir.service").read_text()


def test_everything_is_below_the_prefix(tmp_path):
    install(tmp_path)
    assert files_below(tmp_path) == INSTALLED | {"etc/weir/weir.json"}
    assert f"ExecStart={tmp_path}/bin/weir\n" in unit_of(tmp_path)
    assert f"WEIR_CONFIG={tmp_path}/etc/weir/weir.json\n" in unit_of(tmp_path)
    assert "/usr/bin/weir" not in unit_of(tmp_path)


def test_the_configuration_of_usr_is_in_etc(tmp_path):
    install("/usr", tmp_path)
    assert files_below(tmp_path) == {f"usr/{name}" for name in INSTALLED} | {"etc/weir/weir.json"}
    source = Path(__file__).parents[2] / "deploy/weir.service"
    assert unit_of(tmp_path / "usr") == source.read_text()


def test_a_configuration_that_is_there_is_kept(tmp_path):
    mine = tmp_path / "etc/weir/weir.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("{}")
    install(tmp_path)
    assert mine.read_text() == "{}"


def test_what_is_installed_works(tmp_path):
    install(tmp_path)
    checked = subprocess.run([tmp_path / "bin/weir", "--config", tmp_path / "etc/weir/weir.json",
                              "--check-config"], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
    version = subprocess.run([tmp_path / "bin/weir", "--version"], capture_output=True, text=True,
                             timeout=60, check=True).stdout.split()[1]
    page = (tmp_path / "share/man/man1/weir.1").read_text()
    assert f'.Os "Weir {version}"' in page
    assert re.search(r"^\.Dd [A-Z][a-z]+ \d+, \d{4}$", page, re.MULTILINE)
