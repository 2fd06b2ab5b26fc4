"""An upstream for the loopback of a pod: upstream_in_pod.py PORT STATUS. It answers as soon as LIMIT
requests are there, so that fewer at once would get no answer. When its input ends it prints how many
requests it has seen, and how many at once."""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from upstream import Upstream  # noqa: E402
from waiting import DEADLINE_S  # noqa: E402

LIMIT = 3

port, status = map(int, sys.argv[1:])
together = threading.Barrier(LIMIT)


def answer(request):
    together.wait(DEADLINE_S)
    request.send_answer(status)


upstream = Upstream(port=port)
upstream.script = answer
print("listening", flush=True)
sys.stdin.read()
print(len(upstream.requests), upstream.peak_running)
