"""The samples as pods: the application and Weir, and no network but the loopback that they share."""

import json

import pytest
from waiting import wait_until

AT_ONCE = 9
LIMIT = 3


def answered(pod, status=200):
    return sum(line.startswith(f"{status} after ") for line in pod.log("app"))


def test_an_application_beside_its_sidecar(create):
    """The application asks again and again; how many rounds there are depends on the machine."""
    pod = create("app")
    pod.start_sidecar()
    pod.start_upstream()
    pod.start("app")
    wait_until(lambda: answered(pod) >= AT_ONCE, lambda: f"all are answered: {pod.log('app')}")

    # No other way was open, and at most three went at once.
    interfaces = pod.exec("app", "cat", "/proc/net/dev").stdout
    assert [line.split(":")[0].strip() for line in interfaces.splitlines() if ":" in line] == ["lo"]
    status = json.loads(pod.exec("app", "curl", "--silent", "http://127.0.0.1:9901/status").stdout)
    assert [host["peak_active"] for host in status["hosts"]] == [LIMIT]
    assert pod.probe("readinessProbe") and pod.probe("livenessProbe")

    # The order in which a cluster ends them. The sample's shell ends when curl has.
    assert pod.end("app") == 0
    assert pod.end("weir") == 0
    requests, peak = pod.end_upstream()
    assert requests % AT_ONCE == 0 and peak == LIMIT
    logged = [json.loads(line) for line in pod.log("weir") if line.startswith("{")]
    assert sum(record.get("outcome") == "ok" for record in logged) == requests


def test_the_sidecar_may_nothing(create):
    pod = create("app")
    pod.start_sidecar()
    kernel = pod.kernel_says("weir")
    assert kernel["Uid"].split() == kernel["Gid"].split() == ["65532"] * 4
    assert {int(kernel[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert kernel["NoNewPrivs"] == "1"
    assert kernel["Seccomp"] == "2"
    host = pod.inspect("weir")["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Memory"] == 64 << 20


def test_a_job_ends_although_its_sidecar_runs(create):
    pod = create("fetch")
    pod.start_sidecar()
    pod.start_upstream()
    pod.start("app")
    assert pod.wait("app") == 0
    assert answered(pod) == AT_ONCE
    assert pod.end("weir") == 0
    assert pod.end_upstream() == (AT_ONCE, LIMIT)


@pytest.mark.parametrize("status, code", [(200, 0), (404, 22)])
def test_a_job_ends_its_sidecar_itself(create, status, code):
    """Where nobody starts Weir first, or tells it to end."""
    pod = create("fetch-and-quit")
    pod.start("app")
    pod.start_upstream(status, beside="app")
    pod.start("weir")
    assert pod.wait("app") == code
    assert pod.wait("weir") == 0
    assert answered(pod, status) == AT_ONCE
    assert pod.end_upstream() == (AT_ONCE, LIMIT)
