"""What an answer does to roles and to the server's settings outlives its database: it is looked at, and put back.

It is touched only where the wire saw a statement of the answer's that can have changed it, since others use the server
meanwhile: on the course's own server all that differs, elsewhere the role's own settings and roles that such a
statement names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from course_lib.postgres.databases import literal, quoted
from course_lib.postgres.server import Connection

State = Mapping[str, Any]
"""Plain values: ``me``, ``roles`` by name, ``settings`` as [role or "", name, value], ``system`` by name."""

CAN_CHANGE = re.compile(r"\b(ALTER\s+SYSTEM|(CREATE|ALTER|DROP)\s+(ROLE|USER|GROUP)|REASSIGN|pg_reload_conf)\b", re.I)
ATTRIBUTES = {
    "rolsuper": "SUPERUSER", "rolinherit": "INHERIT", "rolcreaterole": "CREATEROLE", "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN", "rolreplication": "REPLICATION", "rolbypassrls": "BYPASSRLS",
}  # fmt: skip

_LOOK = """
    SELECT jsonb_build_object(
        'me', current_user,
        'roles', (
            SELECT jsonb_object_agg(rolname, to_jsonb(r) - 'oid' - 'rolconfig') FROM {roles} AS r
            WHERE rolname NOT LIKE 'pg\\_%'
        ),
        'settings', (
            SELECT coalesce(jsonb_agg(jsonb_build_array(
                coalesce(rolname, ''), split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
            )), '[]')
            FROM pg_db_role_setting LEFT JOIN pg_roles ON pg_roles.oid = setrole, unnest(setconfig) AS setting
            WHERE setdatabase = 0
        ),
        'system', {system}
    )
"""
_OF_A_SUPERUSER = _LOOK.format(
    roles="pg_authid",
    system="""(SELECT coalesce(jsonb_object_agg(name, setting), '{}') FROM pg_file_settings
              WHERE sourcefile LIKE '%postgresql.auto.conf')""",
)
_OF_ANYBODY = _LOOK.format(roles="pg_roles", system="'{}'::jsonb")


async def look_at_server(connection: Connection, embedded: bool) -> State:
    """Roles and settings as they are now; on the course's own server passwords' hashes and ALTER SYSTEM too."""
    all_of_it = embedded and connection.get_settings().is_superuser == "on"
    state: State = json.loads(await connection.fetchval(_OF_A_SUPERUSER if all_of_it else _OF_ANYBODY))
    return state


async def put_back(connection: Connection, embedded: bool, before: State, said: str | None) -> list[str]:
    """Undo what differs from ``before``; in words what that was.

    Args:
        connection: an administrative one, on which settings may be changed.
        embedded: whether it is the course's own server.
        before: what ``look_at_server`` said.
        said: the texts of all statements of the answer; None where they are not known.
    """
    if said is None:
        said = ""
    elif CAN_CHANGE.search(said) is None:
        return []
    now = await look_at_server(connection, embedded)

    def may_touch(role: str) -> bool:
        return embedded or role == before["me"] or role in said

    undone = []
    for what, statement in (*_roles(before, now, may_touch, said), *_system(before, now)):
        await connection.execute(statement)
        undone.append(what)
    return undone + await _settings(connection, before, now, may_touch)


def _roles(before: State, now: State, may_touch: Callable[[str], bool], said: str) -> Iterator[tuple[str, str]]:
    """A new role goes only where a statement names it: it may be that of somebody else's check."""
    old, new = before["roles"], now["roles"]
    for role in sorted(new.keys() - old.keys()):
        if role in said:
            yield f"the role {role}", f"DROP OWNED BY {quoted(role)}; DROP ROLE {quoted(role)}"
    for role in sorted(old):
        if old[role] != new.get(role) and may_touch(role):
            verb = "ALTER" if role in new else "CREATE"
            yield f"the role {role}", f"{verb} ROLE {quoted(role)} {_attributes(old[role])}"


def _attributes(role: Mapping[str, Any]) -> str:
    words = [word if role[name] else f"NO{word}" for name, word in ATTRIBUTES.items()]
    words.append(f"CONNECTION LIMIT {int(role['rolconnlimit'])}")
    words.append(f"VALID UNTIL {literal(role['rolvaliduntil'] or 'infinity')}")
    if "rolpassword" in role and role["rolpassword"] != "********":  # pg_roles says no more than stars
        words.append(f"PASSWORD {literal(role['rolpassword']) if role['rolpassword'] else 'NULL'}")
    return " ".join(words)


def _system(before: State, now: State) -> Iterator[tuple[str, str]]:
    old, new = before["system"], now["system"]
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    for name in changed:
        how = f"SET {quoted(name)} = {literal(old[name])}" if name in old else f"RESET {quoted(name)}"
        yield f"the server's {name}", f"ALTER SYSTEM {how}"
    if changed:
        yield "its configuration, read anew", "SELECT pg_reload_conf()"


async def _settings(connection: Connection, before: State, now: State, may_touch: Callable[[str], bool]) -> list[str]:
    old, new = ({(role, name): value for role, name, value in state["settings"]} for state in (before, now))
    undone = []
    for role, name in sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
        if not may_touch(role) or (role and role not in before["roles"]):
            continue
        whose = f"ROLE {quoted(role)}" if role else "ROLE ALL"
        if (role, name) in old:  # through the session, since a list is not written as one constant
            await connection.execute("SELECT set_config($1, $2, false)", name, old[role, name])
            await connection.execute(f"ALTER {whose} SET {quoted(name)} FROM CURRENT")
        else:
            await connection.execute(f"ALTER {whose} RESET {quoted(name)}")
        undone.append(name)
    return undone
