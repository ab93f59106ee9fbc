"""What code hosts read: workflows, issue forms, containers.

Schemas of the first two are check-jsonschema's; the container's is here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from course_lib.cli.app import app
from course_lib.settings import REPOSITORY

HOST = REPOSITORY / ".github"
WORKFLOWS = sorted((HOST / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (HOST / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PINNED = re.compile(r"actions/[\w-]+@v\d+(\.\d+)*")
COMMAND = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SIZE = {"type": "string", "pattern": r"^\d+[tgmk]b$"}
CONTAINER = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        "name": COMMAND,
        "image": {"type": "string", "pattern": r"^mcr\.microsoft\.com/devcontainers/python:\d+-3\.\d+-\w+$"},
        "hostRequirements": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"cpus": {"type": "integer"}, "memory": SIZE, "storage": SIZE},
        },
        "updateContentCommand": COMMAND,
        "postCreateCommand": COMMAND,
        "remoteEnv": TEXTS,
        "customizations": {"type": "object", "additionalProperties": {"type": "object"}},
    },
}
"""Of what containers.dev/implementors/json_reference allows, what is used here: no privileges, mounts, features."""


def check(schema: str, *paths: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def read(path: Path) -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # "on" stays a word
    return content


def test_workflows_and_forms_follow_their_schemas() -> None:
    check("github-workflows", *WORKFLOWS)
    check("github-issue-forms", *FORMS)
    check("github-issue-config", HOST / "ISSUE_TEMPLATE" / "config.yml")
    check("dependabot", HOST / "dependabot.yml")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_only_uses_no_secret_and_pins_what_it_uses(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in path.read_text() and "pull_request_target" not in path.read_text()
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job, name
        allowed = {"pages": "write", "id-token": "write"} if name == "publish" else None
        assert job.get("permissions") == allowed, name
        for step in job["steps"]:
            assert PINNED.fullmatch(step.get("uses", "actions/x@v1")), step
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"
            assert "github.event" not in step.get("run", ""), "what strangers write reaches no shell"


def test_quick_tests_run_on_the_oldest_and_the_newest_python_that_are_supported() -> None:
    matrix = read(HOST / "workflows" / "tests.yml")["jobs"]["quick"]["strategy"]["matrix"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={matrix['python'][0]}"
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    newest = max(int(minor) for minor in re.findall(r"python3\.(\d+)", makefile))
    assert matrix["python"][-1] == f"3.{newest}"
    assert [system.partition("-")[0] for system in matrix["system"]] == ["ubuntu", "macos", "windows"]


def test_what_workflows_and_containers_run_is_there() -> None:
    run = " ".join(
        step.get("run", "") for path in WORKFLOWS for job in read(path)["jobs"].values() for step in job["steps"]
    )
    for place in re.findall(r"(?<![\w.$/])(?:\.ci|tests|notebooks|solutions|course_lib)/[\w/.*]+", run):
        assert list(REPOSITORY.glob(place)), place
    container = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    post_build = (REPOSITORY / ".binder" / "postBuild").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    everything = f"{container['updateContentCommand']} {container['postCreateCommand']} {post_build}"
    assert set(re.findall(r"make (\w+)", everything)) <= set(targets)
    assert set(re.findall(r"course (\w+)$", everything, re.MULTILINE)) <= commands
    assert ".venv/bin/course update" in everything


def test_every_form_asks_for_what_doctor_says() -> None:
    assert FORMS
    for path in FORMS:
        asked = {field["id"]: field for field in read(path)["body"]}
        assert "course doctor" in asked["doctor"]["attributes"]["label"]
        assert asked["doctor"]["validations"] == {"required": "true"}


def test_the_container_is_of_the_form_and_asks_for_no_rights() -> None:
    container = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    jsonschema.validate(container, CONTAINER)


def test_binder_gets_what_learners_get() -> None:
    folder = REPOSITORY / ".binder"
    (line,) = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert (folder / line.removeprefix("-r ")).resolve() == REPOSITORY / "requirements.lock"
    assert re.fullmatch(r"python-3\.1[1-9]\n", (folder / "runtime.txt").read_text(encoding="utf-8"))
    if os.name != "nt":
        assert os.access(folder / "postBuild", os.X_OK)
        subprocess.run(["bash", "-n", folder / "postBuild"], check=True)
