"""6.1: a column of an enum type, and its way back."""

from __future__ import annotations

from typing import ClassVar

from course_lib.exercises.lesson_06.scenes.catalogue import Catalogue, look_at_catalogue, rows_of
from course_lib.exercises.lesson_06.scenes.environment import Environment, environment_of
from course_lib.judging.asking import NOT_NULL, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import kind_of
from course_lib.judging.staging import add_user, new_name

TYPE = ("type", "visibility")
COLUMN = ("column", "conversations.visibility")

COLUMN_NOW = """
    SELECT format_type(atttypid, atttypmod) AS type, typtype::text AS kind, attnotnull AS required,
        array(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = atttypid ORDER BY enumsortorder) AS values
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = 'conversations'::regclass AND attname = 'visibility' AND NOT attisdropped
"""
OTHERS = """
    SELECT visibility::text, count(*) FROM conversations WHERE visibility IS NULL OR visibility::text <> 'private'
    GROUP BY visibility ORDER BY count(*) DESC
"""
AS_BEFORE = "INSERT INTO conversations (user_id, title) VALUES (:user, :title)"
USED = """
    UPDATE conversations SET visibility = (CASE WHEN title < 'M' THEN 'team' ELSE 'public' END)::visibility
    WHERE title <> :title
"""


class AddVisibility(Exercise):
    """What a revision makes beside its column, and what DROP COLUMN leaves behind."""

    id = "6.1"
    title = "A column and its way back"
    answer = "AddVisibility"
    minutes = 8
    points = 1
    level = "junior"
    hints: ClassVar = (
        "How many things does the revision make? Each of them has to be made before it is used, and has its own way "
        "back.",
        "An enum type lives on its own: `op.add_column` does not create it, and dropping the last column that uses it "
        "does not drop it.",
        'With `visibility = postgresql.ENUM(…, name="visibility")`, `visibility.create(op.get_bind())` makes the '
        "type. What the server is to write into rows that do not say is the column's `server_default`.",
    )
    why = (
        "The way back undoes each step in reverse order: the column uses the type, so the type goes last. Left behind, "
        "it stays unnoticed until somebody upgrades again and meets `type already exists`. The constant default fills "
        "old rows without rewriting the table, and covers the program that does not know of the column yet."
    )
    follow_up = (
        "A fourth value is wanted, and somebody asks for its way back too. What does PostgreSQL offer there, and what "
        "would text with a CHECK have offered?"
    )
    mistakes: ClassVar = {
        "method missing": "`AddVisibility` has no method `{method}`. | Two are asked for: `upgrade` and `downgrade`.",
        "not written": "`{method}` of `AddVisibility` is not written yet. | A revision without a way back is half one.",
        "no such type": "`upgrade` raised {error}: the enum type of the column does not exist. "
        "| `op.add_column` creates no type. What does, and when?",
        "rows without a value": "`upgrade` raised {error}: there are conversations, and they would have no visibility. "
        "| A NOT NULL column needs something for the rows that are there.",
        "column missing": "After `upgrade` the table `conversations` has no column `visibility`. "
        "| Table and column are named in the task.",
        "wrong type": "`visibility` is of the type {type}, and an enum type called `visibility` was asked for. "
        "| `postgresql.ENUM` or `sa.Enum`, with `name=`.",
        "wrong values": "The type's values are {values}, in this order. | They are sorted as they were created.",
        "nullable": "After `upgrade` the column takes NULL. | `nullable=False`",
        "old rows": "After `upgrade`, {count} conversation(s) that were there before hold {stored}. "
        "| All of them are private until somebody says otherwise.",
        "no default": "After `upgrade` an INSERT that does not name the column failed with {error}. "
        "| A `default` is Python's; the program that runs now has never heard of it. Whose default does it need?",
        "wrong default": "After `upgrade` an INSERT that does not name the column stored {stored}. "
        "| The default stays with the column, for the program that does not know it yet.",
        "something else": "After `upgrade` the {what}. | A revision changes what it is asked for, and nothing else.",
        "rows changed": "After `{method}` rows of `{table}` are not as they were. "
        "| A change of the schema leaves what people wrote alone.",
        "no way back": "`downgrade` raised {error}: {said}. | In which order can the two things go?",
        "still there": "After `upgrade` and `downgrade` the {what}. | Everything that `upgrade` made has to go.",
        "something gone": "After `upgrade` and `downgrade` the {what}. "
        "| The way back takes away what `upgrade` made, and nothing else.",
        "no second time": "After the way back, a second `upgrade` {did}. "
        "| It has to find the database as the first one did, and to do the same.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        before = await look_at_catalogue(attempt)
        with environment_of(attempt) as environment:
            await self._goes_up(attempt, environment, before)
            up = await look_at_catalogue(attempt)
            await attempt.sql(USED, title=await self._add_as_before(attempt))
            await self._comes_back(attempt, environment, before)
            with calling_it(attempt, "no second time", did="raised an error"):
                await environment.upgrade()
            again = (await look_at_catalogue(attempt)).since(up)
            attempt.expect(not again, "no second time", did=f"ends elsewhere: {again[0]}" if again else "")
            await self._comes_back(attempt, environment, before)

    async def _goes_up(self, attempt: Attempt, environment: Environment, before: Catalogue) -> None:
        rows = await rows_of(attempt, before)
        with (
            calling_it(attempt, "no such type", saying='type "visibility" does not exist'),
            calling_it(attempt, "rows without a value", saying=NOT_NULL),
        ):
            await environment.upgrade()
        found = await attempt.sql(COLUMN_NOW)
        attempt.expect(bool(found), "column missing")
        type_, kind, required, values = found[0]
        attempt.expect(kind == "e" and type_ == "visibility", "wrong type", type=type_)
        attempt.expect(values == ["private", "team", "public"], "wrong values", values=", ".join(values))
        attempt.expect(required, "nullable")
        others = await attempt.sql(OTHERS)
        attempt.expect(
            not others, "old rows", **dict(zip(("stored", "count"), others[0] if others else (), strict=False))
        )
        others_changed = (await look_at_catalogue(attempt)).since(before, without=(TYPE, COLUMN))
        attempt.expect(not others_changed, "something else", what=str(others_changed[0]) if others_changed else "")
        self._expect_rows(attempt, "upgrade", rows, await rows_of(attempt, before))

    async def _add_as_before(self, attempt: Attempt) -> str:
        """A conversation by the program that does not know of the column; returns its title."""
        title = new_name()
        try:
            await attempt.sql(AS_BEFORE, user=await add_user(attempt), title=title)
        except Exception as error:
            reason = error.__cause__ or error
            raise attempt.wrong("no default", error=kind_of(reason)) from error
        stored = await attempt.value("SELECT visibility::text FROM conversations WHERE title = :title", title=title)
        attempt.expect(stored == "private", "wrong default", stored=stored)
        return title

    async def _comes_back(self, attempt: Attempt, environment: Environment, before: Catalogue) -> None:
        rows = await rows_of(attempt, before)
        with calling_it(attempt, "no way back"):
            await environment.downgrade()
        for difference in (await look_at_catalogue(attempt)).since(before):
            mistake = "still there" if difference.was is None else "something gone"
            raise attempt.wrong(mistake, what=str(difference))
        self._expect_rows(attempt, "downgrade", rows, await rows_of(attempt, before))

    def _expect_rows(self, attempt: Attempt, method: str, before: dict[str, str], after: dict[str, str]) -> None:
        for table, rows in before.items():
            attempt.expect(after[table] == rows, "rows changed", method=method, table=table)
