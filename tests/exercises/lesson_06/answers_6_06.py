"""Answers to 6.6, a unique index over duplicates."""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

from tests.exercises.written import Answers

ANSWERS = Answers("6.6")
NAME = "uq_documents_user_id_content_hash"
ON = "documents (user_id, content_hash)"
RANKED = """
    SELECT id, first_value(id) OVER (
        PARTITION BY user_id, content_hash ORDER BY status <> 'ready', created_at, id
    ) AS stays
    FROM documents WHERE content_hash IS NOT NULL
"""
MOVE = f"UPDATE jobs SET document_id = stays FROM ({RANKED}) AS ranked WHERE document_id = ranked.id"
CLEAN = f"DELETE FROM documents AS d USING ({RANKED}) AS ranked WHERE d.id = ranked.id AND stays <> ranked.id"


class Shape:
    """What most of the answers have in common."""

    ranked = RANKED

    def upgrade(self):
        self.clean()
        with op.get_context().autocommit_block():
            self.build()

    def clean(self):
        op.execute(MOVE.replace(RANKED, self.ranked))
        op.execute(CLEAN.replace(RANKED, self.ranked))

    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON}")

    def downgrade(self):
        with op.get_context().autocommit_block():
            op.execute(f"DROP INDEX CONCURRENTLY {NAME}")


@ANSWERS.right
class InSql(Shape):
    pass


@ANSWERS.right
class WithOp(Shape):
    def build(self):
        op.drop_index(NAME, "documents", if_exists=True, postgresql_concurrently=True)
        op.create_index(NAME, "documents", ["user_id", "content_hash"], unique=True, postgresql_concurrently=True)

    def downgrade(self):
        with op.get_context().autocommit_block():
            op.drop_index(NAME, "documents", if_exists=True, postgresql_concurrently=True)


@ANSWERS.right
class DropsFirst(Shape):
    def upgrade(self):
        with op.get_context().autocommit_block():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        self.clean()
        with op.get_context().autocommit_block():
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON}")


@ANSWERS.right
class TriesAgain(Shape):
    """Until nobody was faster."""

    def upgrade(self):
        for _ in range(5):
            self.clean()
            with suppress(DBAPIError), op.get_context().autocommit_block():
                self.build()
                return
        raise RuntimeError("somebody uploads the same text all the time")


@ANSWERS.right
class InPython(Shape):
    def clean(self):
        connection = op.get_bind()
        documents = sa.table(
            "documents", *map(sa.column, ("id", "user_id", "content_hash", "status", "created_at"))
        )  # fmt: skip
        jobs = sa.table("jobs", sa.column("document_id"))
        same = (documents.c.user_id, documents.c.content_hash)
        rank = (documents.c.status != "ready", documents.c.created_at, documents.c.id)
        rows = connection.execute(
            sa.select(documents.c.id, *same).where(documents.c.content_hash.is_not(None)).order_by(*same, *rank)
        )
        for _, equals in groupby(rows, key=lambda row: (row.user_id, row.content_hash)):
            first, *others = [row.id for row in equals]
            connection.execute(sa.update(jobs).where(jobs.c.document_id.in_(others)).values(document_id=first))
            connection.execute(sa.delete(documents).where(documents.c.id.in_(others)))


@ANSWERS.right
class RepairsAnInvalidOne(Shape):
    """REINDEX makes an invalid index valid, and leaves one of its own where it fails."""

    def build(self):
        connection = op.get_bind()
        invalid = connection.scalars(sa.text(
            "SELECT indexrelid::regclass::text FROM pg_index "
            "WHERE indrelid = 'documents'::regclass AND NOT indisvalid"
        )).all()  # fmt: skip
        for name in invalid:
            if name != NAME:
                op.execute(f"DROP INDEX CONCURRENTLY {name}")
        if NAME in invalid:
            op.execute(f"REINDEX INDEX CONCURRENTLY {NAME}")
        else:
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON}")


@ANSWERS.wrong("gave up")
class WaitsForATenthOfASecond(Shape):
    """Not for the table, which CONCURRENTLY leaves to others, but for those who have written to it."""

    def build(self):
        op.execute("SET lock_timeout = '100ms'")
        super().build()


@ANSWERS.wrong("something else")
class DropsWhatIsInvalidAnywhere(Shape):
    def build(self):
        invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
        for name in op.get_bind().exec_driver_sql(invalid).scalars().all():
            op.execute(f"DROP INDEX CONCURRENTLY {name}")
        super().build()


@ANSWERS.wrong("rows changed")
class JobsAreChangedNow(Shape):
    def clean(self):
        op.execute(MOVE.replace("document_id = stays", "document_id = stays, updated_at = now()"))
        op.execute(CLEAN)


@ANSWERS.wrong("jobs gone")
class DoneJobsGo(Shape):
    def clean(self):
        op.execute(f"{MOVE} AND jobs.status IN ('queued', 'running')")
        op.execute(CLEAN)


@ANSWERS.wrong("method missing")
class NoWayBack:
    def upgrade(self):
        Shape().upgrade()


@ANSWERS.wrong("not written")
class WayBackLater:
    def upgrade(self):
        Shape().upgrade()

    def downgrade(self):
        pass


@ANSWERS.wrong("duplicates")
class OnlyTheIndex(Shape):
    def clean(self):
        op.execute("ANALYZE documents")


@ANSWERS.wrong("in a transaction")
class WithoutABlock(Shape):
    def upgrade(self):
        self.clean()
        op.create_index(NAME, "documents", ["user_id", "content_hash"], unique=True, postgresql_concurrently=True)


@ANSWERS.wrong("name taken")
class AsIfForTheFirstTime(Shape):
    def build(self):
        op.create_index(NAME, "documents", ["user_id", "content_hash"], unique=True, postgresql_concurrently=True)


@ANSWERS.wrong("in the way")
class BuiltAtOnce(Shape):
    def upgrade(self):
        self.clean()
        op.execute(f"DROP INDEX IF EXISTS {NAME}")
        op.execute(f"CREATE UNIQUE INDEX {NAME} ON {ON}")


@ANSWERS.wrong("in the way")
class DropsTheInvalidOneAtOnce(Shape):
    def build(self):
        op.execute(f"DROP INDEX IF EXISTS {NAME}")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON}")


@ANSWERS.wrong("in the way")
class DropsConcurrentlyAndBuildsAtOnce(Shape):
    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute(f"CREATE UNIQUE INDEX {NAME} ON {ON}")


@ANSWERS.wrong("in the way")
class WithALimitForWaiting(Shape):
    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute("SET lock_timeout = '50ms'")
        op.execute(f"CREATE UNIQUE INDEX {NAME} ON {ON}")


@ANSWERS.wrong("in the way")
class LocksTheTable(Shape):
    """So that nothing comes in between."""

    def clean(self):
        op.execute("LOCK TABLE documents IN SHARE ROW EXCLUSIVE MODE")
        super().clean()


@ANSWERS.wrong("in the way")
class WayBackAtOnce(Shape):
    def downgrade(self):
        op.drop_index(NAME, "documents")


@ANSWERS.wrong("in the way")
class AConstraint(Shape):
    def build(self):
        super().build()
        op.execute(f"ALTER TABLE documents ADD CONSTRAINT {NAME} UNIQUE USING INDEX {NAME}")

    def downgrade(self):
        op.drop_constraint(NAME, "documents")


@ANSWERS.wrong("no index")
class AnotherName(Shape):
    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_documents")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY uq_documents ON {ON}")

    def downgrade(self):
        with op.get_context().autocommit_block():
            op.execute("DROP INDEX CONCURRENTLY uq_documents")


@ANSWERS.wrong("invalid")
class IfNotExists(Shape):
    def build(self):
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {NAME} ON {ON}")


@ANSWERS.wrong("invalid")
class SwallowsTheError(Shape):
    def upgrade(self):
        self.clean()
        with suppress(DBAPIError), op.get_context().autocommit_block():
            self.build()


@ANSWERS.wrong("left over")
class RepairsAndForgetsItsOwn(Shape):
    """Where REINDEX fails it leaves an index of another name, which the next REINDEX does not know."""

    def build(self):
        there = op.get_bind().scalar(sa.text(f"SELECT to_regclass('{NAME}') IS NOT NULL"))
        create = f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON}"
        op.execute(f"REINDEX INDEX CONCURRENTLY {NAME}" if there else create)


@ANSWERS.wrong("wrong index")
class NotUnique(Shape):
    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute(f"CREATE INDEX CONCURRENTLY {NAME} ON {ON}")


@ANSWERS.wrong("wrong index")
class TheOtherWayAround(Shape):
    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON documents (content_hash, user_id)")


@ANSWERS.wrong("wrong index")
class OnlyReadyOnes(Shape):
    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON} WHERE status = 'ready'")


@ANSWERS.wrong("too many gone")
class WithoutAHashTheyAreEqual(Shape):
    ranked = RANKED.replace("WHERE content_hash IS NOT NULL", "")


@ANSWERS.wrong("too many gone")
class OfAllPeople(Shape):
    ranked = RANKED.replace("PARTITION BY user_id, content_hash", "PARTITION BY content_hash")


@ANSWERS.wrong("wrong one stayed")
class TheOldestStays(Shape):
    ranked = RANKED.replace("status <> 'ready', ", "")


@ANSWERS.wrong("wrong one stayed")
class TheNewestStays(Shape):
    ranked = RANKED.replace("created_at", "created_at DESC")


@ANSWERS.wrong("wrong one stayed")
class AnyOfEquals(Shape):
    ranked = RANKED.replace("created_at, id", "created_at, id DESC")


@ANSWERS.wrong("none stayed")
class NoneStays(Shape):
    def clean(self):
        same = "SELECT user_id, content_hash FROM documents GROUP BY user_id, content_hash HAVING count(*) > 1"
        op.execute(f"DELETE FROM documents WHERE (user_id, content_hash) IN ({same})")


@ANSWERS.wrong("jobs gone")
class ForgetsTheJobs(Shape):
    def clean(self):
        op.execute(CLEAN)


@ANSWERS.wrong("jobs gone")
class MovesTheJobsTooLate(Shape):
    def clean(self):
        op.execute(CLEAN)
        op.execute(MOVE)


@ANSWERS.wrong("wrong job")
class JobsOfNobody(Shape):
    def clean(self):
        others = f"SELECT id FROM ({RANKED}) AS ranked WHERE stays <> id"
        op.execute(f"UPDATE jobs SET document_id = NULL WHERE document_id IN ({others})")
        op.execute(CLEAN)


@ANSWERS.wrong("chunks")
class ChunksAreMadeAgainLater(Shape):
    def clean(self):
        ids = f"SELECT id FROM ({RANKED}) AS ranked"
        op.execute(f"DELETE FROM document_chunks WHERE document_id IN ({ids})")
        super().clean()


@ANSWERS.wrong("rows changed")
class TouchesTheTime(Shape):
    def clean(self):
        super().clean()
        op.execute("UPDATE documents SET updated_at = now() WHERE content_hash IS NOT NULL")


@ANSWERS.wrong("rows changed")
class JobsGoOnTheWayBack(Shape):
    def downgrade(self):
        op.execute("DELETE FROM jobs WHERE document_id IS NOT NULL")
        super().downgrade()


@ANSWERS.wrong("something else")
class KeepsATableOfWhatWent(Shape):
    def clean(self):
        op.execute(f"CREATE TABLE IF NOT EXISTS gone AS SELECT id FROM ({RANKED}) AS ranked WHERE stays <> id")
        super().clean()


@ANSWERS.wrong("not again")
class DropsOnlyBeforeTheFirstBuild(Shape):
    """Its name is taken by what its own failure has left."""

    done = False

    def build(self):
        if not DropsOnlyBeforeTheFirstBuild.done:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
            DropsOnlyBeforeTheFirstBuild.done = True
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON}")


@ANSWERS.wrong("raised")
class ThereIsAlwaysOneToDrop(Shape):
    def build(self):
        op.execute(f"DROP INDEX CONCURRENTLY {NAME}")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {ON}")


@ANSWERS.wrong("no way back")
class WayBackInATransaction(Shape):
    def downgrade(self):
        op.drop_index(NAME, "documents", postgresql_concurrently=True)


@ANSWERS.wrong("still there")
class WayBackToNothing(Shape):
    def downgrade(self):
        op.execute("SELECT 1")
