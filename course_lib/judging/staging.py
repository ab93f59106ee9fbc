"""Rows that judges put on stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from secrets import choice, token_hex
from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt

FIRST_NAMES = ("Mara", "Idris", "Nadia", "Olu", "Pia", "Quim", "Runa", "Sami")


def new_email(before: str = "") -> str:
    """An e-mail that nobody has."""
    return f"{before or choice(FIRST_NAMES).lower()}.{token_hex(3)}@example.org"


def new_name() -> str:
    return f"{choice(FIRST_NAMES)} {token_hex(2).capitalize()}"


async def add_user(attempt: Attempt, email: str | None = None, limit: int = 100_000, used: int = 0) -> UUID:
    """A user; returns the id."""
    id: UUID = await attempt.value(
        "INSERT INTO users (email, name, token_limit, tokens_used) VALUES (:email, :name, :limit, :used) RETURNING id",
        email=email or new_email(), name=new_name(), limit=limit, used=used,
    )  # fmt: skip
    return id


async def add_rows(attempt: Attempt, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows in this order, in one statement. All have the same keys."""
    columns = ", ".join(rows[0])
    records = f"jsonb_populate_recordset(NULL::{table}, CAST(:rows AS jsonb))"
    await attempt.sql(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {records}", rows=json.dumps(rows, default=str)
    )


async def other_rows(attempt: Attempt, table: str, column: str, mine: Any) -> str:
    """A fingerprint of the rows of ``table`` that are not ``mine``: it changes when one of them does."""
    print_: str = await attempt.value(
        f"SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t.id), '')) FROM {table} AS t WHERE {column} <> :mine",
        mine=mine,
    )
    return print_
