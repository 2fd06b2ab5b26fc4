"""A certificate authority of a test's own, made with the openssl command."""

import ssl
import subprocess
import types

CONFIG = """
[ca]
default_ca = own
[own]
database = {0}/index.txt
new_certs_dir = {0}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """`file` holds its certificate."""

    def __init__(self, directory, name="authority"):
        self.directory = directory / name
        self.directory.mkdir()
        self.config = self.directory / "ca.cnf"
        self.config.write_text(CONFIG.format(self.directory))
        (self.directory / "index.txt").touch()
        self.key, self.certificate = self.directory / "ca.key", self.directory / "ca.pem"
        self.file = str(self.certificate)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "2", "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate,
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issue(self, name, san="IP:127.0.0.1", expired=False):
        """A certificate and key with the subject NAME."""
        request, certificate, key = (self.directory / f"{name}.{end}" for end in ("csr", "pem", "key"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                f"/CN={name}", "-addext", f"subjectAltName={san}", "-keyout", key, "-out", request)
        until = ("20200102000000Z" if expired else "20990102000000Z")
        openssl("ca", "-batch", "-notext", "-config", self.config, "-cert", self.certificate,
                "-keyfile", self.key, "-in", request, "-out", certificate,
                "-startdate", "20200101000000Z", "-enddate", until)
        return types.SimpleNamespace(certificate=str(certificate), key=str(key))


def server_context(identity, clients=None, most=None):
    """How a server speaks TLS as IDENTITY: CLIENTS is the authority of its clients, whom it asks for a
    certificate then; MOST its highest version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.file)
    if most:
        context.maximum_version = most
    return context
