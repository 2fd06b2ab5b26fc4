"""The load and the measuring of tests/bench/memory, which builds what this needs and starts it."""
import argparse
import asyncio
import collections
import contextlib
import json
import logging
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
PIECE = b"x" * 65536
CLIENTS_OF_A_KIND = 100
START_S = 20


class Cgroup:
    """A cgroup of MIB_BYTES, of whichever version has the memory controller."""

    def __init__(self, limit_bytes):
        root = pathlib.Path("/sys/fs/cgroup")
        self.second = "memory" in (root / "cgroup.controllers").read_text().split() \
            if (root / "cgroup.controllers").exists() else False
        self.path = (root if self.second else root / "memory") / f"weir-bench-{os.getpid()}"
        if self.second:
            (root / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        if self.second:
            self.write("memory.max", limit_bytes)
            with contextlib.suppress(OSError):
                self.write("memory.swap.max", 0)
        else:
            self.write("memory.limit_in_bytes", limit_bytes)
            with contextlib.suppress(OSError):  # counts sockets, without a bound on them
                self.write("memory.kmem.tcp.limit_in_bytes", 1 << 40)

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def read(self, name):
        """A number, or what a line of a file of several says: "memory.stat sock"."""
        name, _, key = name.partition(" ")
        text = (self.path / name).read_text()
        if not key:
            return int(text)
        return next((int(line.split()[1]) for line in text.splitlines() if line.split()[0] == key), 0)

    def used(self):
        """What cannot be had back by dropping files' pages, and how much of it sockets hold."""
        if self.second:
            sockets = self.read("memory.stat sock")
            return self.read("memory.current") - self.read("memory.stat file"), sockets
        sockets = 0
        with contextlib.suppress(OSError):
            sockets = self.read("memory.kmem.tcp.usage_in_bytes")
        return self.read("memory.usage_in_bytes") - self.read("memory.stat cache") + sockets, sockets

    def kills(self):
        return self.read("memory.events oom_kill" if self.second else "memory.oom_control oom_kill")

    def enter(self):
        self.write("cgroup.procs", os.getpid())


async def serve(reader, writer):
    """/big sends 8 MiB, /sink takes a body slowly, anything else answers after a moment."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError,
                             ssl.SSLError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            left = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            while left > 0:
                left -= len(await reader.readexactly(min(left, len(PIECE))))
                await asyncio.sleep(0.005)
            pieces = 8 * MIB // len(PIECE) if b" /big " in head else 0
            if not pieces:
                await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * len(PIECE)))
            for _ in range(pieces):
                writer.write(PIECE)
                await writer.drain()
    writer.close()


class Load:
    def __init__(self, weir, upstreams, seconds):
        self.weir = weir
        self.upstreams = upstreams
        self.end = time.monotonic() + seconds
        self.outcomes = collections.Counter()

    def going_on(self):
        return time.monotonic() < self.end

    async def read(self, reader, slow):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        left = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        while left > 0 and self.going_on():
            data = await reader.read(min(left, len(PIECE)))
            if not data:
                raise ConnectionError("the answer is cut")
            left -= len(data)
            await asyncio.sleep(0.05 if slow else 0)
        return head[9:12].decode(), b"\r\nconnection: close" in head

    async def upload(self, writer, pieces):
        with contextlib.suppress(ConnectionError):
            for _ in range(pieces):
                writer.write(PIECE)
                await writer.drain()

    async def client(self, kind, scheme, number):
        """One client, which keeps its connection as long as it may."""
        path = {"slow": "/big", "upload": "/sink"}.get(kind, "/")
        pieces = {"upload": 64, "heads": 4}.get(kind, 0)
        pad = "X-Pad: " + "p" * 11000 + "\r\n" if kind == "heads" else ""
        # Many hosts, so that each has its own queue and connections.
        url = f"{scheme}://127.{number % 200}.0.1:{self.upstreams[scheme]}{path}"
        method = "POST" if pieces else "GET"
        head = (f"{method} {url} HTTP/1.1\r\nHost: weir\r\n{pad}"
                f"Content-Length: {pieces * len(PIECE)}\r\n\r\n").encode()
        while self.going_on():
            reader, writer = await asyncio.open_connection(*self.weir, limit=len(PIECE))
            closes = False
            while not closes and self.going_on():
                sending = None
                try:
                    writer.write(head)
                    sending = asyncio.create_task(self.upload(writer, pieces))
                    status, closes = await self.read(reader, kind == "slow")
                    closes = closes or status != "200"
                except (asyncio.IncompleteReadError, ConnectionError):
                    status, closes = "lost", True
                finally:
                    if sending:
                        sending.cancel()
                if self.going_on():
                    self.outcomes[kind, status] += 1
            writer.close()

    async def run(self, cgroup):
        tasks = [asyncio.create_task(self.client(kind, scheme, number))
                 for kind in ("small", "slow", "upload", "heads") for scheme in self.upstreams
                 for number in range(CLIENTS_OF_A_KIND // 2)]
        peak, of_sockets = 0, 0
        while self.going_on():
            used, sockets = cgroup.used()
            peak, of_sockets = max(peak, used), max(of_sockets, sockets)
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return peak, of_sockets


def make_certificate(directory):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-days", "2", "-subj", "/CN=weir.test", "-keyout", "key.pem", "-out",
                    "certificate.pem"], cwd=directory, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    return context


async def measure(mib, arguments, directory):
    """True where it is as it should be."""
    context = make_certificate(directory)
    servers = {"http": await asyncio.start_server(serve, "0.0.0.0", 0, backlog=1000),
               "https": await asyncio.start_server(serve, "0.0.0.0", 0, backlog=1000, ssl=context)}
    ports = {scheme: server.sockets[0].getsockname()[1] for scheme, server in servers.items()}
    config = directory / "weir.json"
    config.write_text(json.dumps({
        "listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}, "log": {"access": "none"},
        "limits": {"default": {"limit": 100, "queue_timeout": "10m"}},
        "tls": {"hosts": {f"127.{number}.0.1:{ports['https']}": {"insecure": True}
                          for number in range(200)}}}))
    cgroup = Cgroup(mib * MIB)
    events = directory / "events"
    with open(events, "wb") as stderr:
        weir = subprocess.Popen([arguments.weir, "--config", config, "--allow-private"], stderr=stderr,
                                preexec_fn=cgroup.enter)
    try:
        until = time.monotonic() + START_S
        while '"ready"' not in events.read_text():
            if weir.poll() is not None or time.monotonic() > until:
                sys.exit(f"it does not start: {events.read_text()}")
            await asyncio.sleep(0.01)
        address = next(json.loads(line)["address"] for line in events.read_text().splitlines()
                       if '"data"' in line)
        load = Load(("127.0.0.1", int(address.rpartition(":")[2])), ports, arguments.seconds)
        peak, of_sockets = await load.run(cgroup)
        alive = weir.poll() is None and cgroup.kills() == 0
    finally:
        weir.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            weir.wait(START_S)
        weir.kill()
        weir.wait()
        cgroup.path.rmdir()
    lost = sum(count for (_, status), count in load.outcomes.items() if status not in ("200", "503"))
    said = next((line for line in events.read_text().splitlines() if "memory_bounded" in line), "{}")
    lowered = {key: value for key, value in json.loads(said).items()
               if key in ("connections", "limits.total.limit", "buffer_bytes")}
    print(f"{mib} MiB: {peak / MIB:.1f} MiB at the most, {of_sockets / MIB:.1f} of them sockets; "
          f"{'alive' if alive else 'KILLED'}, {lost} lost; {lowered}; "
          f"{ {' '.join(key): count for key, count in sorted(load.outcomes.items())} }", flush=True)
    return alive and lost == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", required=True)
    parser.add_argument("--mib", type=int, action="append")
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)  # of connections that end is told
    good = True
    for mib in arguments.mib or [16, 32, 64]:
        with tempfile.TemporaryDirectory() as directory:
            good = asyncio.run(measure(mib, arguments, pathlib.Path(directory))) and good
    sys.exit(0 if good else 1)


main()
