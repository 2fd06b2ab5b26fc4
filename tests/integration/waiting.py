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
