"""The server of a class: the one that ``DATABASE_URL`` names, or an embedded one for a class on one machine.

The embedded one is not that of the teacher's own lessons, whose socket nobody else can reach and which stops by itself.
It is a second one, which learners reach on 127.0.0.1 with the name of their role and a password; its superuser is let
in by the socket only, which lies in a folder of the teacher's alone. While it is down, another user of that machine
could listen on its port and be told passwords: where users do not trust each other that far, use a server that runs as
a service. As all that is embedded here it does not write through to the disk: after a loss of power, ``create`` makes
what is lost again, with the passwords that were given out.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from functools import cache
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.postgres.address import parse_url, spoken
from course_lib.postgres.binaries import MAJOR, reachable_installation, server_account
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.files import make_folder, write_file
from course_lib.postgres.fitness import ask_fitness
from course_lib.postgres.server import Connection, Server, connect, environment_names_a_server, find_server, server_home

HOST = "127.0.0.1"
MOST_CONNECTIONS = 2_000  # 60 MB more than the lessons' 200, and enough for ninety-nine learners
RULES = """\
local all postgres trust
local all all reject
host all postgres all reject
host all all 127.0.0.1/32 scram-sha-256
"""
SETTINGS = {
    "listen_addresses": f"'{HOST}'",
    "max_connections": str(MOST_CONNECTIONS),
    "authentication_timeout": "10s",  # who has not said a password yet holds a place too
}
OWN = ("postgres", "template1")


@cache
def class_cluster() -> Cluster:
    """The embedded server of this user's classes, beside the one of this user's own lessons.

    Raises:
        CourseError: Windows, where the embedded server has one way in for everybody.
    """
    if os.name == "nt":
        raise CourseError(
            "On Windows the course has no embedded server for a class.",
            "Set DATABASE_URL to a PostgreSQL that the class can reach.",
        )
    home, account = server_home(), server_account()
    folder = home / f"class-{MAJOR}"
    settings = SETTINGS | {"port": str(_port(folder))}
    return Cluster(folder, reachable_installation(home, account), account, settings, RULES)


def _port(folder: Path) -> int:
    """The same at every start, since it stands on the learners' sheets; a free one at first, the first program's."""
    place = folder / "class_port"
    if place.is_file():
        return int(place.read_text())
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    make_folder(folder, server_account())
    own = folder / f"class_port.{os.getpid()}.{secrets.token_hex(4)}"
    write_file(own, str(port))
    try:
        os.link(own, place)  # whole, or not at all where another was faster
    except FileExistsError:
        return int(place.read_text())
    finally:
        own.unlink()
    return port


async def find_class_server() -> Server:
    """The server of the class, for the teacher: the embedded one is started when it does not run.

    Raises:
        CourseError: it cannot be started or reached, or will not do for lessons.
    """
    if environment_names_a_server():
        return await find_server()
    cluster = class_cluster()
    await asyncio.to_thread(cluster.ensure_running)
    url = parse_url(cluster.address().dsn)
    connection = await connect(url)
    try:
        fit = await ask_fitness(connection, spoken(url))
    finally:
        await connection.close()
    return Server(url, True, fit.version, fit.pgvector, settings=fit.settings)


async def close_embedded(server: Server, connection: Connection) -> None:
    """Let nobody into the embedded server's own databases, and put pgvector into those that are made.

    A learner who sat in ``template1`` would keep everybody from copying it.
    """
    for name in OWN:
        if await connection.fetchval("SELECT has_database_privilege('public', $1::text, 'CONNECT')", name):
            await connection.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC")
    async with server.connection("template1") as template:
        await template.execute("CREATE EXTENSION IF NOT EXISTS vector")


def stop_class_server() -> bool:
    """Stop the embedded one. Returns False when it was not running."""
    return class_cluster().stop()
