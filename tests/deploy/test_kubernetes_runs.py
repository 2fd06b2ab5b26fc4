"""What the manifests tell their containers to do, done here: the sidecar's by the binary, the
application's by this machine's shell and curl."""

import json
import signal
import subprocess

import pytest
from tools import KUBERNETES, POD_NAMES, container_of, of_kind, variables
from waiting import DEADLINE_S
from weir import BINARY, environment, run_weir

AT_ONCE = 9
LIMIT = 3


class Sidecar:
    """A Weir of the test's in the place of a pod's."""

    def __init__(self, weir, pod):
        self.weir = weir
        self.pod = pod
        self.app = None

    def here(self, text):
        """TEXT with the test's addresses for the pod's."""
        for port, address in ((8080, self.weir.data), (9901, self.weir.admin)):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{address[1]}")
        return text

    def probe(self, kind):
        """What the container's probe says: whether it is good."""
        command = container_of(self.pod, "weir")[kind]["exec"]["command"]
        done = subprocess.run([BINARY, *map(self.here, command[1:])], check=False, text=True,
                              env=environment({"WEIR_ADMIN": self.here("127.0.0.1:9901")}),
                              capture_output=True, timeout=DEADLINE_S)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    def start_app(self, url):
        app = container_of(self.pod, "app")
        told = {name: self.here(value) for name, value in variables(app).items()}
        self.app = subprocess.Popen([*app["command"], *map(self.here, app["args"])], text=True,
                                    env=environment({**told, "URL": url}), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end_app(self):
        """Its output and how it ended."""
        output, _ = self.app.communicate(timeout=DEADLINE_S)
        return output, self.app.returncode


@pytest.fixture
def start(start_weir, objects, pods):
    """Starts the sidecar of a sample, with the settings that it has there."""
    started = []

    def start(name):
        sidecar = container_of(pods[name], "weir")
        config = {}
        if "volumeMounts" in sidecar:
            config = json.loads(of_kind("ConfigMap", objects)["data"]["weir.json"])
        env = variables(sidecar) if "env" in sidecar else {}
        started.append(Sidecar(start_weir(config, env=env), pods[name]))
        return started[-1]

    yield start
    for sidecar in started:
        if sidecar.app is not None and sidecar.app.poll() is None:
            sidecar.app.kill()
            sidecar.app.wait()


@pytest.fixture
def upstream(new_upstream):
    """Not at 127.0.0.1, which goes past Weir."""
    upstream = new_upstream(address="127.0.0.2")
    upstream.hold = True
    return upstream


def answer_all(upstream, sidecar, status=200):
    """Answers what the application asks for; before, as many run as may and the others wait."""
    sidecar.weir.wait_host(upstream.host, active=LIMIT, queued=AT_ONCE - LIMIT)
    held = upstream.take(LIMIT)
    for _ in range(AT_ONCE - LIMIT):
        held.pop(0).answer(status)
        held.append(upstream.next())
    for request in held:
        request.answer(status)
    assert upstream.peak_running == upstream.peak_connections == LIMIT


def test_the_configuration_is_good():
    done = run_weir("--config", str(KUBERNETES / "weir.json"), "--check-config")
    assert done.returncode == 0, done.stderr


def test_probes_are_good_while_queues_are_full_and_say_when_it_drains(start, upstream):
    sidecar = start("app")
    for _ in range(LIMIT + 1):
        sidecar.weir.ask(upstream.url())
    held = upstream.take(LIMIT)
    sidecar.weir.wait_host(upstream.host, active=LIMIT, queued=1)
    assert all(map(sidecar.probe, ("startupProbe", "readinessProbe", "livenessProbe")))
    sidecar.weir.signal(signal.SIGTERM)
    sidecar.weir.events.wait(event="draining")
    assert not sidecar.probe("readinessProbe")
    assert sidecar.probe("livenessProbe")
    for request in held:
        request.answer()
    upstream.next().answer()
    assert sidecar.weir.wait_exit() == 0


@pytest.mark.parametrize("name", POD_NAMES)
def test_the_application_goes_through_the_sidecar(start, upstream, name):
    sidecar = start(name)
    sidecar.start_app(upstream.url())
    answer_all(upstream, sidecar)
    if name == "app":  # which goes on until it is told to end
        lines = [sidecar.app.stdout.readline() for _ in range(AT_ONCE)]
        sidecar.app.terminate()
    else:
        lines = []
    output, code = sidecar.end_app()
    assert code == 0, output
    lines += output.splitlines()
    assert sum(line.startswith("200 after ") for line in lines) == AT_ONCE, lines
    if name == "fetch-and-quit":
        sidecar.weir.told_to_end = True
        assert sidecar.weir.wait_exit() == 0


@pytest.mark.parametrize("name", ["fetch", "fetch-and-quit"])
def test_a_job_that_fails_says_so_and_ends(start, upstream, name):
    sidecar = start(name)
    sidecar.start_app(upstream.url())
    answer_all(upstream, sidecar, status=404)
    output, code = sidecar.end_app()
    assert code == 22, output  # curl's word for it
    if name == "fetch-and-quit":
        sidecar.weir.told_to_end = True
        assert sidecar.weir.wait_exit() == 0
