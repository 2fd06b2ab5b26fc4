"""Fixtures: every test has a service and upstreams of its own, and ends with all counters zero."""

import os
import ssl
import subprocess
import sys
import types

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from fixtures import new_upstream, pytest_configure, start_weir  # noqa: E402, F401
from weir import Weir  # noqa: E402


@pytest.fixture
def weir(start_weir):
    """A service with a limit of 3."""
    return start_weir()


class Shared:
    """One service for the many small tests of a module; a new one where a test has ended it."""

    def __init__(self, factory):
        self.factory = factory
        self.weir = None

    def get(self, config):
        if self.weir is None:
            self.weir = Weir(self.factory.mktemp("weir"), config)
        return self.weir

    def stop(self):
        weir, self.weir = self.weir, None
        if weir:
            weir.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    shared = Shared(tmp_path_factory)
    yield shared
    shared.stop()


@pytest.fixture
def shared_weir(shared, request):
    """The module's service, with the module's CONFIG where it has one; idle again after each test."""
    weir = shared.get(getattr(request.module, "CONFIG", None))
    yield weir
    try:
        weir.wait_idle()
    except (AssertionError, OSError):
        shared.stop()
        raise


@pytest.fixture
def upstream(new_upstream):
    """An upstream that answers at once."""
    return new_upstream()


@pytest.fixture
def held(new_upstream):
    """An upstream that holds every request until the test answers it."""
    upstream = new_upstream()
    upstream.hold = True
    return upstream


@pytest.fixture
def tls(tmp_path):
    """A TLS identity for 127.0.0.1."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=weir.test",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    return types.SimpleNamespace(context=context, certificate=str(certificate))
