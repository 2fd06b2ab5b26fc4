"""Runs podman, to its end, for the tests of the image and those of the pods."""

import subprocess

from waiting import DEADLINE_S


def podman(*arguments, check=True):
    # Ending a pod may take the grace period of its manifest.
    done = subprocess.run(["podman", *map(str, arguments)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=6 * DEADLINE_S, check=False)
    assert done.returncode == 0 or not check, f"podman {arguments}: {done.stderr}"
    return done
