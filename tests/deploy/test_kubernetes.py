"""The manifests: right by the schemas of Kubernetes, and by what is promised of them."""

import copy
import re

import pytest
import yaml
from tools import (KUBERNETES, POD_NAMES, WITHOUT_NATIVE, container_of, containers_of, kustomized,
                   of_kind, output_of, pod_of, variables, wrong_in)

PATCH = KUBERNETES / "sidecar.yaml"
IMAGE = "weir:0.1.0"

# An application that knows nothing of Weir, with all that a patch could take from it.
FOREIGN = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      terminationGracePeriodSeconds: 300
      volumes: [{name: own, emptyDir: {}}]
      initContainers: [{name: first, image: own}]
      containers:
        - {name: app, image: own, env: [{name: OWN, value: kept}]}
        - {name: other, image: own}
"""


@pytest.fixture(scope="module")
def patch():
    return pod_of(yaml.safe_load(PATCH.read_text()))


# What the API takes.


def test_the_schemas_find_nothing_wrong(objects):
    assert sorted(thing["kind"] for thing in objects) == ["ConfigMap", "Deployment", "Job", "Job"]
    assert wrong_in(objects) == []


def spoil_type(deployment):
    deployment["spec"]["replicas"] = "one"


def spoil_required(deployment):
    del pod_of(deployment)["containers"]


def spoil_quantity(deployment):
    pod_of(deployment)["containers"][0]["resources"]["limits"]["memory"] = "32 megabytes"


def spoil_field(deployment):
    pod_of(deployment)["containers"][0]["securityContext"]["readonlyRootFilesystem"] = True


def spoil_place(deployment):
    pod_of(deployment)["readinessProbe"] = {"exec": {"command": ["true"]}}


def spoil_version(deployment):
    deployment["apiVersion"] = "apps/v2"


@pytest.mark.parametrize("spoil", [spoil_type, spoil_required, spoil_quantity, spoil_field,
                                   spoil_place, spoil_version])
def test_the_schemas_refuse_a_broken_copy(objects, spoil):
    good = of_kind("Deployment", objects)
    broken = copy.deepcopy(good)
    spoil(broken)
    assert len(wrong_in([good, broken])) == 1


def test_what_is_named_is_there(objects):
    maps = {thing["metadata"]["name"] for thing in objects if thing["kind"] == "ConfigMap"}
    for thing in objects:
        if thing["kind"] == "ConfigMap":
            continue
        pod = pod_of(thing)
        volumes = {volume["name"]: volume["configMap"]["name"] for volume in pod.get("volumes", [])}
        mounted = [mount["name"] for container in containers_of(pod)
                   for mount in container.get("volumeMounts", [])]
        assert set(volumes.values()) <= maps
        assert sorted(mounted) == sorted(volumes)
        if thing["kind"] == "Deployment":
            labels = thing["spec"]["template"]["metadata"]["labels"]
            assert thing["spec"]["selector"]["matchLabels"].items() <= labels.items()
        else:
            assert pod["restartPolicy"] == "Never"


def test_another_configuration_is_a_rollout(kubernetes):
    def name_in_use():
        objects = kustomized(kubernetes)
        name = of_kind("ConfigMap", objects)["metadata"]["name"]
        assert re.fullmatch("weir-[a-z0-9]{10}", name)
        assert pod_of(of_kind("Deployment", objects))["volumes"] == [
            {"name": "weir", "configMap": {"name": name}}]
        return name

    before = name_in_use()
    file = kubernetes / "weir.json"
    file.write_text(file.read_text().replace('"limit": 10', '"limit": 11'))
    assert name_in_use() != before


def test_another_configuration_leaves_the_jobs_alone(kubernetes):
    """A Job's pod cannot be changed: applying it once more would fail."""
    def jobs():
        return [thing for thing in kustomized(kubernetes) if thing["kind"] == "Job"]

    before = jobs()
    (kubernetes / "weir.json").write_text("{}")
    assert jobs() == before != []


def test_the_image_is_set_in_one_place(kubernetes):
    file = kubernetes / "kustomization.yaml"
    file.write_text(file.read_text().replace("newName: weir", "newName: registry.example.com/weir"))
    images = [container_of(pod_of(thing), "weir")["image"] for thing in kustomized(kubernetes)
              if thing["kind"] != "ConfigMap"]
    assert images == ["registry.example.com/weir:0.1.0"] * 2


# What every pod keeps to.


@pytest.mark.parametrize("name", POD_NAMES)
def test_it_keeps_to_the_restricted_standard(pods, name):
    pod = pods[name]
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all(volume.keys() == {"name", "configMap"} for volume in pod.get("volumes", []))
    for container in containers_of(pod):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "procMount", "seLinuxOptions"} & own.keys()
        whole = {**pod["securityContext"], **own}
        assert whole["runAsNonRoot"] is True
        assert whole["runAsUser"] > 0 and whole["runAsGroup"] > 0
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all("hostPort" not in port for port in container.get("ports", []))


def test_the_sidecar_alone_keeps_to_it_too(pods, patch):
    """Somebody else's pod may say nothing of its own."""
    own = container_of(patch, "weir")["securityContext"]
    assert own.items() >= pods["app"]["securityContext"].items()


@pytest.mark.parametrize("name", POD_NAMES)
def test_everybody_has_requests_and_limits(pods, name):
    for container in containers_of(pods[name]):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests.keys() == limits.keys() == {"cpu", "memory"}
        assert requests["memory"] == limits["memory"]


# The sidecar.


@pytest.mark.parametrize("name", ["app", "fetch"])
def test_the_sidecar_is_native_and_first(pods, name):
    first = pods[name]["initContainers"][0]
    assert (first["name"], first["restartPolicy"]) == ("weir", "Always")


def test_the_old_sidecar_is_a_container_like_the_other(pods):
    pod = pods["fetch-and-quit"]
    assert "initContainers" not in pod
    assert "restartPolicy" not in container_of(pod, "weir")
    # Where the application is killed nobody tells Weir to end.
    assert yaml.safe_load(WITHOUT_NATIVE.read_text())["spec"]["activeDeadlineSeconds"] > 0


def test_the_sidecar_is_the_same_everywhere(pods, patch):
    """But for where its settings come from, and for what makes it native."""
    def alike(name, *except_for):
        sidecar = dict(container_of(pods[name], "weir"))
        for key in except_for:
            sidecar.pop(key)
        return sidecar

    assert alike("app") == {**container_of(patch, "weir"), "image": IMAGE}
    assert alike("fetch", "env") == alike("app", "volumeMounts")
    assert alike("fetch-and-quit") == alike("fetch", "restartPolicy")
    asked = variables(container_of(patch, "app"))
    for name in POD_NAMES:
        theirs = variables(container_of(pods[name], "app"))
        assert theirs.pop("URL")
        assert theirs == asked


def test_the_application_is_told_of_the_proxy(patch):
    told = variables(container_of(patch, "app"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        assert told[name] == told[name.lower()] == "http://127.0.0.1:8080"
    assert told["NO_PROXY"] == told["no_proxy"]
    assert {"localhost", "127.0.0.1", "::1", ".svc"} <= set(told["NO_PROXY"].split(","))


def test_probes_are_commands_of_the_image(patch):
    """Both ports are on the pod's loopback, where the kubelet's own requests do not reach."""
    sidecar = container_of(patch, "weir")
    check = ["/usr/bin/weir", "check"]
    assert sidecar["startupProbe"]["exec"]["command"] == check
    assert sidecar["readinessProbe"]["exec"]["command"] == check
    # /readyz fails while Weir drains: it must not be killed for that.
    assert sidecar["livenessProbe"]["exec"]["command"] == [*check, "http://127.0.0.1:9901/healthz"]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert sidecar[kind]["timeoutSeconds"] > 2  # by then `weir check` has given up


# The patch, on somebody else's Deployment.


def kubectl_patch(text):
    return output_of("kubectl", "patch", "--local", "--type", "strategic", "--output", "yaml",
                     "--patch", PATCH.read_text(), "--filename", "-", text=text)


def assert_patched(deployment, patch):
    assert wrong_in([deployment]) == []
    pod = pod_of(deployment)
    assert [container["name"] for container in pod["initContainers"]] == ["weir", "first"]
    # kustomize may have given the image another name.
    assert {**container_of(pod, "weir"), "image": "weir"} == container_of(patch, "weir")
    assert pod["terminationGracePeriodSeconds"] == 300
    assert sorted(volume["name"] for volume in pod["volumes"]) == ["own", "weir"]
    app = container_of(pod, "app")
    assert app["image"] == "own"
    assert variables(app) == {"OWN": "kept", **variables(container_of(patch, "app"))}
    assert container_of(pod, "other") == {"name": "other", "image": "own"}


def test_the_patch_adds_the_sidecar(patch):
    assert_patched(yaml.safe_load(kubectl_patch(FOREIGN)), patch)


def test_the_patch_can_be_applied_again():
    once = kubectl_patch(FOREIGN)
    assert yaml.safe_load(kubectl_patch(once)) == yaml.safe_load(once)


def test_the_patch_is_taken_by_kustomize_as_its_head_says(kubernetes, patch):
    told = dict(re.findall(r"^#   (\w+): (\[.*\])$", PATCH.read_text(), re.MULTILINE))
    assert told.keys() == {"patches", "configMapGenerator", "images"}
    version = output_of("kubectl", "version", "--client", "--output", "yaml")
    if int(re.search(r'minor: "?(\d+)', version)[1]) < 21:
        # The kubectl of Debian 12 has an older name for it.
        assert told.pop("patches") == "[{path: sidecar.yaml}]"
        told["patchesStrategicMerge"] = "[sidecar.yaml]"
    (kubernetes / "mine.yaml").write_text(FOREIGN)
    (kubernetes / "kustomization.yaml").write_text("\n".join(
        ["resources: [mine.yaml]", *(f"{key}: {value}" for key, value in told.items())]))
    objects = kustomized(kubernetes)
    config, deployment = of_kind("ConfigMap", objects), of_kind("Deployment", objects)
    assert_patched(deployment, patch)
    assert container_of(pod_of(deployment), "weir")["image"] == "registry.example.com/weir:0.1.0"
    assert {"name": "weir", "configMap": {"name": config["metadata"]["name"]}} in \
        pod_of(deployment)["volumes"]
