"""Every environment variable of the course, with its default and meaning."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_cache_path
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from course_lib.errors import CourseError

REPOSITORY = Path(__file__).resolve().parent.parent
"""The clone: notebooks/, alembic/ and work/ lie here."""


class Settings(BaseSettings):
    """Read from the environment, then from ``.env`` beside the README. Nothing is required."""

    model_config = SettingsConfigDict(
        env_file=REPOSITORY / ".env",
        env_file_encoding="utf-8-sig",  # Notepad begins a file with a mark
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        regex_engine="python-re",
    )

    database_url: SecretStr | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        description="Any PostgreSQL >= 18 with pgvector >= 0.8.4. Unset: the embedded server.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="OPENAI_API_KEY",
        description="A key of OpenAI or of a compatible server. Unset: the offline model answers.",
    )
    openai_base_url: SecretStr | None = Field(
        default=None,
        validation_alias="OPENAI_BASE_URL",
        description="Address of an OpenAI-compatible server, ending in /v1. It needs no key; it may hold an account.",
    )
    embedding_model: str = Field(
        default="text-embedding-3-small",
        validation_alias="COURSE_EMBEDDING_MODEL",
        description="Embedding model asked of a real server, with dimensions=256.",
    )
    chat_model: str = Field(
        default="gpt-5-mini",
        validation_alias="COURSE_CHAT_MODEL",
        description="Chat model asked of a real server.",
    )
    force_offline: bool = Field(
        default=False,
        validation_alias="COURSE_OFFLINE",
        description="Use the offline model even where a key or a server is configured.",
    )
    home: Path = Field(
        default_factory=lambda: user_cache_path("databases-for-ai-engineers"),
        validate_default=True,
        validation_alias="COURSE_HOME",
        description="Where the embedded server keeps its data; safe to delete when it is stopped.",
    )
    work: Path = Field(
        default=REPOSITORY / "work",
        validation_alias="COURSE_WORK",
        description="The learner's own copies of the notebooks, and what the learner has solved.",
    )
    idle_hours: float = Field(
        default=4.0,
        gt=0,
        le=24 * 365,
        allow_inf_nan=False,
        validation_alias="COURSE_IDLE_HOURS",
        description="The embedded server stops after so many hours without a client.",
    )
    class_name: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,23}\Z",
        validation_alias="COURSE_CLASS",
        description="The class a learner is in, as its sheet says: its board is told of verdicts. Unset: nobody is.",
    )
    strict: bool = Field(
        default=False,
        validation_alias="COURSE_STRICT",
        description="Make a failed check raise instead of rendering its verdict.",
    )
    html_pictures: bool = Field(
        default=True,
        validation_alias="COURSE_HTML_PICTURES",
        description="Show pictures as HTML, which a screen reader can read. Off where outputs are stored and compared.",
    )

    pool_size: int = Field(
        default=5,
        gt=0,
        le=1000,
        validation_alias="COURSE_POOL_SIZE",
        description="The service: connections of one process.",
    )
    pool_seconds: float = Field(
        default=10.0,
        gt=0,
        le=600,
        allow_inf_nan=False,
        validation_alias="COURSE_POOL_SECONDS",
        description="The service: so long a request waits for a connection, then it is told to come again.",
    )
    service_secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        validation_alias="COURSE_SERVICE_SECRET",
        description="The service: signs cursors; the same for all its processes. Unset: made anew at each start.",
    )
    upload_bytes: int = Field(
        default=5_000_000,
        gt=0,
        le=100_000_000,
        validation_alias="COURSE_UPLOAD_BYTES",
        description="The service: the largest document that is taken.",
    )
    requests_at_once: int = Field(
        default=20,
        gt=0,
        validation_alias="COURSE_REQUESTS_AT_ONCE",
        description="The service: requests of one API key that a process works on at once.",
    )
    questions_at_once: int = Field(
        default=4,
        gt=0,
        validation_alias="COURSE_QUESTIONS_AT_ONCE",
        description="The service: answers to one user that a process writes at once.",
    )
    requests_a_minute: int = Field(
        default=600,
        gt=0,
        validation_alias="COURSE_REQUESTS_A_MINUTE",
        description="The service: requests of one user that a process takes in a minute.",
    )
    body_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        validation_alias="COURSE_BODY_SECONDS",
        description="The service: so long a request may take to arrive, a document and all.",
    )
    model_seconds: float = Field(
        default=60.0,
        gt=0,
        le=600,
        allow_inf_nan=False,
        validation_alias="COURSE_MODEL_SECONDS",
        description="The service: so long a model that was asked may say nothing before it is given up.",
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        validation_alias="COURSE_DRAIN_SECONDS",
        description="The service: so long answers may go on when the process is told to stop.",
    )

    @field_validator("home", "work", mode="before")
    @classmethod
    def whole_path(cls, value: object, info: ValidationInfo) -> Path:
        """A folder's absolute path; ``~`` and ``~user`` are what a shell would make of them."""
        text = str(value)
        if not text.strip() or any(sign in text for sign in "\n\r\0"):
            raise ValueError("a folder's name is not blank, and holds no line break")
        try:
            text.encode("utf-8", "strict" if info.field_name == "work" else "surrogateescape")
            return Path(text).expanduser().absolute()
        except UnicodeError:
            raise ValueError("its bytes are not UTF-8, which Jupyter needs") from None
        except RuntimeError:
            raise ValueError("the system knows no home folder for its ~") from None
        except OSError:
            raise ValueError("it is no whole path, and the current folder is gone") from None

    @field_validator("openai_base_url")
    @classmethod
    def http_address(cls, value: SecretStr | None) -> SecretStr | None:
        """Refused here and now what httpx would refuse later, quoting it."""
        if value is None:
            return None
        try:
            address = urlsplit(value.get_secret_value().strip())
            usable = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("write it like http://localhost:11434/v1, with %2F for a / in an account")
        return SecretStr(value.get_secret_value().strip())

    @field_validator("openai_api_key")
    @classmethod
    def header_value(cls, value: SecretStr | None) -> SecretStr | None:
        """A key goes into a header; httpx refuses what cannot stand there, quoting it."""
        if value is None:
            return None
        key = value.get_secret_value().strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError("a key is made of letters, digits and signs of ASCII, on one line")
        return SecretStr(key) if key else None

    @property
    def offline(self) -> bool:
        """True when no OpenAI-compatible server is configured, or none is wanted."""
        return self.force_offline or (self.openai_api_key is None and self.openai_base_url is None)


@cache
def get_settings() -> Settings:
    """The settings of this process; ``get_settings.cache_clear()`` reads the environment again.

    Raises:
        CourseError: a variable holds something it cannot mean.
    """
    env_file = Settings.model_config.get("env_file")
    if isinstance(env_file, Path) and env_file.is_dir():
        raise _unreadable("is a folder")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        own = first.get("ctx", {}).get("error")  # pydantic would put its own words before ours
        raise CourseError(
            f"The variable {first['loc'][0]} cannot be used: {own or first['msg']}.",
            "Correct it in the environment, or in the file .env beside the README.",
        ) from None  # the cause would repeat the value, which may be a secret
    except UnicodeError:
        raise _unreadable("is not UTF-8") from None
    except OSError:
        raise _unreadable("cannot be read by this user") from None


def _unreadable(why: str) -> CourseError:
    return CourseError(f"The file .env beside the README {why}.", "Write it anew as UTF-8 text, or remove it.")
