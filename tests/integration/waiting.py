"""Waiting for a state, with a deadline."""

import os
import time

DEADLINE_S = float(os.environ.get("WEIR_TEST_DEADLINE_S", "20"))


def wait_until(holds, what, deadline_s=DEADLINE_S):
    """Calls HOLDS until it returns something true, and returns that. The pause between two calls
    only keeps the processor free; nothing relies on how long it is."""
    end = time.monotonic() + deadline_s
    while True:
        result = holds()
        if result:
            return result
        assert time.monotonic() < end, f"not within {deadline_s} s: {what() if callable(what) else what}"
        time.sleep(0.003)


def wait_still(value, weir, rounds=30):
    """Waits until VALUE() has stayed the same over ROUNDS answers of the admin port, each of which
    the service gives after it has done what its sockets were ready for."""
    last, same = None, 0

    def still():
        nonlocal last, same
        weir.status()
        now = value()
        same = same + 1 if now == last else 0
        last = now
        return same >= rounds

    wait_until(still, lambda: f"it rests, and not at {last}")


def wait_asleep(weir, seconds=0.5):
    """Waits until the service has slept for SECONDS, and asks it nothing meanwhile."""
    last = [None, time.monotonic()]

    def asleep():
        with open(f"/proc/{weir.process.pid}/status", encoding="ascii") as file:
            switches = [line for line in file if "ctxt_switches" in line]
        if switches != last[0]:
            last[:] = [switches, time.monotonic()]
        return time.monotonic() - last[1] >= seconds

    wait_until(asleep, "it sleeps")
