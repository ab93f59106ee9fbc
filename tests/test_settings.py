"""Settings come from the variables they are documented under, and from no others."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from course_lib.errors import CourseError
from course_lib.settings import Settings, get_settings

VARIABLES = [str(field.validation_alias) for field in Settings.model_fields.values()]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_HOME", raising=False)  # which the tests' own server has
    settings = Settings()
    assert settings.offline
    assert settings.database_url is None
    assert settings.home.name == "databases-for-ai-engineers"


@pytest.mark.parametrize("name", sorted({name.upper() for name in Settings.model_fields} - set(VARIABLES)))
def test_a_variable_that_only_looks_like_a_field_is_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME is everybody's; COURSE_HOME is ours."""
    before = Settings().model_dump()
    monkeypatch.setenv(name, "7")
    assert Settings().model_dump() == before


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret-key")
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:a-secret-password@localhost/course")
    settings = Settings()
    assert not settings.offline
    for text in (repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()):
        assert "a-secret" not in text


def test_offline_can_be_asked_for_although_there_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret-key")
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    assert Settings().offline


def test_every_variable_says_what_it_means() -> None:
    for field in Settings.model_fields.values():
        assert field.description
        assert isinstance(field.validation_alias, str)


def test_the_file_beside_the_readme_is_read(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(str(tmp_path)) / ".env"
    file.write_text("COURSE_CHAT_MODEL=another-model\n")
    monkeypatch.setattr(Settings, "model_config", SettingsConfigDict(**{**Settings.model_config, "env_file": file}))
    assert Settings().chat_model == "another-model"


def test_a_value_that_makes_no_sense_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_IDLE_HOURS", "soon")
    get_settings.cache_clear()
    with pytest.raises(CourseError, match="COURSE_IDLE_HOURS") as caught:
        get_settings()
    assert "soon" not in str(caught.value)
    get_settings.cache_clear()


def test_settings_are_read_once_until_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    get_settings.cache_clear()
    first = get_settings()
    monkeypatch.setenv("COURSE_CHAT_MODEL", "another-model")
    assert get_settings() is first
    get_settings.cache_clear()
    assert get_settings().chat_model == "another-model"
    get_settings.cache_clear()


@pytest.mark.parametrize("name", ["COURSE_HOME", "COURSE_WORK"])
def test_folders_are_whole_paths(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    field = name.removeprefix("COURSE_").lower()
    for value in ("~/a b", "./a b", str(tmp_path / "a b")):
        monkeypatch.setenv(name, value)
        assert getattr(Settings(), field) == tmp_path / "a b"
    if os.name != "nt":
        import pwd

        monkeypatch.setenv(name, "~root/x")
        assert getattr(Settings(), field) == Path(pwd.getpwnam("root").pw_dir) / "x"


@pytest.mark.parametrize("name", ["COURSE_HOME", "COURSE_WORK"])
@pytest.mark.parametrize(
    ("value", "words"),
    [("~nobody-of-that-name/x", "home folder"), (" ", "blank"), ("a\nb", "line break")],
)
def test_a_folder_that_cannot_be_meant_is_a_sentence(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert re.fullmatch(rf"The variable {name} cannot be used: .*{words}.*\.", refused().sentence)


def test_jupyter_needs_a_folder_whose_name_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_WORK", "a\udcffb")
    assert "COURSE_WORK cannot be used: " in refused().sentence and "not UTF-8" in refused().sentence


@pytest.mark.parametrize("value", ["nan", "inf", "1e9", "0", "-1"])
def test_hours_are_a_number_of_hours(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_IDLE_HOURS", value)
    assert "COURSE_IDLE_HOURS" in refused().sentence


def refused() -> CourseError:
    get_settings.cache_clear()
    with pytest.raises(CourseError) as caught:
        get_settings()
    get_settings.cache_clear()
    return caught.value


def test_the_file_may_be_written_for_a_shell_or_by_notepad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    text = "\ufeffexport COURSE_CHAT_MODEL='another-model'\r\n# mine\r\nDATABASE_URL=\"postgresql://u:a#b@h/d\"\r\n"
    (tmp_path / ".env").write_text(text, encoding="utf-8", newline="")
    settings = Settings()
    assert settings.chat_model == "another-model"
    assert settings.database_url is not None and settings.database_url.get_secret_value().endswith("a#b@h/d")


@pytest.mark.parametrize(("kind", "words"), [("folder", "is a folder"), ("utf-16", "not UTF-8")])
def test_a_file_that_cannot_be_read_is_a_sentence(
    kind: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    file.mkdir() if kind == "folder" else file.write_text("COURSE_CHAT_MODEL=x\n", encoding=kind)
    assert words in refused().sentence and ".env" in refused().sentence
