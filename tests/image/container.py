"""Runs the image as a deployment would: read-only, without capabilities, bounded."""

import json
import os
import signal

from podman import podman
from waiting import DEADLINE_S
from weir import Weir, environment

IMAGE = os.environ.get("WEIR_IMAGE", "")
BUILD_IMAGE = os.environ.get("WEIR_BUILD_IMAGE", "")  # in which it was built: it has a shell, and curl

HARDENED = ["--pull=never", "--network=host", "--read-only", "--read-only-tmpfs=false",
            "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=64m", "--pids-limit=100",
            # podman leaves them to systemd; the tests run what the image says themselves.
            "--no-healthcheck"]

# The tests' upstreams are on loopback.
VARIABLES = {"WEIR_ALLOW_PRIVATE": "true"}

CONFIG = "/etc/weir/weir.json"


def run_options(variables, options):
    return [*HARDENED, *(f"--env={name}={value}" for name, value in variables.items()),
            *map(str, options)]


def run_image(*flags, variables=None, options=()):
    """Runs the image until it ends by itself."""
    options = ["--rm", "--timeout", int(DEADLINE_S), *options]
    return podman("run", *run_options(variables or {}, options), IMAGE, *flags, check=False)


def mounted(source, target):
    return f"--volume={source}:{target}:ro"


class Container(Weir):
    """The running image, and the clients of the test. CONFIG is mounted where the image looks for
    it; without one nothing is."""

    def __init__(self, directory, flags=(), config=None, variables=VARIABLES, options=()):
        self._set_up(directory, directory / "weir.json")
        self.name = f"weir-test-{os.getpid()}-{directory.name}"
        if config is not None:
            self.write_config(config)
            options = [*options, mounted(self.config_file, CONFIG)]
        self._run(["podman", "run", "--name", self.name, *run_options(variables, options), IMAGE,
                   *flags], environment())

    def write_config(self, config):
        self.config_file.write_text(json.dumps(config))
        self.config_file.chmod(0o644)

    def signal(self, number):
        self.told_to_end |= number in (signal.SIGTERM, signal.SIGINT)
        podman("kill", "--signal", signal.Signals(number).name, self.name)

    def exec(self, *command, check=True):
        return podman("exec", self.name, *command, check=check)

    def inspect(self):
        return json.loads(podman("container", "inspect", self.name).stdout)[0]

    def pid(self):
        return self.inspect()["State"]["Pid"]

    def kernel_says(self):
        """What /proc/PID/status says of the process."""
        with open(f"/proc/{self.pid()}/status", encoding="ascii") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def remove(self):
        podman("rm", "--force", "--time", "0", "--ignore", self.name)
