"""DATABASE_URL in every spelling: it works for all readers of an address, or is refused by a sentence with a name."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psycopg
import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_environment, libpq_options, libpq_uri, parse_url, public_uri, spoken
from course_lib.postgres.binaries import program, wheel_installation
from course_lib.postgres.failures import connection_failure
from tests.postgres.places import YourServer

WHO = "SELECT current_user || ' in ' || current_database() || ', ' || current_setting('work_mem')"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


async def what_each_reader_sees(url: URL) -> set[str]:
    """The answers of asyncpg, SQLAlchemy with asyncpg, by URL and by text, SQLAlchemy with psycopg, psycopg, psql."""
    direct = await asyncpg.connect(libpq_uri(url), server_settings={"application_name": "course"})
    seen = [await direct.fetchval(WHO)]
    await direct.close()
    for address in (url, url.render_as_string(hide_password=False)):
        engine = create_async_engine(address)
        async with engine.connect() as connection:
            seen.append((await connection.execute(text(WHO))).scalar())
        await engine.dispose()
    sync = create_engine(url.set(drivername="postgresql+psycopg", query=libpq_options(url)))
    with sync.connect() as blocking:
        seen.append(blocking.execute(text(WHO)).scalar())
    sync.dispose()
    with psycopg.connect(libpq_uri(url)) as plain:
        seen.append((plain.execute(WHO).fetchone() or [None])[0])
    return {str(answer) for answer in [*seen, *what_psql_sees(url)]}


def what_psql_sees(url: URL) -> list[str]:
    """The answers to ``course db psql``'s environment, and to the address that ``course db url`` prints."""
    seen, psql = [], [str(program(wheel_installation(), "psql")), "-XAtc", WHO]
    shown = [*psql, public_uri(url, url.database or "")]
    for command, environment in (
        (psql, libpq_environment(url)),
        (shown, {**os.environ, "PGPASSWORD": url.password or ""}),
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seen.append((done.stdout + done.stderr).strip())
    return seen


@pytest.mark.parametrize(
    "spelling",
    [
        "postgresql://admin:{word}@127.0.0.1:{port}/shop?options=-c%20work_mem%3D5MB&application_name=my%20notes"
        "&client_encoding=latin1&connect_timeout=9&keepalives=1&gssencmode=prefer",
        "postgres://admin:{word}@127.0.0.1:{port}/shop?work_mem=5MB&ssl=false",
        "postgresql+psycopg2://127.0.0.1:{port}/shop?user=admin&password={word}&options=-c+work_mem=5MB",
        "postgresql:///?host=127.0.0.1&port={port}&dbname=shop&user=admin&password={word}&work_mem=5MB",
        "postgresql://admin:{word}@127.0.0.1:1,127.0.0.1:{port}/shop?target_session_attrs=read-write&work_mem=5MB",
        "postgresql://admin:{word}@/shop?host=127.0.0.1:1&host=127.0.0.1:{port}&work_mem=5MB",
        "host=127.0.0.1 port={port} user=admin password='{word}' dbname=shop options='-c work_mem=5MB'",
        "postgresql:///shop?service=mine",
    ],
)
async def test_every_reader_of_an_address_gets_the_same(
    your_server: YourServer, folder: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    port, word = your_server.port, your_server.password
    (folder / "services").write_text(
        f"# by hand\n[mine]\nhost=127.0.0.1\nport={port}\nuser=admin\npassword={word}\nwork_mem=5MB\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(folder / "services"))
    url = parse_url(spelling.format(port=port, word=word))
    assert await what_each_reader_sees(url) == {"admin in shop, 5MB"}
    assert word not in f"{url} {url!r} {public_uri(url, 'shop')} {spoken(url)}"


@pytest.mark.parametrize("form", ["@{host}:{port}/shop", "@/shop?host={host}&port={port}&sslmode=require"])
async def test_a_socket_may_stand_where_a_host_does(your_server: YourServer, form: str) -> None:
    socket_folder, form = str(your_server.cluster.folder / "socket"), f"postgresql://postgres{form}"
    url = parse_url(form.format(host=quote(socket_folder, safe=""), port=your_server.port))
    assert await what_each_reader_sees(url) == {"postgres in shop, 4MB"}
    assert spoken(url) == "the local socket"


async def test_names_and_passwords_may_hold_any_sign(your_server: YourServer) -> None:
    role, word, database = "ü o'@/d %", "a b'\"/?#@%:+ü\\", "Ü d'\"@/% b"
    ident, literal = database.replace('"', '""'), word.replace("'", "''")
    your_server.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{literal}'", f'CREATE DATABASE "{ident}"')
    try:
        account, name = f"{quote(role, safe='')}:{quote(word, safe='')}", quote(database, safe="")
        url = parse_url(f"postgresql://{account}@127.0.0.1:{your_server.port}/{name}?search_path=%22a%20b%5C%22,c")
        assert await what_each_reader_sees(url) == {f"{role} in {database}, 4MB"}
    finally:
        your_server.execute(f'DROP DATABASE "{ident}"', f'DROP ROLE "{role}"')


def test_a_slash_in_a_password_may_stay_as_sqlalchemy_lets_it() -> None:
    url = parse_url("postgresql://u:p/w?x#y@h/d?sslmode=disable")
    assert (url.username, url.password, url.host, url.database) == ("u", "p/w?x#y", "h", "d")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u%20x:p%2B%20w@h:1/d%20b?options=-c%20a%3Db%2Bc&application_name=my%20notes&sslmode=require",
        "postgresql://u@/d?host=%2Fa%20b&port=5433&work_mem=5MB",
        "postgresql://u@a:1,[::1]:2/d?target_session_attrs=any",
    ],
)
def test_what_is_printed_can_be_read_again(text: str) -> None:
    """As SQLAlchemy writes it, and as libpq's URI."""
    url = parse_url(text)
    assert parse_url(url.render_as_string(hide_password=False)) == url
    assert parse_url(libpq_uri(url)) == url


def test_what_is_left_out_is_filled_in_once_for_every_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGUSER", "ada")
    assert libpq_uri(parse_url("postgresql://")) == "postgresql://ada@db.example:6543/ada"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the address"),
        ("localhost", "not the address"),
        ("jdbc:postgresql://h/d?password=p4ssw0rd", "JDBC"),
        ("host=h pasword=p4ssw0rd", "libpq's options"),
        ("service=p4ssw0rd", "service"),
        ("postgresql://u:1/p4ssw0rd@h/d", "two ways"),
        ("postgresql://u:1?x=p4ssw0rd@h/d", "two ways"),
        ("postgresql://u:p4ssw0rd%ff@h/d", "not UTF-8"),
        ("postgresql://u:p4ssw0rd\udcff@h/d", "not UTF-8"),
        ("postgresql://u:p4ssw0rd%00@h/d", "line break"),
        ("postgresql://u:p4ssw0rd\n@h/d", "not the address"),
        ("postgresql://u:p4ssw0rd@::1/d", "brackets"),
        ("postgresql://u:p4ssw0rd@a:1,/d", "has no name"),
        ("postgresql://u:p4ssw0rd@/d?host=a,b&port=1,2,3", "as many ports"),
        ("postgresql://u@h/d?p4ssw0rd", "name=value"),
        ("postgresql://u@h/d?sslmode=p4ssw0rd", "option sslmode"),
        ("postgresql://u@h/d?ssl=p4ssw0rd", "option ssl "),
        ("postgresql://u@h/d?target_session_attrs=p4ssw0rd", "option target_session_attrs"),
        ("postgresql://u@h/d?sslmode=verify-full", "option sslmode"),
        ("postgresql://u@h/d?sslrootcert=/p4ssw0rd", "option sslrootcert"),
        ("postgresql://u@h/d?sslpassword=p4ssw0rd", "option sslpassword"),
        ("postgresql://u@h/d?api_key=p4ssw0rd", "option api_key"),
        ("postgresql://u@h/d?require_auth=p4ssw0rd", "option require_auth"),
        ("postgresql://u@h/d?gssencmode=require", "option gssencmode"),
        ("postgresql://u@h/d?" + "x" * 100_000 + "-=p4ssw0rd", "option xxx"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, words: str
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(CourseError) as caught:
        parse_url(text)
    assert words in caught.value.sentence and caught.value.mend
    assert "p4ssw0rd" not in str(caught.value) and len(str(caught.value)) < 400


def test_certificates_of_the_system_are_named_by_their_file() -> None:
    file = ssl.get_default_verify_paths().cafile
    if file is None:
        pytest.skip("Python knows no file of the system's certificates here")
    url = parse_url("postgresql://u@h/d?sslrootcert=system")
    assert libpq_options(url) == {"sslmode": "verify-full", "sslrootcert": file}


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def sentence_of(answer: Answer, sslmode: str = "prefer", more: str = "") -> str:
    """What is said when a server that answers so is asked with asyncpg."""
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = parse_url(f"postgresql://u:p4ssw0rd@127.0.0.1:{port}/d?sslmode={sslmode}{more}")
        with pytest.raises(Exception) as caught:
            await asyncpg.connect(libpq_uri(url), timeout=0.5)
    failure = connection_failure(caught.value, spoken(url), sslmode=sslmode)
    assert failure is not None and "p4ssw0rd" not in str(failure)
    return failure.sentence.replace(f"127.0.0.1:{port}", "it")


def saying(*replies: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await reader.read(1000)
            writer.write(reply)
        writer.close()

    return answer


NEITHER = "it is no PostgreSQL: asked for encryption, it says neither yes nor no."


@pytest.mark.parametrize(
    ("replies", "sslmode", "sentence"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "prefer", NEITHER),
        ([b"SSH-2.0-OpenSSH\r\n"], "prefer", NEITHER),
        ([b"N"], "require", "it does not offer the encrypted connection that it is asked for."),
        ([b"N", b""], "prefer", "it closed the connection without a word."),
        ([b""], "disable", "it closed the connection without a word."),
        ([b"S", b"no encryption here"], "require", "it and this program did not agree on an encrypted connection."),
    ],
)
async def test_a_server_that_answers_otherwise_is_described_by_its_answer(
    replies: list[bytes], sslmode: str, sentence: str
) -> None:
    assert await sentence_of(saying(*replies), sslmode) == sentence


def certificate(file: Path) -> Path:
    """A certificate that has signed itself, and its key beside it."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", file.with_suffix(".key"), "-out", file, "-subj", "/CN=somewhere", "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    return file


async def test_a_certificate_that_cannot_be_verified_is_said_to_be_so(folder: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, to make a certificate")
    own, other = certificate(folder / "own.pem"), certificate(folder / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, own.with_suffix(".key"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except OSError:
            return
        writer.close()

    unknown = await sentence_of(answer, "verify-ca", f"&sslrootcert={other}")
    another_host = await sentence_of(answer, "verify-full", f"&sslrootcert={own}")
    assert unknown.startswith("The certificate of it could not be verified:")
    assert another_host.startswith("The certificate of it could not be verified:") and unknown != another_host


@pytest.mark.parametrize("name", ["PGSSLMODE", "PGTARGETSESSIONATTRS"])
async def test_a_variable_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "perhaps")
    with pytest.raises(ValueError, match=r"expected to be one of|must be one of") as caught:
        await asyncpg.connect(libpq_uri(parse_url("postgresql://u:p4ssw0rd@127.0.0.1:1/d")), timeout=1)
    failure = connection_failure(caught.value, "it")
    assert failure is not None and failure.mend == f"Run: unset {name}"


@pytest.mark.parametrize("host", ["x" * 100_000, "a..b", f"{'x' * 64}.example"])
async def test_a_host_that_can_have_no_such_name_is_one_short_sentence(host: str) -> None:
    url = parse_url(f"postgresql://u:p4ssw0rd@{host}/d")
    with pytest.raises((OSError, UnicodeError)) as caught:
        await asyncpg.connect(libpq_uri(url), timeout=1)
    failure = connection_failure(caught.value, spoken(url))
    assert failure is not None and failure.sentence.startswith("There is no host of that name")
    assert len(failure.sentence) < 120
