"""Fixtures for the tests of the image, which deploy/image-test builds and names by WEIR_IMAGE. They
run in a network of their own, where the ports that Weir has by default are free."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(TESTS / "integration")]

from container import IMAGE, Container  # noqa: E402
from fixtures import new_upstream  # noqa: E402, F401
from podman import podman  # noqa: E402


def pytest_configure():
    if not IMAGE:
        pytest.exit("WEIR_IMAGE names no image: run deploy/image-test", returncode=2)


@pytest.fixture(scope="session")
def image():
    """What the image says of itself."""
    return json.loads(podman("image", "inspect", IMAGE).stdout)[0]


@pytest.fixture(scope="session")
def root():
    """The directory in which the image's files are seen."""
    mounted = Path(podman("image", "mount", IMAGE).stdout.strip())
    yield mounted
    podman("image", "unmount", IMAGE)


@pytest.fixture(scope="session")
def shell():
    """A shell of another root, which runs on the image's libc: the image has none."""
    return os.environ["WEIR_IMAGE_SHELL"]


@pytest.fixture
def start(tmp_path):
    """Starts containers; each is asserted to end well."""
    started = []
    numbers = itertools.count()

    def start(*flags, **how):
        directory = tmp_path / f"container{next(numbers)}"
        directory.mkdir()
        started.append(Container(directory, flags, **how))
        return started[-1]

    yield start
    errors = []
    for container in started:
        try:
            container.stop()
        except (AssertionError, subprocess.SubprocessError) as error:
            errors.append(error)
        finally:
            container.remove()
    assert not errors, errors
