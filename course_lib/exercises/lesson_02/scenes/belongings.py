"""What users have beside the rows that are asked for: a join too many multiplies by it."""

from __future__ import annotations

from secrets import token_hex

from course_lib.judging.attempt import Attempt


async def give_belongings(attempt: Attempt) -> None:
    """Three documents and two API keys for everybody who is there."""
    await attempt.sql(
        """
        WITH papers AS (
            INSERT INTO documents (user_id, source, title)
            SELECT id, :mark || n, 'Handbook' FROM users, generate_series(1, 3) AS n
        )
        INSERT INTO api_keys (user_id, label, prefix, key_hash)
        SELECT id, 'laptop', 'sk-' || n, sha256(convert_to(:mark || id || n, 'UTF8'))
        FROM users, generate_series(1, 2) AS n
        """,
        mark=token_hex(4),
    )
