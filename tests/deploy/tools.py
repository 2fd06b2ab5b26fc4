"""Where the files for deployment are, and the tools that judge them."""

import json
import os
import subprocess
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MODULES = ROOT / "build" / "deploy" / "node_modules"  # tests/run puts them there
DEADLINE_S = 120

WITHOUT_NATIVE = KUBERNETES / "job-without-native-sidecar.yaml"
POD_NAMES = ("app", "fetch", "fetch-and-quit")  # the samples


def run(*command, text=None, env=None):
    """Runs a tool to its end, with TEXT as its input. One that is missing is an error: nothing is
    left out."""
    return subprocess.run([str(word) for word in command], input=text or "", env=env, text=True,
                          capture_output=True, timeout=DEADLINE_S, check=False)


def output_of(*command, text=None):
    """What a tool prints that must succeed."""
    done = run(*command, text=text)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def node(*command, text=None):
    """Runs a program of npm's."""
    return run("node", *command, text=text, env={**os.environ, "NODE_PATH": str(MODULES)})


def kustomized(directory):
    """The objects that kubectl makes of DIRECTORY."""
    return list(yaml.safe_load_all(output_of("kubectl", "kustomize", directory)))


def wrong_in(objects):
    """What the schemas of Kubernetes say against OBJECTS: a line for each that is wrong."""
    done = node(HERE / "kubernetes.cjs", text=json.dumps(objects))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Looking into manifests.


def shipped():
    """Every object that is meant to be applied."""
    return [*kustomized(KUBERNETES), yaml.safe_load(WITHOUT_NATIVE.read_text())]


def of_kind(kind, objects):
    return next(thing for thing in objects if thing["kind"] == kind)


def pod_of(thing):
    return thing["spec"]["template"]["spec"]


def containers_of(pod):
    return [*pod.get("initContainers", []), *pod["containers"]]


def container_of(pod, name):
    found = [container for container in containers_of(pod) if container["name"] == name]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def variables(container):
    return {entry["name"]: entry["value"] for entry in container["env"]}
