"""Fixtures for the tests of the files for deployment: the harness of tests/integration, for what is
to be seen with the binary, and copies to be spoilt."""

import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

from fixtures import new_upstream, pytest_configure, start_weir  # noqa: E402, F401
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
