"""Answers to 6.4, NOT NULL on a busy table."""

from __future__ import annotations

import contextlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

from tests.exercises.written import Answers

ANSWERS = Answers("6.4")
DEFAULT = "ALTER TABLE messages ALTER model SET DEFAULT 'unknown'"
BATCH = """
    UPDATE messages SET model = 'unknown' WHERE id IN (SELECT id FROM messages WHERE model IS NULL LIMIT {size})
"""
NOT_VALID = "ALTER TABLE messages ADD CONSTRAINT messages_model_not_null NOT NULL model NOT VALID"
VALIDATE = "ALTER TABLE messages VALIDATE CONSTRAINT messages_model_not_null"
SET_NOT_NULL = "ALTER TABLE messages ALTER model SET NOT NULL"


def fill(size=500):
    while op.get_bind().exec_driver_sql(BATCH.format(size=size)).rowcount:
        pass


class Steps:
    """The four of them, each a transaction of its own."""

    def steps(self):
        op.execute(DEFAULT)
        fill()
        op.execute(NOT_VALID)
        op.execute(VALIDATE)

    def upgrade(self):
        with op.get_context().autocommit_block():
            self.steps()

    def downgrade(self):
        op.alter_column("messages", "model", nullable=True, server_default=None)


@ANSWERS.right
class FourSteps(Steps):
    pass


@ANSWERS.right
class TheDetourOfACheck(Steps):
    def steps(self):
        op.alter_column("messages", "model", server_default=sa.text("'unknown'"))
        fill(1000)
        op.execute("ALTER TABLE messages DROP CONSTRAINT IF EXISTS model_there")
        op.execute("ALTER TABLE messages ADD CONSTRAINT model_there CHECK (model IS NOT NULL) NOT VALID")
        op.execute("ALTER TABLE messages VALIDATE CONSTRAINT model_there")
        op.execute(SET_NOT_NULL)
        op.drop_constraint(op.f("model_there"), "messages")


@ANSWERS.right
class CommitsOfItsOwn(Steps):
    """The default with the revision's own transaction, which the block commits."""

    def upgrade(self):
        op.execute(DEFAULT)
        with op.get_context().autocommit_block():
            op.execute(
                "DO $$ DECLARE n int; BEGIN LOOP "
                "UPDATE messages SET model = 'unknown' WHERE ctid = ANY (ARRAY("
                "SELECT ctid FROM messages WHERE model IS NULL LIMIT 400)); "
                "GET DIAGNOSTICS n = ROW_COUNT; EXIT WHEN n = 0; COMMIT; END LOOP; END $$"
            )
            op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.right
class ByKey(Steps):
    def steps(self):
        op.execute("ALTER TABLE messages ALTER COLUMN model SET DEFAULT 'unknown'")
        connection, last = op.get_bind(), "00000000-0000-0000-0000-000000000000"
        page = sa.text("SELECT id FROM messages WHERE id > :last ORDER BY id LIMIT 300")
        change = sa.text("UPDATE messages SET model = 'unknown' WHERE id = ANY(:ids) AND model IS NULL")
        while ids := connection.scalars(page, {"last": last}).all():
            connection.execute(change, {"ids": ids})
            last = ids[-1]
        fill()
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.right
class Impatient(Steps):
    """Stands in no queue: it would rather try again."""

    def steps(self):
        self.tries(DEFAULT)
        fill()
        self.tries(NOT_VALID)
        self.tries(VALIDATE)

    def tries(self, statement):
        while True:
            try:
                op.execute(
                    f"DO $$ BEGIN LOCK TABLE messages IN ACCESS EXCLUSIVE MODE NOWAIT; {statement}; END $$"
                    if statement != VALIDATE
                    else statement
                )
                return
            except DBAPIError:
                pass


@ANSWERS.right
class WithAnIndexForTheTime(Steps):
    """Finds what is left to fill, and goes again."""

    def steps(self):
        op.execute(DEFAULT)
        left = {"postgresql_where": sa.text("model IS NULL"), "postgresql_concurrently": True}
        op.create_index("ix_messages_left", "messages", ["id"], **left)
        fill()
        op.drop_index("ix_messages_left", "messages", postgresql_concurrently=True)
        op.execute("SET lock_timeout = '200ms'")
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("method missing")
class NoWayBack:
    def upgrade(self):
        Steps().upgrade()


@ANSWERS.wrong("not written")
class NoWayBackYet:
    def upgrade(self):
        Steps().upgrade()

    def downgrade(self):
        raise NotImplementedError


@ANSWERS.wrong("error swallowed")
class NeverComplains(Steps):
    def upgrade(self):
        with op.get_context().autocommit_block(), contextlib.suppress(DBAPIError):
            self.steps()


@ANSWERS.wrong("left behind")
class BackfillFirst(Steps):
    def steps(self):
        fill()
        op.execute(DEFAULT)
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("left behind")
class NoBackfill(Steps):
    def steps(self):
        op.execute(DEFAULT)
        op.execute(SET_NOT_NULL)


@ANSWERS.wrong("writer refused")
class ConstraintBeforeTheBackfill(Steps):
    def steps(self):
        op.execute(DEFAULT)
        op.execute(NOT_VALID)
        fill()
        op.execute(VALIDATE)


@ANSWERS.wrong("writer refused")
class DefaultAtTheEnd(Steps):
    def steps(self):
        op.execute("ALTER TABLE messages DROP COLUMN IF EXISTS nothing")
        fill()
        op.execute(NOT_VALID)
        op.execute(VALIDATE)
        op.execute(DEFAULT)


@ANSWERS.wrong("nulls left")
class OnlyValues(Steps):
    def steps(self):
        fill()


@ANSWERS.wrong("nulls left")
class OneBatch(Steps):
    def steps(self):
        op.execute(DEFAULT)
        op.execute(BATCH.format(size=500))


@ANSWERS.wrong("wrong value")
class AnEmptyText(Steps):
    def steps(self):
        op.execute("UPDATE messages SET model = '' WHERE model IS NULL AND seq % 3 = 0")
        super().steps()


@ANSWERS.wrong("value lost")
class FillsThemAll(Steps):
    def steps(self):
        super().steps()
        op.execute("UPDATE messages SET model = 'unknown'")


@ANSWERS.wrong("value lost")
class TakesAnEmptyTextForNone(Steps):
    def steps(self):
        op.execute(DEFAULT)
        while (
            op.get_bind()
            .exec_driver_sql(BATCH.format(size=500).replace("model IS NULL", "coalesce(model, '') = ''"))
            .rowcount
        ):
            pass
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("passed over")
class SkipsWhatIsHeld(Steps):
    """Until there is nothing left that it can have at once."""

    def steps(self):
        op.execute(DEFAULT)
        while op.get_bind().exec_driver_sql(BATCH.format(size="500 FOR UPDATE SKIP LOCKED")).rowcount:
            pass
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.right
class ComesBackForWhatWasHeld(Steps):
    def steps(self):
        op.execute(DEFAULT)
        connection = op.get_bind()
        while connection.exec_driver_sql("SELECT EXISTS (SELECT FROM messages WHERE model IS NULL)").scalar():
            connection.exec_driver_sql(BATCH.format(size="500 FOR UPDATE SKIP LOCKED"))
            connection.exec_driver_sql("SELECT pg_sleep(0.01)")
        op.execute("ALTER TABLE messages DROP CONSTRAINT IF EXISTS messages_model_not_null")
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("not again")
class LeavesAConstraintInItsWay(Steps):
    """A VALIDATE that is cancelled leaves the constraint that the next run adds."""

    def steps(self):
        op.execute(DEFAULT)
        fill()
        op.execute("ALTER TABLE messages ADD CONSTRAINT model_there CHECK (model IS NOT NULL) NOT VALID")
        op.execute("ALTER TABLE messages VALIDATE CONSTRAINT model_there")
        op.execute(SET_NOT_NULL)
        op.drop_constraint(op.f("model_there"), "messages")


@ANSWERS.wrong("error swallowed")
class PrintsWhatComesAfterTheFill(Steps):
    def steps(self):
        op.execute(DEFAULT)
        fill()
        with contextlib.suppress(DBAPIError):
            op.execute("ALTER TABLE messages DROP CONSTRAINT IF EXISTS messages_model_not_null")
            op.execute(NOT_VALID)
            op.execute(VALIDATE)


@ANSWERS.wrong("nullable")
class DefaultAndValues(Steps):
    def steps(self):
        op.execute(DEFAULT)
        fill()


@ANSWERS.wrong("not validated")
class NeverValidated(Steps):
    def steps(self):
        op.execute(DEFAULT)
        fill()
        op.execute(NOT_VALID)


@ANSWERS.wrong("wrong default")
class AnotherDefault(Steps):
    def steps(self):
        op.execute("ALTER TABLE messages ALTER model SET DEFAULT 'not known'")
        fill()
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("writer refused")
class DefaultTakenAwayAgain(Steps):
    def steps(self):
        super().steps()
        op.execute("ALTER TABLE messages ALTER model DROP DEFAULT")


@ANSWERS.wrong("something else")
class TheCheckStays(Steps):
    def steps(self):
        op.execute(DEFAULT)
        fill()
        op.execute("ALTER TABLE messages ADD CONSTRAINT model_there CHECK (model IS NOT NULL) NOT VALID")
        op.execute("ALTER TABLE messages VALIDATE CONSTRAINT model_there")
        op.execute(SET_NOT_NULL)


@ANSWERS.wrong("rows changed")
class TouchesTheContent(Steps):
    def steps(self):
        super().steps()
        op.execute("UPDATE messages SET content = rtrim(content, '0') WHERE seq % 100 = 0")


@ANSWERS.wrong("rows changed")
class ForgetsTheModels(Steps):
    def downgrade(self):
        super().downgrade()
        op.execute("UPDATE messages SET model = NULL WHERE model = 'unknown'")


@ANSWERS.wrong("rewritten")
class WithUsing(Steps):
    def steps(self):
        op.execute(DEFAULT)
        op.execute("ALTER TABLE messages ALTER model TYPE text COLLATE \"C\" USING coalesce(model, 'unknown')")
        op.execute("ALTER TABLE messages ALTER model TYPE text")
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("filled under a lock")
class InTheRevisionsTransaction(Steps):
    def upgrade(self):
        self.steps()


@ANSWERS.wrong("filled under a lock")
class LocksTheTable(Steps):
    def steps(self):
        op.execute(DEFAULT)
        op.execute(
            "DO $$ BEGIN LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE; "
            "UPDATE messages SET model = 'unknown' WHERE model IS NULL; END $$"
        )
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("too many at once")
class OneUpdate(Steps):
    def steps(self):
        op.execute(DEFAULT)
        op.execute("UPDATE messages SET model = 'unknown' WHERE model IS NULL")
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("too many at once")
class BatchesInOneTransaction(Steps):
    def upgrade(self):
        with op.get_context().autocommit_block():
            op.execute(DEFAULT)
        fill()  # the revision's own transaction goes on here
        with op.get_context().autocommit_block():
            op.execute(NOT_VALID)
            op.execute(VALIDATE)


@ANSWERS.wrong("looked under a lock")
class SetNotNull(Steps):
    def steps(self):
        op.execute(DEFAULT)
        fill()
        op.alter_column("messages", "model", nullable=False)


@ANSWERS.wrong("looked under a lock")
class ValidatedInTheSameTransaction(Steps):
    def upgrade(self):
        with op.get_context().autocommit_block():
            op.execute(DEFAULT)
            fill()
        op.execute(NOT_VALID)
        op.execute(VALIDATE)


@ANSWERS.wrong("looked under a lock")
class ACheckThatLooks(Steps):
    def steps(self):
        op.execute(DEFAULT)
        fill()
        op.create_check_constraint(op.f("model_there"), "messages", "model IS NOT NULL")
        op.execute(SET_NOT_NULL)
        op.drop_constraint(op.f("model_there"), "messages")


@ANSWERS.wrong("no way back")
class DropsAConstraintOfAnotherName(Steps):
    def downgrade(self):
        op.drop_constraint("model_not_null", "messages")


@ANSWERS.wrong("still there")
class DefaultStays(Steps):
    def downgrade(self):
        op.alter_column("messages", "model", nullable=True)
