"""The fixtures that the folders of tests share; the conftest of each imports those that it uses."""

import os

import pytest

from upstream import Upstream
from weir import BINARY, Weir


def pytest_configure():
    if not BINARY or not os.access(BINARY, os.X_OK):
        pytest.exit("WEIR_BINARY names no program", returncode=2)


@pytest.fixture
def start_weir(tmp_path):
    """Starts services; each is asserted to end well."""
    started = []

    def start(config=None, **how):
        directory = tmp_path / f"weir{len(started)}"
        directory.mkdir()
        started.append(Weir(directory, config, **how))
        return started[-1]

    yield start
    errors = []
    for weir in started:
        try:
            weir.stop()
        except AssertionError as error:
            errors.append(error)
    assert not errors, errors


@pytest.fixture
def new_upstream():
    """Starts upstreams."""
    started = []

    def start(**how):
        started.append(Upstream(**how))
        return started[-1]

    yield start
    for upstream in started:
        upstream.stop()
