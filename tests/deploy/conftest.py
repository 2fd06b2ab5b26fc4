"""Fixtures for the tests of the files for deployment: the harness of tests/integration, for what is
to be seen with the binary, and copies to be spoilt."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

INTEGRATION = Path(__file__).parent.parent / "integration"
sys.path.insert(0, os.path.dirname(__file__))

# By its path, since both folders have a conftest. It makes the harness importable.
spec = importlib.util.spec_from_file_location("integration_fixtures", INTEGRATION / "conftest.py")
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)

new_upstream = fixtures.new_upstream
pytest_configure = fixtures.pytest_configure
start_weir = fixtures.start_weir

from tools import KUBERNETES, POD_NAMES, pod_of, shipped  # noqa: E402


@pytest.fixture
def kubernetes(tmp_path):
    """A copy of deploy/kubernetes."""
    return Path(shutil.copytree(KUBERNETES, tmp_path / "kubernetes"))


@pytest.fixture(scope="session")
def objects():
    return shipped()


@pytest.fixture(scope="session")
def pods(objects):
    """The pods of the samples by their names."""
    found = {thing["metadata"]["name"]: pod_of(thing) for thing in objects
             if thing["kind"] != "ConfigMap"}
    assert tuple(sorted(found)) == POD_NAMES
    return found
