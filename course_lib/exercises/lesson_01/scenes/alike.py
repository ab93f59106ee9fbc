"""Keys that begin like others: a prefix is for people, and names no row."""

from __future__ import annotations

from course_lib.judging.attempt import Attempt
from course_lib.judging.staging import add_user

BEGIN_ALIKE = """
    INSERT INTO api_keys (id, user_id, label, prefix, key_hash, created_at)
    SELECT CAST('00' || substr(id::text, 3) AS uuid), (SELECT id FROM users ORDER BY ctid LIMIT 1), 'phone', prefix,
        sha256(key_hash), created_at - interval '1 day' FROM api_keys WHERE key_hash = ANY(:hashes)
    UNION ALL
    SELECT uuidv7(), :last, 'phone', prefix, sha256(sha256(key_hash)), created_at + interval '1 day'
    FROM api_keys WHERE key_hash = ANY(:hashes)
"""
PUT_BEHIND = "UPDATE api_keys SET label = label WHERE key_hash = ANY(:hashes)"  # in the table


async def add_keys_that_begin_alike(attempt: Attempt, hashes: list[bytes]) -> None:
    """Two for each of the keys with these hashes, of the first user and of the last.

    In whichever order rows come, by themselves or sorted, one of the two comes before the key itself.
    """
    await attempt.sql(BEGIN_ALIKE, hashes=hashes, last=await add_user(attempt))
    await attempt.sql(PUT_BEHIND, hashes=hashes)
