"""Where a server demands encryption, the relay speaks it, and its clients need not."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
import pytest

from course_lib.errors import CourseError
from course_lib.instruments.network import Wire
from course_lib.postgres.address import libpq_uri, parse_url
from tests.postgres.places import YourServer, until

QUESTION = bytes.fromhex("0000000804d2162f")
SASL = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
SASL_OVER_TLS = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
REFUSAL = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host\0\0"


@dataclass
class Front:
    """A server that encrypts, before one that cannot: it offers binding to the channel, as such a server does."""

    server: YourServer
    certificate: Path
    speaks: str = "TLS"
    encrypted: int = 0
    plain: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, rest = await reader.read(8), b""
        if first == QUESTION and "TLS" in self.speaks:
            writer.write(b"S")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
            with suppress(OSError):
                await writer.start_tls(context)
                self.encrypted += 1
                await self._pass(reader, writer, b"")
        elif first == QUESTION:
            writer.write(b"N")
            await self._pass(reader, writer, b"")
        else:
            self.plain += 1
            rest = first
            if self.speaks == "TLS":
                writer.write(b"E" + (4 + len(REFUSAL)).to_bytes(4) + REFUSAL)
            else:
                await self._pass(reader, writer, rest)
        with suppress(OSError):
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        up_writer.write(first)
        offered = SASL_OVER_TLS if self.encrypted else SASL

        async def down() -> None:
            while data := await up_reader.read(65536):
                writer.write(data.replace(SASL, offered))
                await writer.drain()
            writer.close()

        async def up() -> None:
            while data := await reader.read(65536):
                up_writer.write(data)
                await up_writer.drain()
            up_writer.close()

        await asyncio.gather(down(), up(), return_exceptions=True)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        listening = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()


@pytest.fixture(scope="module")
def certificate(shared_folder: Path) -> Path:
    """Of localhost, signed by itself; its key lies beside it."""
    if not shutil.which("openssl"):
        pytest.skip("needs the program openssl, to make a certificate")
    path = shared_folder / "server.crt"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-out", path, "-keyout", path.with_suffix(".key")], check=True, capture_output=True)
    other = shared_folder / "other.crt"
    subprocess.run([*command, "-out", other, "-keyout", other.with_suffix(".key")], check=True, capture_output=True)
    return path


def address(server: YourServer, host: str, port: int, more: str) -> str:
    return f"postgresql://admin:{server.password}@{host}:{port}/postgres?{more}"


async def ask_both_drivers(wire: Wire) -> list[int]:
    connection = await asyncpg.connect(libpq_uri(wire.url))
    try:
        found: list[int] = [await connection.fetchval("SELECT length(repeat('x', 1000000))")]
    finally:
        await connection.close()
    async with await psycopg.AsyncConnection.connect(libpq_uri(wire.url)) as other:
        async with other.cursor() as cursor:
            await cursor.execute("SELECT length(%s)", ["x" * 300_000])
            row = await cursor.fetchone()
            assert row is not None
            found.append(row[0])
        running = asyncio.create_task(other.execute("SELECT pg_sleep(300)"))
        await until(lambda: wire.traffic().passed[-1].ended is None)
        await other.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
    return found


@pytest.mark.parametrize(
    ("speaks", "host", "more", "encrypted"),
    [
        ("TLS", "127.0.0.1", "sslmode=require", True),
        ("TLS", "127.0.0.1", "sslmode=prefer", True),
        ("TLS", "127.0.0.1", "", True),
        ("TLS", "127.0.0.1", "sslmode=allow", True),
        ("TLS or not", "127.0.0.1", "sslmode=allow", False),
        ("TLS or not", "127.0.0.1", "sslmode=disable", False),
        ("nothing", "127.0.0.1", "sslmode=prefer", False),
        ("TLS", "127.0.0.1", "sslmode=verify-ca&sslrootcert={certificate}", True),
        ("TLS", "localhost", "sslmode=verify-full&sslrootcert={certificate}", True),
    ],
)
async def test_the_relay_speaks_what_the_address_asks_for(
    your_server: YourServer, certificate: Path, speaks: str, host: str, more: str, encrypted: bool
) -> None:
    front = Front(your_server, certificate, speaks)
    async with asyncio.timeout(60), front.open() as port:
        wire = Wire.open(parse_url(address(your_server, host, port, more.format(certificate=certificate))))
        assert await ask_both_drivers(wire) == [1_000_000, 300_000]
        assert bool(front.encrypted) == encrypted
        assert str(wire.url.query["host"]).startswith("/"), "no port of this machine leads there"
        wire.close()


@pytest.mark.parametrize(
    ("speaks", "host", "more", "words"),
    [
        ("nothing", "127.0.0.1", "sslmode=require", "does not speak TLS"),
        ("TLS", "127.0.0.1", "sslmode=disable", "no pg_hba.conf entry"),
        ("TLS", "127.0.0.1", "sslmode=verify-ca&sslrootcert={other}", "self-signed certificate|signature"),
        ("TLS", "127.0.0.1", "sslmode=verify-full&sslrootcert={certificate}", "IP address mismatch"),
    ],
)
async def test_what_the_address_does_not_allow_is_refused(
    your_server: YourServer, certificate: Path, speaks: str, host: str, more: str, words: str
) -> None:
    front = Front(your_server, certificate, speaks)
    async with asyncio.timeout(60), front.open() as port:
        more = more.format(certificate=certificate, other=certificate.with_name("other.crt"))
        wire = Wire.open(parse_url(address(your_server, host, port, more)))
        with pytest.raises(asyncpg.PostgresError, match=words):
            await asyncpg.connect(libpq_uri(wire.url))
        wire.close()


async def test_of_several_servers_the_one_that_a_driver_takes(your_server: YourServer) -> None:
    url = parse_url(
        f"postgresql://admin:{your_server.password}@127.0.0.1:1,127.0.0.1:{your_server.port}/postgres"
        "?target_session_attrs=read-write"
    )
    wire = Wire.open(url)
    connection = await asyncpg.connect(libpq_uri(wire.url))
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    wire.close()
    with pytest.raises(CourseError, match="None of the servers"):
        Wire.open(parse_url("postgresql://u:secret@127.0.0.1:1,127.0.0.1:2/postgres"))
