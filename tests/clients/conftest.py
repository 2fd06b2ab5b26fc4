"""Fixtures for the tests with real clients: the harness of tests/integration, and a CA."""

import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

from fixtures import new_upstream, pytest_configure, start_weir  # noqa: E402, F401
from programs import Programs  # noqa: E402
from site_of_files import Site  # noqa: E402

REQUEST = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
AUTHORITY = """
[req]
distinguished_name = name
x509_extensions = extensions
[name]
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
"""
SERVER = """
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A CA made for these tests, and what it has signed for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("ca")
    names = ("ca.pem", "ca.key", "server.pem", "server.key", "server.csr", "ca.cnf", "server.cnf")
    ca, ca_key, server, key, asked, ca_config, server_config = (directory / name for name in names)
    ca_config.write_text(AUTHORITY)
    server_config.write_text(SERVER)
    for command in (
            [*REQUEST, "-x509", "-days", "2", "-subj", "/CN=Authority", "-config", ca_config,
             "-keyout", ca_key, "-out", ca],
            [*REQUEST, "-subj", "/CN=server.test", "-config", ca_config, "-keyout", key, "-out", asked],
            ["openssl", "x509", "-req", "-days", "2", "-in", asked, "-CA", ca, "-CAkey", ca_key,
             "-CAcreateserial", "-extfile", server_config, "-out", server]):
        subprocess.run(command, check=True, capture_output=True)
    return SimpleNamespace(ca=str(ca), certificate=str(server), key=str(key))


@pytest.fixture
def programs(tmp_path):
    """Runs the clients, in a home directory of their own."""
    home = tmp_path / "home"
    home.mkdir()
    programs = Programs(home)
    yield programs
    programs.end()


@pytest.fixture(scope="session")
def identity(authority):
    """The TLS of an upstream, which then speaks http and https on one port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate, authority.key)
    return context


@pytest.fixture
def new_site(new_upstream, identity):
    """Starts sites."""
    def start(files, **how):
        return Site(new_upstream(tls=identity), files, **how)

    return start
