"""Plays a manifest as a pod that has no network but its loopback: podman in the place of the kubelet,
which these tests do by hand where podman cannot."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import yaml

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / folder) for folder in ("integration", "deploy", "image")]

from podman import podman  # noqa: E402
from tools import container_of, containers_of, pod_of  # noqa: E402
from waiting import DEADLINE_S, wait_until  # noqa: E402

UPSTREAM_PORT = 8000


def set_variable(container, name, value):
    env = [entry for entry in container.get("env", []) if entry["name"] != name]
    container["env"] = [*env, {"name": name, "value": value}]


def as_pod(thing, images):
    """THING's pod as podman 4.3 takes it. It waits for a sidecar to end, runs no probes, and knows
    no Job."""
    spec = copy.deepcopy(pod_of(thing))
    name = thing["metadata"]["name"]
    # The pod's own name, where the upstream is: an address that Weir does not ask by itself.
    set_variable(container_of(spec, "app"), "URL", f"http://{name}:{UPSTREAM_PORT}/")
    set_variable(container_of(spec, "weir"), "WEIR_ALLOW_PRIVATE", "true")
    spec["containers"] = containers_of(spec)
    spec.pop("initContainers", None)
    for container in spec["containers"]:
        container["image"] = images[container["name"]]
        container["imagePullPolicy"] = "Never"
        for key in ("restartPolicy", "startupProbe", "readinessProbe", "livenessProbe"):
            container.pop(key, None)
    spec["restartPolicy"] = "Never"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Pod:
    """The pod of THING, with its own ConfigMaps; nothing in it is started yet."""

    def __init__(self, thing, config_maps, images, file):
        self.spec = pod_of(thing)
        self.name = thing["metadata"]["name"]
        self.file = file
        self.upstream = None
        file.write_text(yaml.safe_dump_all([*config_maps, as_pod(thing, images)]))
        podman("play", "kube", "--network", "none", "--log-driver", "k8s-file", "--start=false", file)

    def remove(self):
        if self.upstream is not None:
            self.upstream.kill()
            self.upstream.communicate()
        podman("play", "kube", "--down", self.file, check=False)

    # The kubelet's part.

    def start(self, name):
        podman("start", f"{self.name}-{name}")

    def start_sidecar(self):
        """Starts it, and waits as long as the application would."""
        self.start("weir")
        wait_until(lambda: self.probe("startupProbe"), lambda: f"it starts: {self.log('weir')}")

    def probe(self, kind):
        command = container_of(self.spec, "weir")[kind]["exec"]["command"]
        return self.exec("weir", *command, check=False).returncode == 0

    def end(self, name):
        """Tells the container to end, and returns its exit code; as long as the kubelet's patience
        lasts."""
        patience_s = self.spec.get("terminationGracePeriodSeconds", 30)
        podman("stop", "--time", patience_s, f"{self.name}-{name}")
        return self.wait(name)

    def wait(self, name):
        """The exit code of a container that ends by itself."""
        return int(podman("wait", f"{self.name}-{name}").stdout)

    # Looking into it.

    def exec(self, name, *command, check=True):
        return podman("exec", f"{self.name}-{name}", *command, check=check)

    def log(self, name):
        return podman("logs", f"{self.name}-{name}").stdout.splitlines()

    def inspect(self, name):
        return json.loads(podman("container", "inspect", f"{self.name}-{name}").stdout)[0]

    def kernel_says(self, name):
        """What /proc/PID/status says of the container's first process."""
        text = Path(f"/proc/{self.inspect(name)['State']['Pid']}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def start_upstream(self, status=200, beside="weir"):
        """An upstream on the pod's loopback, which answers when as many ask as may at once; it finds
        the pod by the container BESIDE, which runs."""
        pid = self.inspect(beside)["State"]["Pid"]
        self.upstream = subprocess.Popen(
            ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable,
             str(Path(__file__).with_name("upstream_in_pod.py")), str(UPSTREAM_PORT), str(status)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.upstream.stdout.readline() == "listening\n"

    def end_upstream(self):
        """How many requests it has seen, and how many at once."""
        output, _ = self.upstream.communicate("", timeout=DEADLINE_S)
        return tuple(map(int, output.split()))
