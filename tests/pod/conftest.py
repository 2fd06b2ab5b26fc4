"""Fixtures for the tests that play the manifests as pods. deploy/image-test runs them, and
names the images by WEIR_IMAGE and, for the application's, WEIR_BUILD_IMAGE."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pod import Pod  # noqa: E402
from tools import shipped  # noqa: E402

IMAGES = {"weir": os.environ.get("WEIR_IMAGE", ""), "app": os.environ.get("WEIR_BUILD_IMAGE", "")}


def pytest_configure():
    if not all(IMAGES.values()):
        pytest.exit("WEIR_IMAGE and WEIR_BUILD_IMAGE name no images: run deploy/image-test", returncode=2)


@pytest.fixture(scope="session")
def objects():
    return shipped()


@pytest.fixture
def create(objects, tmp_path):
    """Creates the pod of the sample of that name."""
    created = []

    def create(name):
        things = {thing["metadata"]["name"]: thing for thing in objects}
        config_maps = [thing for thing in objects if thing["kind"] == "ConfigMap"]
        created.append(Pod(things[name], config_maps, IMAGES, tmp_path / f"{name}.yaml"))
        return created[-1]

    yield create
    for pod in created:
        pod.remove()
