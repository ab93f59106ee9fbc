"""Settings that the course relies on, whatever a role, a database or a server sets by default.

The course's own connections set them when they connect. Learners connect with engines of their own making, so where a
default differs, each database of the course gets the setting for the role that logs in.
"""

from __future__ import annotations

SHORT = 60_000  # milliseconds; longer limits of an administrator stand, and no lesson meets them
TIMEOUTS = (
    "statement_timeout", "lock_timeout", "transaction_timeout",
    "idle_in_transaction_session_timeout", "idle_session_timeout",
)  # fmt: skip
VALUES = {
    "search_path": '"$user", public',
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    **dict.fromkeys(TIMEOUTS, "0"),
}
LISTS = {"search_path", "datestyle"}  # written as they are; a constant would be one element

AT_ONCE = dict.fromkeys(TIMEOUTS, "0")
"""For a connection's greeting, which some poolers in between let no setting into."""

OUR_OWN = {"synchronous_commit": "on"}
"""Of the course's own connections only: what they have done outlives a killed server, be its disk synced or not."""

_PAIRS = ", ".join(f"('{name}', '{value}')" for name, value in VALUES.items())
_OWN_PAIRS = ", ".join(f"('{name}', '{value}')" for name, value in (VALUES | OUR_OWN).items())
_TIMEOUTS = ", ".join(f"'{name}'" for name in TIMEOUTS)

SET = f"""
    SELECT pg_catalog.set_config(name, value, false) FROM (VALUES {_OWN_PAIRS}) AS relied (name, value)
    WHERE pg_catalog.current_setting(name, true) IS NOT NULL
"""
"""Sets them all for a connection. An older server, which is refused later, need not know each.

It is the first statement, when a database's owner still decides where names are looked for: it names the schema of all.
"""

CATALOG = "pg_catalog, pg_temp"
AMONG_STRANGERS = AT_ONCE | {
    "search_path": CATALOG,
    "default_transaction_read_only": "off",
    "local_preload_libraries": "",
    "exit_on_error": "off",
}
"""For the greeting in a database that somebody else owns: what is said there wins over ALTER DATABASE … SET."""

ONLY_CATALOG = f"SET search_path = {CATALOG}"

DIFFERENT = f"""
    SELECT array_agg(relied.name) FROM (VALUES {_PAIRS}) AS relied (name, value)
    JOIN pg_settings s ON lower(s.name) = relied.name
    WHERE CASE WHEN relied.name IN ({_TIMEOUTS}) THEN s.reset_val::bigint BETWEEN 1 AND {SHORT - 1}
          ELSE s.reset_val <> relied.value END
"""
"""The names of those whose default, for this role on this server, is another one."""

READ_ONLY = """
    SELECT reset_val = 'on' AND NOT EXISTS (
        SELECT FROM pg_db_role_setting, unnest(setconfig) AS one
        WHERE one LIKE 'default_transaction_read_only=%'
          AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
          AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ) FROM pg_settings WHERE name = 'default_transaction_read_only'
"""
"""Whether the whole server was set to read only by who runs it, and not just this role or database."""


def settings_for(names: list[str] | None) -> dict[str, str]:
    """Name and value, as ALTER ROLE … SET takes it."""
    return {name: VALUES[name] if name in LISTS else f"'{VALUES[name]}'" for name in names or ()}
