"""Answers to 6.2, mend what autogenerate wrote."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.dialects import postgresql

from tests.exercises.written import Answers

ANSWERS = Answers("6.2")
OLD = "status IN ('uploaded', 'processing', 'ready', 'failed')"
ALL = "status IN ('uploaded', 'processing', 'ready', 'failed', 'archived')"
KIND = postgresql.ENUM("upload", "web", "mail", name="document_kind", create_type=False)


class Mended:
    """Step by step, so that an answer can leave out or change one of them."""

    def rename(self):
        op.alter_column("documents", "error", new_column_name="failure")

    def pages(self):
        op.add_column("documents", sa.Column("pages", sa.Integer(), server_default="0", nullable=False))

    def kind(self):
        op.execute("CREATE TYPE document_kind AS ENUM ('upload', 'web', 'mail')")
        op.add_column("documents", sa.Column("kind", KIND, server_default="upload", nullable=False))

    def summary(self):
        op.add_column("documents", sa.Column("summary", VECTOR(256), nullable=True))

    def check(self):
        op.drop_constraint(op.f("ck_documents_status"), "documents")
        op.create_check_constraint(op.f("ck_documents_status"), "documents", ALL)

    def upgrade(self):
        self.rename()
        self.pages()
        self.kind()
        self.summary()
        self.check()

    def archived(self):
        op.execute("UPDATE documents SET status = 'ready' WHERE status = 'archived'")

    def old_check(self):
        op.drop_constraint(op.f("ck_documents_status"), "documents")
        op.create_check_constraint(op.f("ck_documents_status"), "documents", OLD)

    def old_name(self):
        op.alter_column("documents", "failure", new_column_name="error")

    def drop_type(self):
        op.execute("DROP TYPE document_kind")

    def downgrade(self):
        self.archived()
        self.old_check()
        op.drop_column("documents", "summary")
        op.drop_column("documents", "kind")
        self.drop_type()
        op.drop_column("documents", "pages")
        self.old_name()


@ANSWERS.right
class StepByStep(Mended):
    pass


@ANSWERS.right
class InSql:
    def upgrade(self):
        op.execute("ALTER TABLE documents RENAME error TO failure")
        op.execute("CREATE TYPE document_kind AS ENUM ('upload', 'web', 'mail')")
        op.execute(
            "ALTER TABLE documents ADD pages int NOT NULL DEFAULT 0, ADD summary vector(256), "
            "ADD kind document_kind NOT NULL DEFAULT 'upload', DROP CONSTRAINT ck_documents_status, "
            "ADD CONSTRAINT ck_documents_status CHECK (status = ANY ('{uploaded,processing,ready,failed,archived}'))"
        )

    def downgrade(self):
        op.execute(
            "UPDATE documents SET status = 'ready' WHERE status NOT IN ('uploaded','processing','ready','failed')"
        )
        op.execute(
            "ALTER TABLE documents DROP pages, DROP summary, DROP kind, DROP CONSTRAINT ck_documents_status, "
            f"ADD CONSTRAINT ck_documents_status CHECK ({OLD})"
        )
        op.execute("DROP TYPE document_kind")
        op.execute("ALTER TABLE documents RENAME failure TO error")


@ANSWERS.right
class CopiesTheColumn(Mended):
    def rename(self):
        op.add_column("documents", sa.Column("failure", sa.Text(), nullable=True))
        op.execute("UPDATE documents SET failure = error")
        op.drop_column("documents", "error")

    def old_name(self):
        op.add_column("documents", sa.Column("error", sa.Text(), nullable=True))
        op.execute("UPDATE documents SET error = failure")
        op.drop_column("documents", "failure")


@ANSWERS.right
class ValidatedAfterwards(Mended):
    def kind(self):
        sa.Enum("upload", "web", "mail", name="document_kind").create(op.get_bind(), checkfirst=True)
        op.add_column("documents", sa.Column("kind", KIND, nullable=True))
        op.execute("UPDATE documents SET kind = 'upload'")
        op.alter_column("documents", "kind", nullable=False, server_default=sa.text("'upload'"))

    def check(self):
        op.drop_constraint("status", "documents", type_="check")
        op.execute(f"ALTER TABLE documents ADD CONSTRAINT ck_documents_status CHECK ({ALL}) NOT VALID")
        op.execute("ALTER TABLE documents VALIDATE CONSTRAINT ck_documents_status")

    def old_check(self):
        # the naming convention makes the whole name of it
        op.drop_constraint("status", "documents", type_="check")
        op.create_check_constraint("status", "documents", OLD)


@ANSWERS.wrong("method missing")
class OnlyUp:
    def upgrade(self):
        Mended().upgrade()


@ANSWERS.wrong("not written")
class OnlyUpSoFar:
    def upgrade(self):
        Mended().upgrade()

    def downgrade(self):
        raise NotImplementedError("your code")


@ANSWERS.wrong("no import")
class AsGenerated(Mended):
    def summary(self):
        op.add_column("documents", sa.Column("summary", pgvector.sqlalchemy.vector.VECTOR(dim=256)))  # noqa: F821


@ANSWERS.wrong("no such type")
class NoType(Mended):
    def kind(self):
        kind = sa.Enum("upload", "web", "mail", name="document_kind")
        op.add_column("documents", sa.Column("kind", kind, server_default="upload", nullable=False))


@ANSWERS.wrong("rows without a value")
class PagesAsGenerated(Mended):
    def pages(self):
        op.add_column("documents", sa.Column("pages", sa.Integer(), nullable=False))


@ANSWERS.wrong("invoices gone")
class DropsWhatHasNoModel(Mended):
    def upgrade(self):
        op.drop_table("invoices")
        super().upgrade()


@ANSWERS.wrong("invoices gone")
class MakesThemAgain(Mended):
    def downgrade(self):
        super().downgrade()
        op.execute("DROP TABLE IF EXISTS invoices")
        op.execute("CREATE TABLE invoices (id int PRIMARY KEY, amount numeric(12, 2) NOT NULL)")


@ANSWERS.wrong("column missing")
class WithoutTheSummary(Mended):
    def summary(self):
        op.execute("SELECT 1")


@ANSWERS.wrong("column stays")
class KeepsTheOldColumn(Mended):
    def rename(self):
        op.add_column("documents", sa.Column("failure", sa.Text(), nullable=True))
        op.execute("UPDATE documents SET failure = error")


@ANSWERS.wrong("failure lost")
class DropAndAdd(Mended):
    def rename(self):
        op.add_column("documents", sa.Column("failure", sa.Text(), nullable=True))
        op.drop_column("documents", "error")


@ANSWERS.wrong("wrong values")
class OtherOrder(Mended):
    def kind(self):
        op.execute("CREATE TYPE document_kind AS ENUM ('mail', 'upload', 'web')")
        op.add_column("documents", sa.Column("kind", KIND, server_default="upload", nullable=False))


@ANSWERS.wrong("wrong column")
class KindIsAText(Mended):
    def kind(self):
        op.add_column("documents", sa.Column("kind", sa.Text(), server_default="upload", nullable=False))

    def drop_type(self):
        op.execute("SELECT 1")


@ANSWERS.wrong("wrong column")
class AnotherDefault(Mended):
    def pages(self):
        op.add_column("documents", sa.Column("pages", sa.Integer(), server_default="1", nullable=False))


@ANSWERS.wrong("wrong column")
class MayBeNull(Mended):
    def pages(self):
        op.add_column("documents", sa.Column("pages", sa.Integer(), server_default="0"))


@ANSWERS.wrong("no default")
class NoDefaultStays(Mended):
    def pages(self):
        super().pages()
        op.alter_column("documents", "pages", server_default=None)


@ANSWERS.wrong("check missing")
class CheckIsOnlyDropped(Mended):
    def check(self):
        op.drop_constraint(op.f("ck_documents_status"), "documents")


@ANSWERS.wrong("check missing")
class NeverValidated(Mended):
    def check(self):
        op.drop_constraint(op.f("ck_documents_status"), "documents")
        op.execute(f"ALTER TABLE documents ADD CONSTRAINT ck_documents_status CHECK ({ALL}) NOT VALID")


@ANSWERS.wrong("check missing")
class NamedTwice(Mended):
    def check(self):
        op.drop_constraint(op.f("ck_documents_status"), "documents")
        op.create_check_constraint("ck_documents_status", "documents", ALL)


@ANSWERS.wrong("another name")
class DropsByTheConvention(Mended):
    def check(self):
        op.drop_constraint("ck_documents_status", "documents", type_="check")
        op.create_check_constraint("ck_documents_status", "documents", ALL)


@ANSWERS.wrong("status refused")
class CheckForgotten(Mended):
    def check(self):
        op.execute("SELECT 1")


@ANSWERS.wrong("status let in")
class AnyStatus(Mended):
    def check(self):
        op.drop_constraint(op.f("ck_documents_status"), "documents")
        op.create_check_constraint(op.f("ck_documents_status"), "documents", "status <> ''")


@ANSWERS.wrong("something else")
class AnIndexToo(Mended):
    def upgrade(self):
        super().upgrade()
        op.create_index("ix_documents_kind", "documents", ["kind"])


@ANSWERS.wrong("rows changed")
class TouchesUpdatedAt(Mended):
    """As an UPDATE by the program's models does, which is no part of the change."""

    def upgrade(self):
        super().upgrade()
        op.execute("UPDATE documents SET pages = 0, updated_at = now() WHERE pages = 0")


@ANSWERS.wrong("rows changed")
class EverythingIsReady(Mended):
    def upgrade(self):
        super().upgrade()
        op.execute("UPDATE documents SET status = 'ready' WHERE status = 'processing'")


@ANSWERS.wrong("rows changed")
class JobsGo(Mended):
    def downgrade(self):
        super().downgrade()
        op.execute("DELETE FROM jobs")


@ANSWERS.wrong("no way back")
class ForgetsTheArchived(Mended):
    def archived(self):
        op.execute("SELECT 1")


@ANSWERS.wrong("no way back")
class CreatesInvoicesThatAreThere(Mended):
    def downgrade(self):
        super().downgrade()
        op.create_table("invoices", sa.Column("id", sa.Integer(), nullable=False))


@ANSWERS.wrong("still there")
class TypeStays(Mended):
    def drop_type(self):
        op.execute("SELECT 1")


@ANSWERS.wrong("something gone")
class NewCheckStays(Mended):
    def old_check(self):
        op.execute("SELECT 1")


@ANSWERS.wrong("error lost")
class DropAndAddBack(Mended):
    def old_name(self):
        op.add_column("documents", sa.Column("error", sa.Text(), nullable=True))
        op.drop_column("documents", "failure")


@ANSWERS.wrong("archived lost")
class ArchivedAreDeleted(Mended):
    def archived(self):
        op.execute("DELETE FROM documents WHERE status = 'archived'")


@ANSWERS.wrong("archived lost")
class ArchivedHaveFailed(Mended):
    def archived(self):
        op.execute("UPDATE documents SET status = 'failed' WHERE status = 'archived'")
