"""Runs the real binary, named by the environment variable WEIR_BINARY, on ports of its own."""

import json
import os
import signal
import subprocess
import threading
import urllib.parse

from client import FORMS, Client, request_bytes, target_for
from waiting import DEADLINE_S, wait_until

BINARY = os.environ.get("WEIR_BINARY", "")

# Flags that every test needs, because its upstreams are on loopback addresses.
DEFAULT_FLAGS = ["--allow-private"]

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "exitcode=99:detect_leaks=1:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "exitcode=99:print_stacktrace=1",
}

# Freed memory that AddressSanitizer keeps back would count as growth.
SMALL_QUARANTINE = {"ASAN_OPTIONS": "exitcode=99:quarantine_size_mb=8"}


def can_name_hosts():
    """Whether this user may give a process an /etc/hosts of its own."""
    try:
        return subprocess.run(["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
                              capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def in_own_names(command, directory, hosts=None, nameserver=None):
    """COMMAND, run with files of the test's own over the system's: the only names are those of HOSTS,
    the text of an /etc/hosts, and then those of the name server at NAMESERVER, an address. With
    neither it is as it was."""
    sources = []
    files = {}
    if hosts is not None:
        sources.append("files")
        files["hosts"] = hosts
    if nameserver is not None:
        sources.append("dns")
        files["resolv.conf"] = f"nameserver {nameserver}\n"
    if not sources:
        return command
    files["nsswitch.conf"] = f"hosts: {' '.join(sources)}\n"
    for name, text in files.items():
        (directory / name).write_text(text)
    mounts = [f"mount --bind {directory}/{name} /etc/{name}" for name in files]
    return ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$0" "$@"']), *command]


def environment(extra=None):
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith("WEIR_") and not key.lower().endswith("_proxy")}
    return {**kept, **SANITIZER_OPTIONS, **(extra or {})}


def run_weir(*flags, env=None):
    """Runs the binary until it ends by itself."""
    return subprocess.run([BINARY, *flags], env=environment(env), capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False)


def waiting_at(port):
    """How many connections wait in the kernel to be accepted."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        lines = [line.split() for line in file]
    (queues,) = [words[4] for words in lines if words[1] == f"0100007F:{port:04X}" and words[3] == "0A"]
    return int(queues.partition(":")[2], 16)


def merged(base, changes):
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def limited(limit=None, hosts=None, total=None, **more):
    """The "limits" of a configuration: LIMIT and MORE are the default rule's."""
    default = dict(more) if limit is None else {"limit": limit, **more}
    limits = {"default": default}
    if hosts:
        limits["hosts"] = hosts
    if total:
        limits["total"] = total
    return {"limits": limits}


class Lines:
    """The JSON lines of one stream, as they come."""

    def __init__(self, stream):
        self.text = []
        self.changed = threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream):
        for line in stream:
            with self.changed:
                self.text.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        stream.close()

    def records(self):
        """All lines, each of which must be JSON."""
        with self.changed:
            return [json.loads(line) for line in self.text]

    def find(self, **fields):
        return [record for record in self.json_only()
                if all(record.get(key) == value for key, value in fields.items())]

    def json_only(self):
        with self.changed:
            return [json.loads(line) for line in self.text if line.startswith("{")]

    def wait(self, count=1, **fields):
        """The first COUNT records with FIELDS."""
        with self.changed:
            good = self.changed.wait_for(
                lambda: len(self.find(**fields)) >= count or self.ended, DEADLINE_S)
            found = self.find(**fields)
        assert good and len(found) >= count, f"no line {fields}: {self.text[-20:]}"
        return found[:count] if count > 1 else found[0]


class Weir:
    """The running service, and the clients of the test."""

    def __init__(self, directory, config=None, flags=(), env=None, hosts=None, prepare=None,
                 defaults=DEFAULT_FLAGS, nameserver=None, root=None):
        self._set_up(directory, (directory if root is None else root.path) / "weir.json")
        self.write_config(config or {})
        command = [BINARY, "--config", str(self.config_file), *defaults, *flags]
        if root is not None:
            command = root.command("--config", "/weir.json", *defaults, *flags)
        self._run(in_own_names(command, directory, hosts, nameserver), environment(env), prepare)

    def _set_up(self, directory, config_file):
        """The state before anything runs, whatever is run."""
        self.directory = directory
        self.config_file = config_file
        self.clients = []
        self.admin_headers = []  # of every request to the admin port
        self.expected_exit = 0
        self.told_to_end = False

    def _run(self, command, env, prepare=None):
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        preexec_fn=prepare)
        self.log = Lines(self.process.stdout)
        self.events = Lines(self.process.stderr)
        try:
            self.events.wait(event="ready")
        except AssertionError:
            self.process.kill()
            raise
        self.data = self._listening("data")
        self.admin = self._listening("admin")

    def write_config(self, config):
        base = {"listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}}
        self.config_file.write_text(json.dumps(merged(base, config), indent=1))

    def _listening(self, purpose):
        address = self.events.wait(event="listening", **{"for": purpose})["address"]
        if address.startswith("unix:"):
            return address.removeprefix("unix:")
        host, _, port = address.rpartition(":")
        return (host.strip("[]"), int(port))

    # The data port.

    def client(self, **how):
        client = Client(self.data, **how)
        self.clients.append(client)
        return client

    def ask(self, url, form="fetch", method="GET", headers=(), body=None):
        """Sends a request on a connection of its own, which it returns without waiting."""
        return self.client().ask(method, target_for(url, form), headers, body)

    def fetch(self, url, form="fetch", method="GET", headers=(), body=None):
        """The answer to a request on a connection of its own."""
        client = self.ask(url, form, method, headers, body)
        answer = client.read(method)
        client.close()
        return answer

    # The admin port.

    def admin_fetch(self, target, method="GET", headers=(), body=None, host="127.0.0.1"):
        client = Client(self.admin)
        client.send(request_bytes(method, target, [("Connection", "close"), *self.admin_headers, *headers],
                                  body, host))
        answer = client.read(method)
        client.close()
        assert answer is not None and answer.complete, f"{method} {target}: {answer}"
        return answer

    def status(self):
        answer = self.admin_fetch("/status")
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def host(self, host):
        """What is known of a host; all zero where nothing is."""
        answer = self.admin_fetch("/hosts/" + urllib.parse.quote(host, safe=""))
        if answer.status == 404:
            return {"active": 0, "queued": 0, "idle_connections": 0}
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def wait_host(self, host, **fields):
        """Waits until HOST has FIELDS."""
        last = {}

        def holds():
            last.update(self.host(host))
            return all(last.get(key) == value for key, value in fields.items())

        wait_until(holds, lambda: f"{host} has {fields}: {last}")
        return last

    def wait_totals(self, **fields):
        last = {}

        def holds():
            last.update(self.status()["totals"])
            return all(last.get(key) == value for key, value in fields.items())

        wait_until(holds, lambda: f"totals are {fields}: {last}")
        return last

    def client_connections(self):
        return self.status()["connections"]["client"]

    # The process.

    def signal(self, number):
        self.told_to_end |= number in (signal.SIGTERM, signal.SIGINT)
        self.process.send_signal(number)

    def reload(self, config):
        """Rewrites the configuration file and waits until it is in force."""
        before = self.status()["config_generation"]
        self.write_config(config)
        self.signal(signal.SIGHUP)
        wait_until(lambda: self.status()["config_generation"] > before, "the reload is in force")

    def memory_kib(self, key="VmRSS"):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key + ":"))

    def wait_exit(self):
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.events.text[-10:]}") from None

    def close_clients(self):
        for client in self.clients:
            client.close()
        self.clients.clear()

    def wait_idle(self):
        """Waits until every counter is back at zero."""
        self.close_clients()
        assert self.process.poll() is None, "it has ended"
        last = {}

        def holds():
            last.update(self.status())
            busy = [last["totals"]["active"], last["totals"]["queued"], last["connections"]["client"],
                    last["buffers"]["bytes"]]
            busy += [host[key] for host in last["hosts"] for key in ("active", "queued")]
            return not any(busy)

        wait_until(holds, lambda: f"all counters are zero: {last}")

    def stop(self):
        """Ends the service, and asserts that it leaves nothing behind."""
        try:
            if self.process.poll() is None and not self.told_to_end:
                self.wait_idle()
                self.signal(signal.SIGTERM)
            self.close_clients()
            code = self.wait_exit()
        finally:
            self.close_clients()
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.log.thread.join(DEADLINE_S)
            self.events.thread.join(DEADLINE_S)
        stderr = "\n".join(self.events.text)
        assert "Sanitizer" not in stderr and "runtime error" not in stderr, stderr[-8000:]
        assert code == self.expected_exit, f"exit code {code}: {stderr[-3000:]}"
        self.events.records()  # every event is JSON


# What a test does with a service and an upstream.


def in_order(weir, upstream, count, form="fetch"):
    """COUNT requests, /0 and so on, each sent once the one before is known to the service."""
    clients = []
    for number in range(count):
        clients.append(weir.ask(upstream.url(f"/{number}"), form=FORMS[number % 2] if form == "both"
                                else form))
        wait_until(lambda: sum(weir.host(upstream.host)[key] for key in ("active", "queued"))
                   == len(clients), "the request is known")
    return clients


def assert_next_works(weir, upstream):
    upstream.script = None
    answer = weir.fetch(upstream.url("/next"))
    assert answer is not None and answer.status == 200, answer
