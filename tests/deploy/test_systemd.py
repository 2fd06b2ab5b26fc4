"""deploy/weir.service, by systemd's own tools. That Weir works in it is seen by deploy/package-test."""

import os
import re
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy/weir.service"
BINARY = os.environ.get("WEIR_BINARY", "")


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60,
                          check=False, env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"})


@pytest.fixture
def unit(tmp_path):
    """A copy whose program is there, changed as asked."""

    def make(old="", new=""):
        text = UNIT.read_text()
        assert old in text
        path = tmp_path / "weir.service"
        path.write_text(text.replace("/usr/bin/weir", BINARY).replace(old, new, 1))
        return str(path)

    return make


def complaints(path):
    """It exits with 0 whatever it finds, so what it prints counts."""
    done = analyze("verify", "--man=no", path)
    return done.stdout + done.stderr


def test_systemd_has_nothing_to_complain_of(unit):
    assert complaints(unit()) == ""


@pytest.mark.parametrize("old, new", [
    ("ProtectSystem=strict", "ProtectSystems=strict"),
    ("Type=notify", "Type=notifying"),
    ("@system-service", "@system-services"),
    ("ExecStart=", "ExecStart=/nowhere"),
])
def test_a_unit_that_is_spoilt_is_found(unit, old, new):
    assert complaints(unit(old, new)) != ""


def exposure(path):
    done = analyze("security", "--offline=true", path)
    match = re.search(r"Overall exposure level.*: ([0-9.]+) ", done.stdout)
    assert match, done.stdout + done.stderr
    return float(match[1])


def test_the_sandbox_is_tight(unit):
    assert exposure(unit()) <= 2.0


def test_a_sandbox_that_is_not_is_seen(unit):
    assert exposure(unit("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n")) > 2.0


def test_systemd_waits_longer_than_a_drain_takes():
    page = (UNIT.parent / "man/weir.json.5").read_text()
    drain_s = int(re.search(r"timeouts\.drain\n.*?Default:\n\.Qq (\d+)s", page, re.DOTALL)[1])
    stop_s = int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)[1])
    assert stop_s >= drain_s + 5
