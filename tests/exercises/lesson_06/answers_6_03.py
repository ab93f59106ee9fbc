"""Answers to 6.3, a column under a long reader."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

from tests.exercises.written import Answers

ANSWERS = Answers("6.3")
ADD = "ALTER TABLE messages ADD COLUMN language text"
DROP = "ALTER TABLE messages DROP COLUMN language"
UNAVAILABLE = "55P03"


class Patient:
    """Tries again and again, each time from a savepoint."""

    def tries(self, statement, limit="100ms", most=10_000, pause=0.05):
        for _ in range(most):
            try:
                with op.get_bind().begin_nested():
                    op.execute(f"SET LOCAL lock_timeout = '{limit}'")
                    op.execute(statement)
                return
            except DBAPIError as error:
                if error.orig.sqlstate != UNAVAILABLE:
                    raise
                time.sleep(pause)
        raise TimeoutError("no lock to be had")

    def upgrade(self):
        self.tries(ADD)

    def downgrade(self):
        self.tries(DROP)


@ANSWERS.right
class FromSavepoints(Patient):
    pass


@ANSWERS.right
class InOneBlockOfTheServers:
    LOOP = """
        DO $$ BEGIN
            LOOP
                BEGIN
                    SET LOCAL lock_timeout = '80ms';
                    {statement};
                    EXIT;
                EXCEPTION WHEN lock_not_available THEN
                    PERFORM pg_sleep(0.05);
                END;
            END LOOP;
        END $$
    """

    def upgrade(self):
        op.execute(self.LOOP.format(statement=ADD))

    def downgrade(self):
        op.execute(self.LOOP.format(statement=DROP))


@ANSWERS.right
class ATransactionForEachTry:
    def tries(self, change):
        with op.get_context().autocommit_block():
            op.execute("SET lock_timeout = 60")
            while True:
                try:
                    change()
                    break
                except DBAPIError as error:
                    if "lock timeout" not in str(error.orig):
                        raise
                time.sleep(0.1)
            op.execute("RESET lock_timeout")

    def upgrade(self):
        self.tries(lambda: op.add_column("messages", sa.Column("language", sa.Text(), nullable=True)))

    def downgrade(self):
        self.tries(lambda: op.drop_column("messages", "language"))


@ANSWERS.right
class NeverWaitsAtAll:
    def tries(self, change):
        while True:
            savepoint = op.get_bind().begin_nested()
            try:
                op.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE NOWAIT")
            except DBAPIError as error:
                savepoint.rollback()
                if error.orig.sqlstate != UNAVAILABLE:
                    raise
                time.sleep(0.01)
                continue
            change()
            savepoint.commit()
            return

    def upgrade(self):
        self.tries(lambda: op.execute(ADD))

    def downgrade(self):
        self.tries(lambda: op.execute(DROP))


@ANSWERS.right
class StatementTimeout(Patient):
    def tries(self, statement):
        connection = op.get_bind()
        connection.exec_driver_sql("SET LOCAL statement_timeout = '90ms'")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection.exec_driver_sql("SAVEPOINT try")
            try:
                connection.exec_driver_sql(statement)
                break
            except DBAPIError as error:
                if "statement timeout" not in str(error):
                    raise
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT try")
                time.sleep(0.03)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


@ANSWERS.wrong("method missing")
class OneWay:
    def upgrade(self):
        Patient().upgrade()


@ANSWERS.wrong("not written")
class WayBackLater:
    def upgrade(self):
        Patient().upgrade()

    def downgrade(self):
        """To be done."""


@ANSWERS.wrong("tries for ever")
class AnyErrorIsWorthATry(Patient):
    def upgrade(self):
        while True:
            try:
                with op.get_bind().begin_nested():
                    op.execute("SET LOCAL lock_timeout = '100ms'")
                    op.execute(ADD)
                return
            except DBAPIError:
                time.sleep(0.05)


@ANSWERS.wrong("error swallowed")
class StopsWithoutAWord(Patient):
    def downgrade(self):
        while True:
            try:
                with op.get_bind().begin_nested():
                    op.execute("SET LOCAL lock_timeout = '100ms'")
                    op.execute(DROP)
                return
            except DBAPIError as error:
                if error.orig.sqlstate != UNAVAILABLE:
                    return
                time.sleep(0.05)


@ANSWERS.wrong("kept waiting")
class Plain(Patient):
    def upgrade(self):
        op.add_column("messages", sa.Column("language", sa.Text(), nullable=True))


@ANSWERS.wrong("kept waiting")
class PlainWayBack(Patient):
    def downgrade(self):
        op.drop_column("messages", "language")


@ANSWERS.wrong("kept waiting")
class LimitOfASecond(Patient):
    def upgrade(self):
        self.tries(ADD, limit="1s")


@ANSWERS.wrong("kept waiting")
class HalfASecond(Patient):
    def upgrade(self):
        self.tries(ADD, limit="500ms")


@ANSWERS.wrong("kept waiting")
class LimitsTheIdle(Patient):
    def upgrade(self):
        op.execute("SET LOCAL idle_in_transaction_session_timeout = '100ms'")
        op.execute(ADD)


@ANSWERS.wrong("limit gone")
class LimitInTheFirstTryOnly(Patient):
    def upgrade(self):
        first = True
        while True:
            try:
                with op.get_bind().begin_nested():
                    if first:
                        op.execute("SET LOCAL lock_timeout = '100ms'")
                        first = False
                    op.execute(ADD)
                return
            except DBAPIError as error:
                if error.orig.sqlstate != UNAVAILABLE:
                    raise
                time.sleep(0.02)


@ANSWERS.wrong("limit gone")
class GivesUpPolitenessAfterThreeTries(Patient):
    def upgrade(self):
        try:
            self.tries(ADD, most=3, pause=0.01)
        except TimeoutError:
            op.execute("SET LOCAL lock_timeout = 0")
            op.execute(ADD)


@ANSWERS.wrong("lock kept")
class ThinksWhileItHasTheLock(Patient):
    def upgrade(self):
        super().upgrade()
        time.sleep(0.7)


@ANSWERS.wrong("lock kept")
class LooksAtEveryRowThen(Patient):
    def downgrade(self):
        super().downgrade()
        op.execute("SELECT pg_sleep(0.7)")


@ANSWERS.wrong("transaction aborted")
class NoSavepoint(Patient):
    def upgrade(self):
        op.execute("SET LOCAL lock_timeout = '100ms'")
        for _ in range(10):
            try:
                op.execute(ADD)
                return
            except DBAPIError as error:
                if error.orig.sqlstate != UNAVAILABLE:
                    raise
                time.sleep(0.05)


@ANSWERS.wrong("gave up")
class NoSecondTry(Patient):
    def upgrade(self):
        op.execute("SET LOCAL lock_timeout = '100ms'")
        op.execute(ADD)


@ANSWERS.wrong("gave up")
class ThreeTries(Patient):
    def upgrade(self):
        for last in (False, False, True):
            try:
                with op.get_bind().begin_nested():
                    op.execute("SET LOCAL lock_timeout = '100ms'")
                    op.execute(ADD)
                return
            except DBAPIError as error:
                if last or error.orig.sqlstate != UNAVAILABLE:
                    raise


@ANSWERS.wrong("gave up")
class InItsOwnWords(Patient):
    def downgrade(self):
        try:
            self.tries(DROP, most=1)
        except TimeoutError:
            op.execute("SET LOCAL lock_timeout = '100ms'")
            op.execute(DROP)


@ANSWERS.wrong("report ended")
class EndsWhoStandsInItsWay(Patient):
    def upgrade(self):
        op.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid "
            "WHERE relation = 'messages'::regclass AND l.pid <> pg_backend_pid() AND state = 'idle in transaction' "
            "AND datname = current_database() "  # clones of a database share the numbers of their tables
            "AND xact_start < now() - interval '2 ms' AND query LIKE '%count(*)%'"
        )
        super().upgrade()


@ANSWERS.wrong("column missing")
class SkipsWhatItCannotDo(Patient):
    def upgrade(self):
        try:
            with op.get_bind().begin_nested():
                op.execute("SET LOCAL lock_timeout = '100ms'")
                op.execute(ADD)
        except DBAPIError as error:
            if error.orig.sqlstate != UNAVAILABLE:
                raise


@ANSWERS.wrong("wrong column")
class NotNullWithADefault(Patient):
    def upgrade(self):
        self.tries("ALTER TABLE messages ADD COLUMN language text NOT NULL DEFAULT 'en'")


@ANSWERS.wrong("something else")
class CountsItsTries(Patient):
    def upgrade(self):
        super().upgrade()
        op.execute("CREATE TABLE tries (at timestamptz)")


@ANSWERS.wrong("something else")
class RenamesItAway(Patient):
    def downgrade(self):
        self.tries("ALTER TABLE messages RENAME COLUMN language TO language_old")


@ANSWERS.wrong("rows changed")
class TouchesTheTable(Patient):
    def upgrade(self):
        super().upgrade()
        op.execute("UPDATE messages SET token_count = token_count + 1")
