"""Answers to 6.1, a column and its way back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from tests.exercises.written import Answers

ANSWERS = Answers("6.1")
VALUES = ("private", "team", "public")


class Shape:
    """What most of the answers have in common."""

    def upgrade(self):
        op.execute("CREATE TYPE visibility AS ENUM ('private', 'team', 'public')")
        op.execute("ALTER TABLE conversations ADD visibility visibility NOT NULL DEFAULT 'private'")

    def downgrade(self):
        op.drop_column("conversations", "visibility")
        op.execute("DROP TYPE visibility")


@ANSWERS.right
class InSql(Shape):
    pass


@ANSWERS.right
class WithSaEnum:
    def upgrade(self):
        kind = sa.Enum(*VALUES, name="visibility")
        kind.create(op.get_bind(), checkfirst=True)
        op.add_column(
            "conversations", sa.Column("visibility", kind, server_default=sa.text("'private'"), nullable=False)
        )

    def downgrade(self):
        op.drop_column("conversations", "visibility")
        sa.Enum(name="visibility").drop(op.get_bind())


@ANSWERS.right
class InThreeSteps:
    def upgrade(self):
        postgresql.ENUM(*VALUES, name="visibility").create(op.get_bind())
        kind = postgresql.ENUM(name="visibility", create_type=False)
        op.add_column("conversations", sa.Column("visibility", kind, nullable=True))
        op.execute("UPDATE conversations SET visibility = 'private'")
        op.alter_column("conversations", "visibility", nullable=False, server_default="private")

    def downgrade(self):
        op.execute("ALTER TABLE conversations DROP COLUMN IF EXISTS visibility")
        op.execute("DROP TYPE IF EXISTS visibility")


@ANSWERS.right
class TheTypeTakesItsColumnsAlong(Shape):
    @staticmethod
    def downgrade():
        op.execute("DROP TYPE visibility CASCADE")


@ANSWERS.right
class InABatch(Shape):
    def upgrade(self):
        connection = op.get_bind()
        kind = sa.Enum(*VALUES, name="visibility", metadata=sa.MetaData())
        kind.create(connection)
        with op.batch_alter_table("conversations") as table:
            table.add_column(sa.Column("visibility", kind, nullable=False, server_default="private"))


@ANSWERS.wrong("method missing")
class NoWayBackAtAll:
    def upgrade(self):
        Shape().upgrade()


@ANSWERS.wrong("not written")
class WayBackLater:
    def upgrade(self):
        Shape().upgrade()

    def downgrade(self):
        pass


@ANSWERS.wrong("no such type")
class AsAutogenerateWroteIt(Shape):
    def upgrade(self):
        kind = sa.Enum(*VALUES, name="visibility")
        op.add_column("conversations", sa.Column("visibility", kind, server_default="private", nullable=False))


@ANSWERS.wrong("rows without a value")
class DefaultOfPython(Shape):
    def upgrade(self):
        kind = sa.Enum(*VALUES, name="visibility")
        kind.create(op.get_bind())
        op.add_column("conversations", sa.Column("visibility", kind, default="private", nullable=False))


@ANSWERS.wrong("column missing")
class OnlyTheType(Shape):
    def upgrade(self):
        op.execute("CREATE TYPE visibility AS ENUM ('private', 'team', 'public')")


@ANSWERS.wrong("column missing")
class AnotherTable(Shape):
    def upgrade(self):
        op.execute("CREATE TYPE visibility AS ENUM ('private', 'team', 'public')")
        op.execute("ALTER TABLE documents ADD visibility visibility NOT NULL DEFAULT 'private'")


@ANSWERS.wrong("wrong type")
class TextWithACheck:
    def upgrade(self):
        kind = sa.Enum(*VALUES, name="visibility", native_enum=False, create_constraint=True)
        op.add_column("conversations", sa.Column("visibility", kind, server_default="private", nullable=False))

    def downgrade(self):
        op.drop_column("conversations", "visibility")


@ANSWERS.wrong("wrong type")
class AnotherName:
    def upgrade(self):
        op.execute("CREATE TYPE conversation_visibility AS ENUM ('private', 'team', 'public')")
        op.execute("ALTER TABLE conversations ADD visibility conversation_visibility NOT NULL DEFAULT 'private'")

    def downgrade(self):
        op.drop_column("conversations", "visibility")
        op.execute("DROP TYPE conversation_visibility")


@ANSWERS.wrong("wrong values")
class InAlphabeticalOrder(Shape):
    def upgrade(self):
        op.execute("CREATE TYPE visibility AS ENUM ('private', 'public', 'team')")
        op.execute("ALTER TABLE conversations ADD visibility visibility NOT NULL DEFAULT 'private'")


@ANSWERS.wrong("nullable")
class MayBeNull(Shape):
    def upgrade(self):
        kind = postgresql.ENUM(*VALUES, name="visibility")
        kind.create(op.get_bind())
        op.add_column("conversations", sa.Column("visibility", kind, server_default="private"))


@ANSWERS.wrong("old rows")
class OldOnesArePublic(Shape):
    def upgrade(self):
        super().upgrade()
        op.execute("UPDATE conversations SET visibility = 'public'")


@ANSWERS.wrong("no default")
class DefaultTakenAwayAgain(Shape):
    def upgrade(self):
        super().upgrade()
        op.alter_column("conversations", "visibility", server_default=None)


@ANSWERS.wrong("wrong default")
class NewOnesAreOfTheTeam(Shape):
    def upgrade(self):
        super().upgrade()
        op.alter_column("conversations", "visibility", server_default="team")


@ANSWERS.wrong("something else")
class AnIndexToo(Shape):
    def upgrade(self):
        super().upgrade()
        op.create_index("ix_conversations_visibility", "conversations", ["visibility"])


@ANSWERS.wrong("something else")
class ACommentOnTheTable(Shape):
    def upgrade(self):
        super().upgrade()
        op.create_table_comment("conversations", "with a visibility")


@ANSWERS.wrong("rows changed")
class TouchesTheTime(Shape):
    def upgrade(self):
        super().upgrade()
        op.execute("UPDATE conversations SET updated_at = now()")


@ANSWERS.wrong("rows changed")
class RowsOfTheTeamGo(Shape):
    def downgrade(self):
        op.execute("DELETE FROM conversations WHERE visibility = 'team'")
        super().downgrade()


@ANSWERS.wrong("no way back")
class TypeFirst(Shape):
    def downgrade(self):
        op.execute("DROP TYPE visibility")
        op.drop_column("conversations", "visibility")


@ANSWERS.wrong("still there")
class TypeStays(Shape):
    def downgrade(self):
        op.drop_column("conversations", "visibility")


@ANSWERS.wrong("still there")
class TypeStaysAndIsFoundAgain(WithSaEnum):
    def downgrade(self):
        op.drop_column("conversations", "visibility")


@ANSWERS.wrong("something gone")
class TakesTheIndexAlong(Shape):
    def downgrade(self):
        super().downgrade()
        op.drop_index("ix_conversations_user_id_updated_at", "conversations", if_exists=True)


@ANSWERS.wrong("no second time")
class OnlyOnce(Shape):
    done = False

    def upgrade(self):
        if OnlyOnce.done:
            OnlyOnce.done = False
            return
        OnlyOnce.done = True
        super().upgrade()


@ANSWERS.wrong("raised")
class FunctionsOfARevisionFile(Shape):
    def upgrade():
        Shape().upgrade()
