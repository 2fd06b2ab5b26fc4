"""deploy/run, which builds the release and starts it."""

import json
import os
import re
import signal
import subprocess
import urllib.request

from tools import DEPLOY
from weir import environment

DEADLINE_S = 300  # it may have to build


def run(*flags, **how):
    return subprocess.Popen([DEPLOY / "run", *flags], env=environment(), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def test_a_question_is_answered_and_nothing_else_is_said():
    asked = run("--version")
    output, said = asked.communicate(timeout=DEADLINE_S)
    assert asked.returncode == 0 and re.fullmatch(r"weir \d+\.\d+\.\d+\n", output)
    assert not [line for line in said.splitlines() if not line.startswith(("Installing", "Building"))]


def test_it_starts_from_anywhere_and_says_what_to_try(tmp_path):
    """And is Weir itself from then on, for signals too."""
    (tmp_path / "weir.json").write_text(json.dumps({"limits": {"default": {"limit": 7}}}))
    weir = run("--config", "weir.json", "--listen", "127.0.0.1:0", "--admin=127.0.0.1:0", cwd=tmp_path)
    admin = None
    said = []
    try:
        for line in weir.stderr:
            said.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("for") == "admin":
                admin = event["address"]
            if event.get("event") == "ready":
                break
        with urllib.request.urlopen(f"http://{admin}/readyz", timeout=DEADLINE_S) as answer:
            assert json.load(answer) == {"status": "ready"}
        assert os.readlink(f"/proc/{weir.pid}/exe").endswith("/build/release/weir")
        weir.send_signal(signal.SIGTERM)
        weir.communicate(timeout=DEADLINE_S)
        assert weir.returncode == 0
    finally:
        if weir.poll() is None:
            weir.kill()
            weir.wait()
    text = "".join(said)
    assert "curl -x http://127.0.0.1:0 http://example.com/" in text and "(unless weir.json says otherwise)" in text
