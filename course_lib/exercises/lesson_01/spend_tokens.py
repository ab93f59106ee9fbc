"""1.4: a budget that nobody overdraws, however many try at once."""

from __future__ import annotations

from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.judging.asking import CHECK, DEADLOCK, ask, ask_at_once, calling_it, while_another_writes
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user, other_rows

AT_ONCE = 5


class SpendTokens(Exercise):
    """A condition and a change in one UPDATE."""

    id = "1.4"
    title = "Spend tokens, never too many"
    answer = "spend_tokens"
    minutes = 10
    points = 2
    level = "mid"
    hints: ClassVar = (
        "Between reading a number and writing it back, somebody else may change it. Who could look and change in one "
        "go?",
        "An UPDATE can compute from the column itself, `tokens_used + n`, and its WHERE can ask whether that still "
        "fits.",
        "Whether a row was changed tells whether it fitted: `RETURNING`, or `rowcount` of the result.",
    )
    why = (
        "The UPDATE locks the row, looks at its newest state and changes it, all in one. A second session waits for "
        "the "
        "first and then sees what is left. Read, decide in Python, write back: two sessions decide on the same old "
        "number."
    )
    follow_up = (
        "The length of an LLM's answer is known only afterwards. How do you reserve tokens before, and settle after?"
    )
    _most = 0
    """Statements of the call that sent the most."""
    mistakes: ClassVar = {
        "nothing returned": "`spend_tokens` returned None. | Did you forget `return`?",
        "not a bool": "`spend_tokens` returned {kind}, and True or False was asked for. "
        "| Compare what came back, for example with `== 1` or `is not None`.",
        "refused too early": "With {left} tokens left it refused to spend {n}. | Spending all that is left is allowed.",
        "not committed": "It said True for {n} tokens, and no other connection sees them spent. | What makes it last?",
        "wrong amount": "It was to spend {n} tokens, and `tokens_used` moved by {moved}. | `tokens_used + n`.",
        "others charged": "Other users were charged too. | The user's id belongs into the WHERE of the UPDATE.",
        "false yes": "It said True for {n} tokens with {left} left. | Did the UPDATE change a row? Ask it.",
        "left to the constraint": "Asked for {n} tokens with {left} left, it raised {error}. "
        "| False was asked for: let the WHERE ask whether it fits.",
        "changed although refused": "It said False for {n} tokens, and `{column}` is not what it was. "
        "| Refused means untouched: no row is written.",
        "unknown user": "For an id that nobody has, it {did}. | No row changed means False.",
        "decided too early": "While another session spent from the same account, it raised {error}. "
        "| Decide and change in one UPDATE at READ COMMITTED: it waits, and looks at the newest row.",
        "lost update": "{times} sessions spent {n} each while another one spent {other}: {yes} were told True, "
        "and `tokens_used` moved by {moved}. "
        "| Decide and change in one UPDATE: it waits for the row and looks at its newest state.",
        "deadlock": "Two sessions spent {n} each at once, and it raised {error}: {said}. "
        "| A lock that two may hold at once, such as FOR SHARE, lets both through to wait for each other. "
        "One UPDATE takes the row alone.",
        "two statements": "It is right, in {count} statements, and one was asked for. "
        "| RETURNING or `rowcount` tells what the UPDATE did.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        self._most = 0
        n, left = 100 + randbelow(900), 50 + randbelow(50)
        user_id = await add_user(attempt, limit=n + left + 1000, used=1000)
        others = await other_rows(attempt, "users", "id", user_id)
        await self._spends(attempt, user_id, n, left + n)
        attempt.expect(await other_rows(attempt, "users", "id", user_id) == others, "others charged")
        await self._refuses(attempt, user_id, left + 1, left)
        await self._spends(attempt, user_id, left, left)
        await self._refuses(attempt, user_id, 1, 0)
        did = "returned True"
        with calling_it(attempt, "unknown user", did="raised an error"):
            said = await self._ask(attempt, uuid4(), n)
        attempt.expect(not said, "unknown user", did=did)
        await self._waits_for_the_row_alone(attempt)
        await self._holds_under_concurrency(attempt)
        attempt.expect(self._most <= 1, "two statements", count=self._most)
        await expect_errors_to_rise(attempt, user_id, 1)

    async def _spends(self, attempt: Attempt, user_id: UUID, n: int, left: int) -> None:
        before = await _used(attempt, user_id)
        said = await self._ask(attempt, user_id, n)
        moved = await _used(attempt, user_id) - before
        attempt.expect(said, "refused too early", n=n, left=left)
        attempt.expect(moved != 0, "not committed", n=n)
        attempt.expect(moved == n, "wrong amount", n=n, moved=moved)

    async def _refuses(self, attempt: Attempt, user_id: UUID, n: int, left: int) -> None:
        before = await _account(attempt, user_id)
        with calling_it(attempt, "left to the constraint", IntegrityError, saying=CHECK, n=n, left=left):
            said = await self._ask(attempt, user_id, n)
        after = await _account(attempt, user_id)
        changed = [column for column, value in before.items() if after[column] != value]
        attempt.expect(not said, "false yes", n=n, left=left)
        attempt.expect(not changed, "changed although refused", n=n, column="` and `".join(changed))

    async def _holds_under_concurrency(self, attempt: Attempt) -> None:
        n, fit, other = 100 + randbelow(100), 1 + randbelow(3), 200 + randbelow(100)
        user_id = await add_user(attempt, limit=other + n * fit + n // 2, used=0)
        with calling_it(attempt, "decided too early"):
            answers = await while_another_writes(
                attempt,
                "UPDATE users SET tokens_used = tokens_used + :other WHERE id = :id",
                {"other": other, "id": user_id},
                lambda: ask_at_once(attempt, AT_ONCE, user_id, n),
                waiting=AT_ONCE,
            )
        yes, moved = answers.count(True), await _used(attempt, user_id)
        right = yes == fit and moved == other + n * fit
        attempt.expect(right, "lost update", times=AT_ONCE, n=n, other=other, yes=yes, moved=moved)

    async def _waits_for_the_row_alone(self, attempt: Attempt) -> None:
        """Two spend while a third holds the row FOR SHARE: who takes no more than that gets it, beside the other."""
        n = 100 + randbelow(100)
        user_id = await add_user(attempt, limit=2 * n, used=0)
        held = "SELECT id FROM users WHERE id = :id FOR SHARE"
        early = calling_it(attempt, "decided too early")
        with early, calling_it(attempt, "deadlock", DBAPIError, saying=DEADLOCK, n=n):
            await while_another_writes(
                attempt, held, {"id": user_id}, lambda: ask_at_once(attempt, 2, user_id, n), waiting=2
            )

    async def _ask(self, attempt: Attempt, user_id: UUID, n: int) -> bool:
        said = await ask(attempt, user_id, n)
        self._most = max(self._most, attempt.log.count)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, bool), "not a bool", kind=article(said))
        return bool(said)


async def _used(attempt: Attempt, user_id: UUID) -> int:
    used: int = (await _account(attempt, user_id))["tokens_used"]
    return used


async def _account(attempt: Attempt, user_id: UUID) -> dict[str, Any]:
    """The user's row by column."""
    row: dict[str, Any] = await attempt.value("SELECT to_jsonb(u) FROM users AS u WHERE id = :id", id=user_id)
    return row
