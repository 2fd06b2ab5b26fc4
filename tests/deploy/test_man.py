"""The manual pages say what the program takes: weir(1) is made of --help, weir.json(5) is not."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINARY = os.environ.get("WEIR_BINARY", "")
WEIR_JSON_5 = ROOT / "deploy/man/weir.json.5"

# The objects whose keys the user chooses, by their own key: what the page calls such a key, and one.
MAPS = {"hosts": ("HOST", "*.example.org"), "upstreams": ("NAME", "name"), "headers": ("FIELD", "X-Field")}
CHOSEN = dict(MAPS.values())


def run(*command, **how):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **how)


def weir(*flags):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WEIR_")}
    environment["ASAN_OPTIONS"] = "detect_leaks=0"  # takes longer than all else; others look for them
    return run(BINARY, *flags, env=environment)


@pytest.fixture(scope="module")
def weir_1(tmp_path_factory):
    page = tmp_path_factory.mktemp("man") / "weir.1"
    made = run("awk", "-v", "date=January 1, 2026", "-v", "version=1.2.3", "-f",
               str(ROOT / "deploy/man/help.awk"), input=weir("--help").stdout)
    assert made.returncode == 0 and not made.stderr, made.stderr
    page.write_text(made.stdout)
    return page


def rendered(page):
    shown = run("mandoc", "-T", "ascii", "-O", "width=100", str(page))
    assert shown.returncode == 0, shown.stderr
    return re.sub(r".\x08", "", shown.stdout)  # without bold and underlined


def lint(page):
    return run("mandoc", "-T", "lint", "-W", "warning", str(page)).stdout


def words(text):
    return re.findall(r"[^\s:]+", text.lower())


# weir(1)

def test_the_page_has_all_that_help_says_in_its_order(weir_1):
    page = iter(words(rendered(weir_1)))
    for word in words(weir("--help").stdout.removeprefix("Usage:")):
        assert word in page, f"--help says {word!r}, which is not at its place in weir(1)"


def test_every_flag_and_variable_is_in_the_page(weir_1):
    shown, source = rendered(weir_1), weir_1.read_text()
    flags = set(re.findall(r"^  (--[a-z-]+)", weir("--help").stdout, re.MULTILINE))
    assert len(flags) > 8
    for flag in flags:
        assert flag in shown
        assert ".It Fl " + flag[1:].replace("-", "\\-") in source, f"{flag} is not an item of its own"


def test_examples_stay_as_they_are(weir_1):
    shown = [line.strip() for line in rendered(weir_1).splitlines()]
    examples = [line.strip() for line in weir("--help").stdout.splitlines()
                if line.startswith(("  curl ", "  \""))]
    assert len(examples) > 4
    assert [line for line in examples if line not in shown] == []


def test_the_pages_are_well_formed(weir_1):
    assert lint(weir_1) == ""
    assert lint(WEIR_JSON_5) == ""


# weir.json(5)

def complaint(tmp_path, path, value):
    """What Weir says about a configuration with VALUE at the PATH, as the page writes it."""
    for name in reversed(path):
        value = {CHOSEN.get(name, name): value}
    if path[:1] == ["upstreams"] and len(path) > 1 and isinstance(value["upstreams"]["name"], dict):
        value["upstreams"]["name"].setdefault("url", "https://upstream.test")
    file = tmp_path / "weir.json"
    file.write_text(json.dumps(value))
    checked = weir("--config", str(file), "--check-config")
    return checked.stderr if checked.returncode else ""


def keys_of_the_program(tmp_path, path=()):
    """Every key there is: Weir lists those of an object when it finds one that it does not know."""
    path = list(path)
    if path and path[-1] in MAPS:
        path.append(MAPS[path[-1]][0])
    listed = re.search(r"\.?\"?\?\"?: unknown key, expected one of (.*)", complaint(tmp_path, path, {"?": 0}))
    if not listed:
        return {".".join(path)}
    found = {".".join(path)} if path[-1:] == ["FIELD"] else set()  # which may be a string, too
    for name in listed[1].split(", "):
        found |= keys_of_the_program(tmp_path, [*path, name])
    return found


def entries_of_the_page():
    """The keys that the page explains, with what it says of each; several may share an explanation."""
    entries, waiting = {}, []
    for item in WEIR_JSON_5.read_text().split("\n.It Cm ")[1:]:
        name, _, text = item.partition("\n")
        text = text.split("\n.El")[0]
        waiting.append(name)
        if text.strip():
            entries.update({key: " ".join(text.split()) for key in waiting})
            waiting = []
    assert not waiting
    return entries


def test_the_page_has_every_key_and_no_other(tmp_path):
    keys = keys_of_the_program(tmp_path)
    maps = {key for key in entries_of_the_page() if key in ("limits.hosts", "tls.hosts")}
    assert len(keys) > 50
    assert set(entries_of_the_page()) - maps == keys


def test_every_key_says_its_default():
    without = {"limits.hosts", "tls.hosts", "auth.clients", "auth.admin.read", "auth.admin.operate",
               "upstreams.NAME.url", "upstreams.NAME.headers.FIELD"}
    for key, text in entries_of_the_page().items():
        inherited = re.match(r"(limits|tls)\.hosts\.HOST\.|upstreams\.NAME\.(limit|queue|tls)|"
                             r"upstreams\.NAME\.headers\.FIELD\.(file|env)", key)
        assert "Default:" in text or key in without or inherited, key


def test_numbers_have_the_range_that_the_page_says(tmp_path):
    found = 0
    for key, text in entries_of_the_page().items():
        match = re.search(r": (\d+) to (\d+)\.", text)
        if match and "HOST" not in key:
            found += 1
            least, most = int(match[1]), int(match[2])
            path = key.split(".")
            assert complaint(tmp_path, path, least) == complaint(tmp_path, path, most) == "", key
            assert complaint(tmp_path, path, least - 1) != "" != complaint(tmp_path, path, most + 1), key
    assert found >= 9


def test_durations_may_be_0_where_the_page_says_so(tmp_path):
    found = 0
    for key, text in entries_of_the_page().items():
        if key.startswith("timeouts.") or key == "limits.default.queue_timeout":
            found += 1
            path = key.split(".")
            assert complaint(tmp_path, path, "8760h") == "" != complaint(tmp_path, path, "8761h"), key
            assert (complaint(tmp_path, path, "0") == "") == (".Qq 0 " in text), key
    assert found >= 13


def test_the_example_of_the_page_is_good(tmp_path):
    example = WEIR_JSON_5.read_text().split(".Bd -literal")[1].split("\n", 1)[1].split("\n.Ed")[0]
    secret = tmp_path / "stripe"
    secret.write_text("secret\n")
    file = tmp_path / "weir.json"
    file.write_text(example.replace("/run/secrets/stripe", str(secret)))
    checked = weir("--config", str(file), "--check-config")
    assert checked.returncode == 0, checked.stderr
