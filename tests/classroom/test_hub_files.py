"""What ``course classroom hub`` writes: files for nobody else, a configuration whose every name exists, values."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from sqlalchemy import event
from sqlalchemy.orm import Session
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

pytest.importorskip("jupyterhub", reason="the extra hub is not installed: make hub")

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.spawner import SimpleLocalProcessSpawner, Spawner
from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from jupyterhub_traefik_proxy.proxy import TraefikProxy

from course_lib.classroom.credentials import Credentials, write_credentials
from course_lib.classroom.hub import Hub, machine
from course_lib.classroom.hub.learners import ClassAuthenticator, database_url
from course_lib.errors import CourseError
from course_lib.settings import get_settings
from tests.classroom import hub_alone
from tests.classroom.z2jh import VALUES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the hub's configuration is for Linux")
ADA = Credentials("Ada", "ada", "lab_ada", "word-of-ada", "postgresql://lab_ada:word-of-ada@db/lab_ada")
BRUNO = Credentials("Bruno", "bruno", "lab_bruno", "word-of-bruno", "postgresql://lab_bruno:word-of-bruno@db/lab_bruno")


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class ``lab``, whose teacher works in a folder of the test."""
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "teacher"))
    get_settings.cache_clear()
    write_credentials("lab", [ADA, BRUNO])


def load(folder: Path) -> Config:
    return PyFileConfigLoader("jupyterhub_config.py", str(folder)).load_config()


def test_files_are_for_nobody_else_and_one_of_them_has_passwords(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    assert Hub("lab").write(folder) == 2
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert [path.name for path in folder.iterdir() if "word-of-" in path.read_text()] == ["learners.csv"]


def test_written_again_it_follows_the_roster_and_leaves_what_the_teacher_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    Hub("lab").write(folder)
    (folder / "own.py").write_text("c.JupyterHub.bind_url = 'http://127.0.0.1:9'")
    write_credentials("lab", [ADA])
    assert Hub("lab", trial=True).write(folder) == 1
    assert "bruno" not in (folder / "learners.csv").read_text()
    assert load(folder).JupyterHub.bind_url == "http://127.0.0.1:9"


def test_a_folder_that_is_not_the_hubs_is_left_alone(tmp_path: Path) -> None:
    open_to_all, full, file, link = (tmp_path / name for name in ("open", "full", "file", "link"))
    open_to_all.mkdir()
    full.mkdir(mode=0o700)
    for place in (file, full / "letter"):
        place.write_text("mine")
    link.symlink_to(full)
    for place, sentence in ((open_to_all, "Others can enter"), (full, "something else"), (file, "cannot be used"),
                            (link, "is not yours")):  # fmt: skip
        with pytest.raises(CourseError, match=sentence):
            Hub("lab").write(place)
    assert [path.name for path in full.iterdir()] == ["letter"] and not list(open_to_all.iterdir())


def test_without_a_class_there_is_no_hub(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="no credentials of a class spring27"):
        Hub("spring27").write(tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


# -- one machine -------------------------------------------------------------------------------------------


def spawner_class(name: str) -> type[Spawner]:
    from systemdspawner import SystemdSpawner

    return {"systemd": SystemdSpawner, "simple": SimpleLocalProcessSpawner}[name]


@pytest.mark.parametrize("trial", [True, False], ids=["trial", "systemd"])
def test_every_name_in_the_configuration_is_one_that_its_class_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: bool
) -> None:
    monkeypatch.setattr(machine, "must_be_fit", lambda: None)
    Hub("lab", 8100, trial).write(tmp_path / "hub")
    config = load(tmp_path / "hub")
    spawner = spawner_class(config.JupyterHub.spawner_class)
    classes = [JupyterHub, Spawner, spawner, ClassAuthenticator, TraefikProxy, TraefikFileProviderProxy]
    known = {each.__name__: each for each in classes}
    for name, settings in config.items():
        assert settings.keys() <= set(known[name].class_trait_names(config=True)), name
    app = JupyterHub(config=config)
    assert (app.bind_url, app.hub_bind_url) == ("http://127.0.0.1:8100", "http://127.0.0.1:8102")


def test_under_systemd_memory_and_processes_are_limited_and_accounts_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd itself says whether it knows the properties; it does not run here."""
    monkeypatch.setattr(machine, "must_be_fit", lambda: None)
    Hub("lab").write(tmp_path / "hub")
    user = SimpleNamespace(name="lab_ada", id=1)
    spawner = spawner_class("systemd")(config=load(tmp_path / "hub"), user=user)
    assert spawner.mem_limit == 2**30 and spawner.dynamic_users and spawner.isolate_tmp
    properties = spawner.unit_extra_properties
    assert properties["TasksMax"] == "200" and properties["MemorySwapMax"] == "0"
    assert properties["RuntimeDirectoryPreserve"] == "no", "else nobody logs in a second time"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "seat.service"
    more = {"MemoryMax": str(spawner.mem_limit), "DynamicUser": "yes", "StateDirectory": "lab_ada", "PrivateTmp": "yes"}
    lines = [f"{name}={value}" for name, value in (properties | more).items()]
    for extra, known in ([], True), (["TasksMost=3"], False):
        unit.write_text("\n".join(["[Service]", f"ExecStart={sys.executable}", *lines, *extra, ""]))
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
        assert ("Unknown key" not in done.stderr) is known and "Failed to parse" not in done.stderr, done.stderr


def test_a_machine_that_cannot_keep_learners_apart_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clone").mkdir(mode=0o700)
    env = tmp_path / "clone" / ".env"
    env.write_text("DATABASE_URL=postgresql://teacher:secret@db/x\n")
    env.chmod(0o644)
    monkeypatch.setattr(machine, "REPOSITORY", tmp_path / "clone")
    monkeypatch.setattr(machine, "BOOTED", tmp_path / "nothing")
    with pytest.raises(SystemExit) as said:
        machine.must_be_fit()
    text = str(said.value)
    assert "systemd does not run this machine" in text and f"cannot read {tmp_path / 'clone'}" in text
    assert "can read the DATABASE_URL" in text and "secret" not in text
    env.chmod(0o600)
    assert "would fail" in "".join(machine.settings_for_all(env))
    env.write_text("OPENAI_BASE_URL=http://127.0.0.1:11434/v1\n")
    env.chmod(0o644)
    assert not list(machine.settings_for_all(env))
    env.write_text("OPENAI_BASE_URL=https://ann:secret@models.example.org/v1\nOPENAI_API_KEY=secret\n")
    said = "".join(machine.settings_for_all(env))
    assert "the OPENAI_BASE_URL in" in said and "the OPENAI_API_KEY in" in said and "secret" not in said


def test_no_session_of_this_process_is_the_hubs() -> None:
    said = f"{hub_alone.__name__} is imported after the hub"
    assert not event.contains(Session, "persistent_to_deleted", orm._notify_deleted_relationships), said


def test_a_learner_is_known_by_login_or_role_until_taken_out(tmp_path: Path) -> None:
    Hub("lab").write(tmp_path / "hub")
    file = tmp_path / "hub" / "learners.csv"
    doorman = ClassAuthenticator(file=str(file), slug="lab")
    for name in ("ada", " Ada", "lab_ada", "LAB_ADA"):
        assert asyncio.run(doorman.authenticate(None, {"username": name, "password": ADA.password})) == "lab_ada"
    for name, password in (
        ("ada", BRUNO.password),
        ("ada", ""),
        ("", ADA.password),
        ("ädä", "ö"),
        ("role", "password"),
    ):
        assert asyncio.run(doorman.authenticate(None, {"username": name, "password": password})) is None
    spawner = SimpleNamespace(authenticator=doorman, user=SimpleNamespace(name="lab_bruno"))
    assert database_url(spawner) == BRUNO.url
    write_credentials("lab", [ADA])
    Hub("lab").write(tmp_path / "hub")
    assert not asyncio.run(doorman.refresh_user(spawner.user)), "logged out"
    assert asyncio.run(doorman.refresh_user(SimpleNamespace(name="lab_ada")))
    with pytest.raises(KeyError):
        database_url(spawner)


# -- a cluster ---------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    Hub("lab", kubernetes=True).write(tmp_path / "cluster")
    return tmp_path / "cluster"


def with_files(folder: Path) -> dict[str, Any]:
    """The values as Helm has them after ``--set-file``."""
    values: dict[str, Any] = yaml.safe_load((folder / "values.yaml").read_text())
    for name, file in (("learners", "learners.csv"), ("course_learners", "course_learners.py")):
        values["hub"]["extraFiles"][name]["stringData"] = (folder / file).read_text()
    return values


def test_values_have_names_and_types_that_the_chart_takes(cluster: Path) -> None:
    values = with_files(cluster)
    jsonschema.validate(values, VALUES)
    values["singleuser"]["memory"]["most"] = "1G"
    with pytest.raises(jsonschema.ValidationError, match="most"):
        jsonschema.validate(values, VALUES)


def test_values_hold_no_password_and_all_that_helm_is_told_to_add_is_there(cluster: Path) -> None:
    assert [path.name for path in cluster.iterdir() if "word-of-" in path.read_text()] == ["learners.csv"]
    steps = (cluster / "README.md").read_text()
    for name, file in (("learners", "learners.csv"), ("course_learners", "course_learners.py")):
        assert f"--set-file hub.extraFiles.{name}.stringData={file}" in steps and (cluster / file).exists()


def test_the_hub_of_a_cluster_finds_learners_without_the_course(cluster: Path) -> None:
    values = with_files(cluster)
    slug = values["hub"]["config"]["ClassAuthenticator"]["slug"]
    code = f"""
import sys
sys.path.insert(0, {str(cluster)!r})
sys.modules["course_lib"] = None
from traitlets.config import Config
from types import SimpleNamespace
c = Config(KubeSpawner={{"environment": {values["singleuser"]["extraEnv"]!r}}})
exec({values["hub"]["extraConfig"]["course"]!r})
from course_learners import ClassAuthenticator
doorman = ClassAuthenticator(file={str(cluster / "learners.csv")!r}, slug={slug!r})
spawner = SimpleNamespace(authenticator=doorman, user=SimpleNamespace(name="lab_ada"))
print(c.KubeSpawner.environment["DATABASE_URL"](spawner), c.KubeSpawner.environment["COURSE_CLASS"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cluster)
    assert done.stdout.split() == [ADA.url, "lab"], done.stderr
