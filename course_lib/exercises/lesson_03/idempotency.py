"""What exercise 3.9 gives its learners: a table for the keys of requests, and the error for a key that is reused."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

CREATE = """
    CREATE TABLE idempotency_keys (
        user_id      uuid  NOT NULL REFERENCES users ON DELETE CASCADE,
        key          text  NOT NULL,
        request_hash bytea NOT NULL,
        response     jsonb,
        PRIMARY KEY (user_id, key)
    )
"""
"""The table, as the statement of 3.9 shows it. It is no table of the product: there is no migration for it."""

idempotency_keys = Table(
    "idempotency_keys",
    MetaData(),
    Column("user_id", Uuid, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("response", JSONB),
)
"""The table that the answer may use, as SQLAlchemy's Core describes it."""


class KeyReused(Exception):
    """To be raised when a key comes again with another request."""
