"""Runs real clients: with nothing of the caller's settings, and with a deadline."""

import os
import shutil
import subprocess

from weir import environment

# A busy machine may start a browser slowly.
DEADLINE_S = 120

# What clients take from the environment beside proxies, which environment() leaves out.
SETTINGS = ("SSL_CERT_", "CURL_", "GIT_", "NODE_", "NPM_", "npm_", "REQUESTS_", "APT_", "WGETRC",
            "XDG_", "DBUS_", "DISPLAY")

# For clients that keep their tunnels when they are through with them: the silence, while others
# wait, after which such a tunnel makes room for them.
POOLING = {"timeouts": {"tunnel_idle_contended": "500ms"}}

# For clients that close them. They may be as silent as a test makes them.
CLOSING = {"timeouts": {"tunnel_idle_contended": "60s"}}


class Programs:
    """The programs that one test runs, with HOME as their home directory."""

    def __init__(self, home):
        self.home = home
        self.running = []

    def environment(self, extra=None):
        kept = {key: value for key, value in environment().items() if not key.startswith(SETTINGS)}
        return {**kept, "HOME": str(self.home), "LC_ALL": "C.UTF-8", **(extra or {})}

    def start(self, *command, env=None, cwd=None):
        """Starts a program that must be there."""
        name = str(command[0])
        assert shutil.which(name), f"{name} is not installed; `tests/run --installs` does it"
        process = subprocess.Popen([str(part) for part in command], cwd=cwd or self.home,
                                   env=self.environment(env), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        self.running.append(process)
        return process

    def finish(self, process):
        """What a program printed; it must end well."""
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, (f"{process.args} ended with {process.returncode}: "
                                         f"{out[-2000:]!r} {err[-4000:].decode(errors='replace')}")
        return out

    def run(self, *command, **how):
        return self.finish(self.start(*command, **how))

    def end(self):
        """Ends what a failed test has left running, with all that it has started."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.communicate()


def proxies(weir):
    """The environment that sends a client through WEIR, as users set it."""
    url = proxy_url(weir)
    return {"http_proxy": url, "https_proxy": url, "HTTP_PROXY": url, "HTTPS_PROXY": url,
            "no_proxy": ""}


def proxy_url(weir):
    return f"http://{weir.data[0]}:{weir.data[1]}"
