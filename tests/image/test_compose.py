"""deploy/compose.yaml, as far as it can be without its engine: both services with the settings of the
file, in one network, the application asking example.com through Weir."""

from pathlib import Path

import pytest
import yaml

from container import BUILD_IMAGE, VARIABLES, mounted
from pki import Authority, server_context
from podman import podman

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
ROOTS = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(FILE.read_text())["services"]


def options_of(service):
    """What an engine makes of a service's settings."""
    options = ["--user", service["user"], "--memory", service["mem_limit"],
               "--pids-limit", service["pids_limit"]]
    options += [f"--cap-drop={name}" for name in service["cap_drop"]]
    options += [f"--security-opt={option}" for option in service["security_opt"]]
    return options + ["--read-only"] * service["read_only"]


def test_the_application_reaches_its_site_through_weir(start, new_upstream, services, tmp_path):
    authority = Authority(tmp_path)
    plain = new_upstream(port=80)
    secure = new_upstream(port=443, tls=server_context(authority.issue("site", san="DNS:example.com")))
    service, app = services["weir"], services["app"]
    weir = start(variables={**service["environment"], **VARIABLES},
                 options=[*options_of(service), "--add-host=example.com:127.0.0.1"])
    assert app["depends_on"] == {"weir": {"condition": "service_healthy"}}
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD" and weir.exec(*command).returncode == 0

    # In place of the application's own image: it has the same curl, but no other way to the site.
    done = podman("run", "--rm", "--pull=never", "--network=host", "--add-host=weir:127.0.0.1",
                  *(f"--env={name}={value}" for name, value in app["environment"].items()),
                  mounted(authority.file, ROOTS), "--entrypoint=curl", BUILD_IMAGE, *app["command"])

    assert sorted(done.stdout.split("\n")[:-1]) == sorted(
        [f"200 http://example.com/?{number}" for number in range(1, 10)] + ["200 https://example.com/"])
    assert len(plain.requests) == 9 and plain.peak_running <= 3 and len(secure.requests) == 1
    weir.log.wait(10)
    assert len(weir.log.find(form="forward")) == 9 and len(weir.log.find(form="connect")) == 1
