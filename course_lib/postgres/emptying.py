"""Make a database of a pool as empty as it was given to its owner, and make sure of it.

Everything in it that the role owns goes at once, with what hangs on it. What a role can hand to somebody else, or do to
what is not its own (the schema public, rights, settings), is put back, and the catalogue is asked whether anything is
left: what has come into it since the database was made has a greater oid than the database has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

from course_lib.postgres.databases import DISCONNECT, literal, quoted

PUBLIC = 2200  # the oid of the schema public that every database is born with
LOCK_SECONDS = 5
GOODBYE_MS = 2_000
EXTENSION = "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"

_KINDS = {
    "pg_namespace": "nspname !~ '^pg_(toast_)?temp_'",
    "pg_class": "relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'",
    "pg_type": "typrelid = 0 AND typisdefined",
    "pg_extension": "NOT (SELECT rolsuper FROM pg_roles r WHERE r.oid = extowner)",
    **dict.fromkeys(
        (
            "pg_proc", "pg_operator", "pg_opclass", "pg_opfamily", "pg_cast", "pg_collation", "pg_conversion",
            "pg_ts_config", "pg_ts_dict", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_publication",
            "pg_event_trigger", "pg_language", "pg_statistic_ext", "pg_largeobject_metadata", "pg_default_acl",
        ),
        "true",
    ),
}  # fmt: skip
_FOUND = " UNION ALL ".join(
    f"SELECT '{table}'::regclass AS class, oid FROM {table} WHERE {which}" for table, which in _KINDS.items()
)
LEFT = f"""
    SELECT type, identity, CASE WHEN schema = 'public' THEN 1 WHEN type = 'schema' THEN 2 ELSE 3 END AS turn
    FROM ({_FOUND}) AS found (class, oid), LATERAL pg_identify_object(
        CASE found.class WHEN 'pg_largeobject_metadata'::regclass THEN 'pg_largeobject'::regclass ELSE found.class END,
        found.oid, 0
    )
    WHERE found.oid > (SELECT oid FROM pg_database WHERE datname = current_database())
        AND NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE (d.classid, d.objid) = (found.class, found.oid) AND deptype IN ('e', 'i'))
    ORDER BY turn
"""
"""What is in the database beyond what it was born with and extensions that an administrator has put into it."""


REFUSED = (
    asyncpg.InsufficientPrivilegeError, asyncpg.PostgresSyntaxError, asyncpg.DependentObjectsStillExistError,
)  # fmt: skip


class NotEmpty(Exception):
    """A database of the pool cannot be made empty by its owner: it says why, in words that follow its name."""


async def make_empty(connection: asyncpg.Connection[Any], owner: str, settings: Mapping[str, str]) -> None:
    """Leave nothing in the database that ``connection`` is in, within the caller's transaction.

    Args:
        owner: the role that owns the database, as it is when it logs in elsewhere.
        settings: what holds in it for that role, see ``reliance``.

    Raises:
        NotEmpty: something stays that only an administrator, or somebody else, can mend.
    """
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    await connection.execute("SELECT set_config('role', $1, true) WHERE current_user <> $1", owner)
    await connection.execute(DISCONNECT.format(name=literal(name), wait=GOODBYE_MS))
    try:
        await connection.execute("DROP OWNED BY CURRENT_USER CASCADE")
        await _put_public_back(connection)
        await _drop_the_rest(connection)
    except asyncpg.LockNotAvailableError as error:
        raise NotEmpty("is used by somebody whom your role cannot disconnect") from error
    if await connection.fetchval(EXTENSION) is None:
        raise NotEmpty("has lost pgvector, which went with the schema it was in")
    await _put_settings_back(connection, name, settings)


async def _put_public_back(connection: asyncpg.Connection[Any]) -> None:
    """The schema public: its name, its rights, its comment."""
    row = await connection.fetchrow(
        """
        SELECT nspname AS name, pg_has_role(nspowner, 'USAGE') AS ours, pg_get_userbyid(nspowner) AS owner,
            array(SELECT DISTINCT grantee::regrole::text FROM aclexplode(nspacl) WHERE grantee NOT IN (0, nspowner))
            AS others
        FROM pg_namespace WHERE oid = $1
        """,
        PUBLIC,
    )
    if row is None:
        if not await connection.fetchval("SELECT to_regnamespace('public') IS NOT NULL"):
            await connection.execute("CREATE SCHEMA public")
        return
    if not row["ours"]:
        return
    if row["name"] != "public":
        await connection.execute(f"ALTER SCHEMA {quoted(row['name'])} RENAME TO public")
    others = "".join(f"REVOKE ALL ON SCHEMA public FROM {role} CASCADE;" for role in row["others"])
    await connection.execute(
        f"{others}REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC;"
        f"GRANT ALL ON SCHEMA public TO {quoted(row['owner'])};"
        "COMMENT ON SCHEMA public IS 'standard public schema'"
    )


async def _drop_the_rest(connection: asyncpg.Connection[Any]) -> None:
    """What was handed to others, or what they have made here, as far as our role may drop it."""
    for one in await connection.fetch(LEFT):
        try:
            async with connection.transaction():
                await connection.execute(f"DROP {one['type']} IF EXISTS {one['identity']} CASCADE")
        except REFUSED:
            continue
    left = await connection.fetch(LEFT)
    if left:
        raise NotEmpty(f"holds what is not yours to drop: {left[0]['type']} {left[0]['identity'][:80]}")


async def _put_settings_back(connection: asyncpg.Connection[Any], name: str, settings: Mapping[str, str]) -> None:
    database, ours = quoted(name), f"ALTER ROLE SESSION_USER IN DATABASE {quoted(name)}"
    friends = await connection.fetch(
        "SELECT DISTINCT grantee::regrole::text AS role FROM pg_database, aclexplode(datacl) "
        "WHERE datname = current_database() AND grantee NOT IN (0, datdba)"
    )
    await connection.execute(
        f"ALTER DATABASE {database} RESET ALL; {ours} RESET ALL;"
        + "".join(f"{ours} SET {key} = {text};" for key, text in settings.items())
        + "".join(f"REVOKE ALL ON DATABASE {database} FROM {friend['role']} CASCADE;" for friend in friends)
        + f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;"
        f"GRANT ALL ON DATABASE {database} TO CURRENT_USER;"
        f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO SESSION_USER;"
        f"ALTER DATABASE {database} CONNECTION LIMIT -1 IS_TEMPLATE false"
    )
