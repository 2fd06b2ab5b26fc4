"""deploy/compose.yaml, by the program that reads it; the Dockerfile and .dockerignore, by what they
name."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"


def compose_config(file):
    return subprocess.run(["docker-compose", "-f", file, "config"], capture_output=True, text=True,
                          timeout=60, check=False)


@pytest.fixture(scope="module")
def services():
    """The services, as an engine would be told of them."""
    done = compose_config(COMPOSE)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["services"]


@pytest.mark.parametrize("good, broken", [
    ("stop_grace_period:", "stop_grace:"),
    ("depends_on:\n      weir:", "depends_on:\n      wier:"),
    ("\n    read_only: true", "\n    read_only: perhaps"),
])
def test_a_mistake_in_the_compose_file_would_be_found(tmp_path, good, broken):
    text = COMPOSE.read_text()
    assert text.count(good) == 1
    (tmp_path / "compose.yaml").write_text(text.replace(good, broken))
    assert compose_config(tmp_path / "compose.yaml").returncode != 0


def test_compose_runs_weir_without_rights(services):
    weir = services["weir"]
    assert weir["user"] == "65532:65532" and weir["read_only"] is True
    assert weir["cap_drop"] == ["ALL"] and "no-new-privileges:true" in weir["security_opt"]
    assert weir["mem_limit"] and weir["pids_limit"]
    assert "ports" not in weir and "volumes" not in weir
    assert Path(weir["build"]["context"]).resolve() == ROOT


def test_compose_waits_as_long_as_a_drain_may_take(services):
    drain_s = int(re.search(r'"drain": "(\d+)s"', (ROOT / "README.md").read_text())[1])
    assert int(services["weir"]["stop_grace_period"].removesuffix("s")) > drain_s


def test_compose_gives_the_application_no_other_way_out(services):
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert set(services["weir"]["networks"]) == set(networks)
    assert [networks[name] for name in services["app"]["networks"]] == [{"internal": True}]
    assert services["app"]["depends_on"]["weir"]["condition"] == "service_healthy"
    port = services["weir"]["environment"]["WEIR_LISTEN"].rpartition(":")[2]
    variables = services["app"]["environment"]
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        assert variables[name] == f"http://weir:{port}"
    assert variables["no_proxy"] == variables["NO_PROXY"]
    assert "weir" in variables["no_proxy"].split(",")


def test_the_context_holds_what_the_dockerfile_copies():
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines()
               if line.startswith("!")}
    assert names, "the Dockerfile copies nothing"
    for name in names:
        assert name in allowed and (ROOT / name).exists(), name
