"""What the service manager is told (sd_notify(3)), on a socket like its own."""

import signal
import socket
import time

import pytest

from waiting import DEADLINE_S
from weir import in_order, limited


class Manager:
    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        self.socket.settimeout(DEADLINE_S)
        self.environment = {"NOTIFY_SOCKET": name}

    def told(self):
        """The next message, as a dictionary."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@weir-test/{tmp_path}"
    manager = Manager(name)
    yield manager
    manager.socket.close()


def test_the_manager_learns_of_start_reload_and_end(start_weir, manager):
    weir = start_weir({"timeouts": {"drain": "90s"}}, env=manager.environment)
    assert manager.told() == {"READY": "1"}
    weir.admin_fetch("/readyz")  # it listened before it said so

    for config in ({}, {"limits": {"default": {"limit": 0}}}):  # a bad one is read as well
        weir.write_config({"timeouts": {"drain": "90s"}, **config})
        before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        weir.signal(signal.SIGHUP)
        told = manager.told()
        assert told["RELOADING"] == "1"
        assert int(told["MONOTONIC_USEC"]) >= before_us
        assert manager.told() == {"READY": "1"}

    weir.stop()
    assert len(weir.events.find(event="reloaded")) == len(weir.events.find(event="reload_failed")) == 1
    assert manager.told() == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": str(95 * 1000 * 1000)}


def test_the_end_is_told_when_the_drain_begins(start_weir, manager, held):
    weir = start_weir(limited(1), env=manager.environment)
    assert manager.told() == {"READY": "1"}
    client, = in_order(weir, held, 1)
    request = held.next()
    weir.signal(signal.SIGTERM)
    assert manager.told()["STOPPING"] == "1"
    assert weir.process.poll() is None
    request.answer()
    assert client.read().status == 200
    assert weir.wait_exit() == 0


@pytest.mark.parametrize("name", ["/nowhere/at/all", "not-a-place", "@" + "x" * 200])
def test_a_manager_that_cannot_be_told_is_one_warning_each_time(start_weir, name):
    weir = start_weir(env={"NOTIFY_SOCKET": name})
    weir.stop()
    start, end = weir.events.find(event="notify_failed")
    assert start["level"] == end["level"] == "warning" and start["reason"] and end["reason"]


def test_without_a_manager_nothing_is_said(start_weir):
    weir = start_weir(env={"NOTIFY_SOCKET": ""})
    weir.stop()
    assert not weir.events.find(event="notify_failed")
