"""The measurements of tests/bench/slots, which builds what this needs and starts it.

Whatever is compared is measured in rounds, and in each round by every side in turn, so that what
the machine does besides strikes all alike; each round gives a ratio, and the table shows the median
of the ratios, with the least and the greatest.
"""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

BODY_BYTES = 200
WAIT_LIMIT_S = 60
HOLD_US = 600_000_000

HAPROXY = """
global
    nbthread 1
    maxconn 8000
    stats socket {directory}/haproxy.sock
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 600s
    timeout queue 600s
frontend clients
    bind 127.0.0.1:{port}
    maxconn 8000
    default_backend upstream
backend upstream
    http-reuse always
    server one 127.0.0.1:{upstream} maxconn {limit}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(true, what):
    deadline = time.monotonic() + WAIT_LIMIT_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def spread(values):
    """Median and, in brackets, the least and the greatest."""
    values = list(values)
    if not values:
        return "-"
    digits = 2 if statistics.median(values) < 100 else 0
    low, middle, high = (f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}-{high})"


def print_table(title, rows):
    print(f"\n{title}\n")
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


class Side:
    """A proxy, or none, with an upstream of its own behind it."""

    def __init__(self, settings, stack, name, limit, access_log=False):
        self.name = name
        self.limit = limit
        self.programs = settings.programs
        upstream = subprocess.Popen([f"{self.programs}/bench_upstream"], stdout=subprocess.PIPE, text=True)
        stack.callback(self.stop, upstream)
        self.upstream = int(upstream.stdout.readline())
        if name == "direct":
            self.port, self.process, self.base = self.upstream, upstream, ""
            return
        self.port = free_port()
        if name == "weir":
            self.start_weir(settings, access_log)
        else:
            self.start_haproxy(settings, stack)
        stack.callback(self.stop, self.process)
        wait_until(lambda: accepts(self.port), f"{name} does not listen")

    @staticmethod
    def stop(process):
        process.kill()
        process.wait()

    def start_weir(self, settings, access_log):
        self.admin = free_port()
        self.base = f"http://127.0.0.1:{self.upstream}"
        log = "json" if access_log else "none"
        self.process = subprocess.Popen(
            [settings.weir, "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}",
             "--limit", str(self.limit), "--queue", "100000", "--queue-timeout", "600s",
             "--log-format", log, "--allow-private"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start_haproxy(self, settings, stack):
        self.base = ""
        self.directory = stack.enter_context(tempfile.TemporaryDirectory())
        file = pathlib.Path(self.directory, "haproxy.cfg")
        file.write_text(HAPROXY.format(directory=self.directory, port=self.port,
                                       upstream=self.upstream, limit=self.limit))
        self.process = subprocess.Popen([settings.haproxy, "-db", "-f", file],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def target(self, delay_us, body_bytes):
        return f"{self.base}/{delay_us}/{body_bytes}"

    def run(self, target, clients, warmup_s, seconds, answers=0):
        """One window of load; see bench_clients."""
        output = subprocess.run(
            [f"{self.programs}/bench_clients", str(self.port), target, str(clients), str(warmup_s), str(seconds),
             str(answers), str(self.process.pid)], check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(output.stdout)
        if result["failures"] > 0 or result["answers"] == 0:
            raise RuntimeError(f"{self.name}: {result}")
        return result

    def peaks(self):
        """The most requests in flight and connections that the upstream has seen."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.upstream}/stats") as answer:
            return json.load(answer)

    def queued(self):
        if self.name == "weir":
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/status") as answer:
                return sum(host["queued"] for host in json.load(answer)["hosts"])
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(f"{self.directory}/haproxy.sock")
            stats.sendall(b"show stat\n")
            with stats.makefile() as lines:
                header, *rows = (line.split(",") for line in lines)
        column = header.index("qcur")
        return sum(int(row[column]) for row in rows if row[0] == "upstream" and row[1] == "BACKEND")

    def memory(self, key="VmRSS"):
        """In bytes, from the process's status."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
        raise KeyError(key)


def rounds_of(settings, sides):
    """Every side, in every round; who begins changes from round to round."""
    for number in range(settings.rounds):
        turn = number % len(sides)
        yield sides[turn:] + sides[:turn]


def kept(side):
    peaks = side.peaks()
    text = f"{peaks['in_flight_peak']}/{peaks['connections_peak']}"
    over = max(peaks.values()) > side.limit
    return text + (" OVER THE LIMIT" if over else "")


def measure_slots(settings):
    rows = [["limit", "upstream", "direct requests/s", *(f"{name} / direct" for name in settings.sides),
             *(["weir / haproxy"] if len(settings.sides) > 1 else []),
             *(f"{name}: peak requests/connections" for name in settings.sides)]]
    for delay_us, limits in ((1000, (1, 3, 10, 32, 100)), (10_000, (32, 100))):
        for limit in limits:
            rows.append(measure_one_limit(settings, limit, delay_us))
    print_table("Slot utilisation: requests/s through a limit with max(64, 3 x limit) clients, over the "
                "requests/s of as many direct connections", rows)


def measure_one_limit(settings, limit, delay_us):
    rates = collections.defaultdict(list)
    with contextlib.ExitStack() as stack:
        sides = [Side(settings, stack, name, limit) for name in ["direct", *settings.sides]]
        for turn in rounds_of(settings, sides):
            for side in turn:
                clients = limit if side.name == "direct" else max(64, 3 * limit)
                result = side.run(side.target(delay_us, BODY_BYTES), clients, 0.3, settings.seconds)
                rates[side.name].append(result["answers"] / result["seconds"])
        peaks = [kept(side) for side in sides if side.name != "direct"]
    row = [limit, f"{delay_us / 1000:g} ms", spread(rates["direct"])]
    row += [spread(ratios(rates[name], rates["direct"])) for name in settings.sides]
    if len(settings.sides) > 1:
        row.append(spread(ratios(rates["weir"], rates["haproxy"])))
    return row + peaks


def ratios(ours, theirs):
    return [a / b for a, b in zip(ours, theirs)]


def measure_cpu(settings):
    cost_us = collections.defaultdict(list)
    with contextlib.ExitStack() as stack:
        sides = [Side(settings, stack, name, 32) for name in settings.sides]
        labels = dict(zip(sides, settings.sides))
        if "weir" in settings.sides:
            logging = Side(settings, stack, "weir", 32, access_log=True)
            sides.append(logging)
            labels[logging] = "weir, access log to /dev/null"
        for turn in rounds_of(settings, sides):
            for side in turn:
                result = side.run(side.target(0, BODY_BYTES), 32, 0.3, settings.seconds)
                cost_us[labels[side]].append(result["cpu_seconds"] / result["answers"] * 1e6)
    rows = [["proxy", "us of CPU a request", "over haproxy"]]
    for label, costs in cost_us.items():
        rows.append([label, spread(costs), spread(ratios(costs, cost_us["haproxy"]))])
    print_table(f"CPU time of the proxy, user + system: {BODY_BYTES} byte answers at once, 32 keep-alive "
                "clients, limit 32", rows)


class Waiters:
    """Clients of whose requests all but the first wait in the queue."""

    def __init__(self, side, stack):
        self.side = side
        self.stack = stack

    def connect(self):
        client = self.stack.enter_context(socket.create_connection(("127.0.0.1", self.side.port)))
        return client

    def ask(self, client, delay_us):
        client.sendall(f"GET {self.side.target(delay_us, BODY_BYTES)} HTTP/1.1\r\n"
                       "Host: 127.0.0.1\r\nUser-Agent: waiter\r\nAccept: */*\r\n\r\n".encode())

    def use_once(self, client):
        self.ask(client, 0)
        answer = b""
        while not answer.endswith(b"\r\n\r\n" + b"w" * BODY_BYTES):
            answer += client.recv(65536)


def growth_for_waiter(settings, name, reused):
    """Bytes of resident memory that one waiting request and its connection cost."""
    with contextlib.ExitStack() as stack:
        side = Side(settings, stack, name, 1)
        waiters = Waiters(side, stack)
        holder = waiters.connect()
        waiters.use_once(holder)
        before = side.memory()
        waiters.ask(holder, 0 if reused else HOLD_US)
        clients = [waiters.connect() for _ in range(settings.waiters)]
        if reused:
            holder.recv(65536)
            for client in clients:
                waiters.use_once(client)
            waiters.ask(holder, HOLD_US)
            wait_until(lambda: side.peaks()["in_flight_peak"] == 1, "no request holds the slot")
        for client in clients:
            waiters.ask(client, 0)
        wait_until(lambda: side.queued() == settings.waiters, "not all requests wait")
        return (side.memory() - before) / settings.waiters


def measure_memory(settings):
    rows = [["connections", *(f"{name}, KB a waiter" for name in settings.sides)]]
    for label, reused in (("new", False), ("reused once", True)):
        grown = collections.defaultdict(list)
        for names in rounds_of(argparse.Namespace(rounds=3), settings.sides):
            for name in names:
                grown[name].append(growth_for_waiter(settings, name, reused) / 1024)
        rows.append([label, *(spread(grown[name]) for name in settings.sides)])
    print_table(f"Memory: growth of resident memory with {settings.waiters} requests waiting, connection "
                "included, for one", rows)


def measure_body(settings):
    seconds_a_gb, grown_kb = collections.defaultdict(list), collections.defaultdict(list)
    with contextlib.ExitStack() as stack:
        sides = [Side(settings, stack, name, 1) for name in settings.sides]
        for side in sides:
            side.run(side.target(0, BODY_BYTES), 1, 0, 60, 1)
        for turn in rounds_of(settings, sides):
            for side in turn:
                pathlib.Path(f"/proc/{side.process.pid}/clear_refs").write_text("5")
                before = side.memory()
                result = side.run(side.target(0, settings.body_bytes), 1, 0, 600, 1)
                if result["body_bytes"] != settings.body_bytes:
                    raise RuntimeError(f"{side.name}: the body is not whole: {result}")
                seconds_a_gb[side.name].append(result["cpu_seconds"] / (settings.body_bytes / 1e9))
                grown_kb[side.name].append((side.memory("VmHWM") - before) / 1024)
    rows = [["proxy", "CPU s a GB", "over haproxy", "peak memory above before, KB"]]
    for name, seconds in seconds_a_gb.items():
        rows.append([name, spread(seconds), spread(ratios(seconds, seconds_a_gb["haproxy"])),
                     spread(grown_kb[name])])
    print_table(f"One body of {settings.body_bytes} bytes from the upstream", rows)


MEASUREMENTS = {"slots": measure_slots, "cpu": measure_cpu, "memory": measure_memory, "body": measure_body}


def read_settings():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", required=True, help="where bench_upstream and bench_clients are")
    parser.add_argument("--weir", help="the program weir")
    parser.add_argument("--haproxy", default="/usr/sbin/haproxy")
    parser.add_argument("--sides", default="weir,haproxy")
    parser.add_argument("--only", default=",".join(MEASUREMENTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one window")
    parser.add_argument("--waiters", type=int, default=2000)
    parser.add_argument("--body-bytes", type=int, default=1 << 30)
    settings = parser.parse_args()
    settings.sides = settings.sides.split(",")
    return settings


def main():
    settings = read_settings()
    signal.signal(signal.SIGTERM, lambda *_: exit(1))  # leaves through the stacks: nothing stays behind
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in settings.only.split(","):
        MEASUREMENTS[name](settings)
    version = subprocess.run([settings.haproxy, "-v"], stdout=subprocess.PIPE, text=True).stdout.split()[2]
    print(f"\n{len(os.sched_getaffinity(0))} cores, shared by the proxy, its upstream and the clients; "
          f"HAProxy {version}; medians of {settings.rounds} rounds (least-greatest).")
    print(f"Again: tests/bench/slots --rounds {settings.rounds} --seconds {settings.seconds} "
          f"--only {settings.only}")


main()
