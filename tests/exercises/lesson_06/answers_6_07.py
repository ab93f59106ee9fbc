"""Answers to 6.7, a rename with both versions running."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tests.exercises.written import Answers

ANSWERS = Answers("6.7")
BOTH = """
    IF TG_OP = 'INSERT' THEN
        NEW.name := coalesce(NEW.name, NEW.display_name);
        NEW.display_name := coalesce(NEW.display_name, NEW.name);
    ELSIF NEW.display_name IS DISTINCT FROM OLD.display_name THEN
        NEW.name := NEW.display_name;
    ELSIF NEW.name IS DISTINCT FROM OLD.name THEN
        NEW.display_name := NEW.name;
    END IF;
"""


class Shape:
    """What most of the answers have in common."""

    body = BOTH
    when = "BEFORE INSERT OR UPDATE"

    def expand(self):
        op.execute("ALTER TABLE users ADD display_name text")
        self.keep_equal()

    def keep_equal(self):
        op.execute(f"""
            CREATE FUNCTION both_names() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {self.body} RETURN NEW; END $$
        """)
        op.execute(f"""
            CREATE TRIGGER both_names {self.when} ON users FOR EACH ROW EXECUTE FUNCTION both_names()
        """)

    def backfill(self):
        op.execute("UPDATE users SET display_name = name WHERE display_name IS NULL")

    def contract(self):
        op.execute("DROP TRIGGER both_names ON users")
        op.execute("DROP FUNCTION both_names")
        op.execute("ALTER TABLE users DROP COLUMN name")
        op.execute("ALTER TABLE users ALTER display_name SET NOT NULL")


@ANSWERS.right
class InSql(Shape):
    pass


@ANSWERS.right
class WithOp(Shape):
    def expand(self):
        op.add_column("users", sa.Column("display_name", sa.Text()))
        self.keep_equal()

    def backfill(self):
        users = sa.table("users", sa.column("name"), sa.column("display_name"))
        op.execute(sa.update(users).values(display_name=users.c.name))

    def contract(self):
        op.execute("DROP FUNCTION both_names CASCADE")
        op.alter_column("users", "display_name", nullable=False)
        op.drop_column("users", "name")


@ANSWERS.right
class TwoTriggers(Shape):
    def keep_equal(self):
        op.execute("ALTER TABLE users ALTER name DROP NOT NULL")
        for name, event, when, change in (
            ("added_old", "INSERT", "NEW.display_name IS NULL", "NEW.display_name := NEW.name"),
            ("added_new", "INSERT", "NEW.name IS NULL", "NEW.name := NEW.display_name"),
            ("renamed_old", "UPDATE OF name", "NEW.name IS DISTINCT FROM OLD.name", "NEW.display_name := NEW.name"),
            ("renamed_new", "UPDATE OF display_name", "NEW.display_name <> OLD.display_name",
             "NEW.name := NEW.display_name"),
        ):  # fmt: skip
            op.execute(f"""
                CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change}; RETURN NEW; END $$
            """)
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {event} ON users FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}()"
            )

    def contract(self):
        for name in ("added_old", "added_new", "renamed_old", "renamed_new"):
            op.execute(f"DROP TRIGGER {name} ON users")
            op.execute(f"DROP FUNCTION {name}()")
        op.execute("ALTER TABLE users DROP COLUMN name, ALTER display_name SET NOT NULL")


@ANSWERS.right
class FilledAtOnce(Shape):
    """The backfill comes early, and again."""

    def expand(self):
        super().expand()
        op.execute("UPDATE users SET display_name = name")
        op.execute("ALTER TABLE users ALTER display_name SET NOT NULL")


@ANSWERS.right
class InBatches(Shape):
    def backfill(self):
        connection, last = op.get_bind(), None
        page = sa.text("SELECT id FROM users WHERE CAST(:last AS uuid) IS NULL OR id > :last ORDER BY id LIMIT 5")
        fill = sa.text("UPDATE users SET display_name = name WHERE id = ANY(:ids) AND display_name IS NULL")
        while ids := connection.scalars(page, {"last": last}).all():
            last = ids[-1]
            connection.execute(fill, {"ids": ids})


@ANSWERS.right
class UnderALock(Shape):
    def backfill(self):
        connection = op.get_bind()
        rows = connection.execute(sa.text("SELECT id, name FROM users FOR UPDATE")).all()
        for row in rows:
            fill = sa.text("UPDATE users SET display_name = :name WHERE id = :id")
            connection.execute(fill, {"id": row.id, "name": row.name})


@ANSWERS.right
class AView:
    """Both names are of the same column of the table behind it."""

    def expand(self):
        op.rename_table("users", "people")
        op.execute("ALTER TABLE people RENAME name TO display_name")
        op.execute("CREATE VIEW users AS SELECT *, display_name AS name FROM people")

    def backfill(self):
        op.execute("SELECT 'nothing to do'")

    def contract(self):
        op.execute("DROP VIEW users")
        op.rename_table("people", "users")


@ANSWERS.wrong("method missing")
class InTwoSteps:
    def expand(self):
        Shape().expand()

    def contract(self):
        Shape().contract()


@ANSWERS.wrong("not written")
class BackfillLater:
    def expand(self):
        Shape().expand()

    def backfill(self):
        pass

    def contract(self):
        Shape().contract()


@ANSWERS.wrong("old program fails")
class RenamedAtOnce(Shape):
    def expand(self):
        op.alter_column("users", "name", new_column_name="display_name")

    def backfill(self):
        op.execute("ANALYZE users")

    def contract(self):
        op.execute("ANALYZE users")


@ANSWERS.wrong("old program fails")
class RequiredFromTheBeginning(Shape):
    def expand(self):
        op.execute("ALTER TABLE users ADD display_name text NOT NULL DEFAULT ''")
        op.execute("ALTER TABLE users ALTER display_name DROP DEFAULT")

    def backfill(self):
        op.execute("UPDATE users SET display_name = name")


@ANSWERS.wrong("raised")
class RequiredAfterTheBackfill(Shape):
    def keep_equal(self):
        pass

    def backfill(self):
        super().backfill()
        op.execute("ALTER TABLE users ALTER display_name SET NOT NULL")


@ANSWERS.wrong("new program fails")
class TheOldOneIsStillRequired(Shape):
    body = """
        IF TG_OP = 'INSERT' THEN
            NEW.display_name := coalesce(NEW.display_name, NEW.name);
        ELSIF NEW.name IS DISTINCT FROM OLD.name THEN
            NEW.display_name := NEW.name;
        END IF;
    """


@ANSWERS.wrong("new program fails")
class Generated(Shape):
    def expand(self):
        op.execute("ALTER TABLE users ADD display_name text GENERATED ALWAYS AS (name) STORED")

    def backfill(self):
        op.execute("ANALYZE users")


@ANSWERS.wrong("not filled")
class NothingFilledIn(Shape):
    def backfill(self):
        op.execute("ANALYZE users")


@ANSWERS.wrong("not filled")
class FilledWhenItWasAdded(Shape):
    def expand(self):
        super().expand()
        op.execute("DROP TRIGGER both_names ON users")
        op.execute("UPDATE users SET display_name = name")
        op.execute("ALTER TABLE users ALTER name DROP NOT NULL")

    def backfill(self):
        op.execute(
            "CREATE TRIGGER both_names BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION both_names()"
        )


@ANSWERS.wrong("old name")
class NotedForNewRowsOnly(Shape):
    """Who was renamed between the two is as before."""

    def expand(self):
        op.execute("ALTER TABLE users ADD display_name text")
        op.execute("UPDATE users SET display_name = name")
        self.when = "BEFORE INSERT"
        self.keep_equal()

    def backfill(self):
        super().backfill()
        op.execute("DROP FUNCTION both_names CASCADE")
        self.keep_equal()


@ANSWERS.wrong("overwritten")
class ReadsThenWrites(Shape):
    def backfill(self):
        connection = op.get_bind()
        rows = connection.execute(sa.text("SELECT id, name FROM users WHERE display_name IS NULL")).all()
        for row in rows:
            fill = sa.text("UPDATE users SET display_name = :name WHERE id = :id")
            connection.execute(fill, {"id": row.id, "name": row.name})


@ANSWERS.wrong("overwritten")
class FromACopy(Shape):
    def backfill(self):
        op.execute("CREATE TEMPORARY TABLE copy ON COMMIT DROP AS SELECT id, name FROM users")
        op.execute("UPDATE users SET display_name = copy.name FROM copy WHERE users.id = copy.id")


@ANSWERS.wrong("lost in the old one")
class OneWay(Shape):
    body = """
        IF TG_OP = 'INSERT' THEN
            NEW.name := coalesce(NEW.name, NEW.display_name);
            NEW.display_name := coalesce(NEW.display_name, NEW.name);
        ELSIF NEW.name IS DISTINCT FROM OLD.name THEN
            NEW.display_name := NEW.name;
        END IF;
    """


@ANSWERS.wrong("lost in the old one")
class TheOldOneMayBeEmpty(Shape):
    body = """
        IF TG_OP = 'INSERT' THEN
            NEW.display_name := coalesce(NEW.display_name, NEW.name);
        ELSIF NEW.name IS DISTINCT FROM OLD.name THEN
            NEW.display_name := NEW.name;
        END IF;
    """

    def expand(self):
        super().expand()
        op.execute("ALTER TABLE users ALTER name DROP NOT NULL")


@ANSWERS.wrong("lost in the new one")
class OnlyWhatIsAdded(Shape):
    when = "BEFORE INSERT"

    def backfill(self):
        op.execute("UPDATE users SET display_name = name WHERE display_name IS DISTINCT FROM name")


@ANSWERS.wrong("lost in the new one")
class WhateverIsThere(Shape):
    """On UPDATE both are there."""

    body = """
        NEW.name := coalesce(NEW.name, NEW.display_name);
        NEW.display_name := coalesce(NEW.display_name, NEW.name);
    """

    def backfill(self):
        op.execute("UPDATE users SET display_name = name")


@ANSWERS.wrong("lost in the new one")
class TheNewOneWins(Shape):
    body = """
        NEW.name := coalesce(NEW.display_name, NEW.name);
        NEW.display_name := NEW.name;
    """
    when = "BEFORE INSERT OR UPDATE OF display_name"

    def backfill(self):
        op.execute("UPDATE users SET display_name = name")


@ANSWERS.wrong("names lost")
class InCapitals(Shape):
    body = "NEW.name := initcap(NEW.name);" + BOTH


@ANSWERS.wrong("names lost")
class ContractsToNothing(Shape):
    def contract(self):
        op.execute("DROP FUNCTION both_names CASCADE")
        op.execute("ALTER TABLE users DROP COLUMN display_name")
        op.execute("ALTER TABLE users ADD display_name text NOT NULL DEFAULT ''")
        op.execute("ALTER TABLE users DROP COLUMN name")


@ANSWERS.wrong("old column")
class KeptForAWhile(Shape):
    def contract(self):
        op.execute("ALTER TABLE users ALTER name DROP NOT NULL")
        op.execute("ALTER TABLE users ALTER display_name SET NOT NULL")
        op.execute("DROP FUNCTION both_names CASCADE")


@ANSWERS.wrong("another column")
class MayBeNull(Shape):
    def contract(self):
        op.execute("DROP FUNCTION both_names CASCADE")
        op.drop_column("users", "name")


@ANSWERS.wrong("another column")
class OfAnotherLength(Shape):
    def expand(self):
        op.add_column("users", sa.Column("display_name", sa.String(200)))
        self.keep_equal()


@ANSWERS.wrong("left over")
class TheFunctionStays(Shape):
    def contract(self):
        op.execute("DROP TRIGGER both_names ON users")
        op.execute("ALTER TABLE users DROP COLUMN name, ALTER display_name SET NOT NULL")


@ANSWERS.wrong("something else")
class TakesAnIndexAlong(Shape):
    def contract(self):
        super().contract()
        op.execute("ALTER TABLE users DROP CONSTRAINT ck_users_tier")


@ANSWERS.wrong("rows changed")
class TouchesTheTime(Shape):
    def backfill(self):
        op.execute("UPDATE users SET display_name = name, updated_at = now() WHERE display_name IS NULL")


@ANSWERS.wrong("new program fails")
class TheTriggerStays(Shape):
    def contract(self):
        op.execute("ALTER TABLE users DROP COLUMN name")
        op.execute("ALTER TABLE users ALTER display_name SET NOT NULL")


@ANSWERS.wrong("lost in the old one")
class FillsInOneDirectionForNewUsers(Shape):
    """The old program finds users of the new one without a name, until somebody changes them."""

    body = """
        IF TG_OP = 'INSERT' THEN
            NEW.display_name := coalesce(NEW.display_name, NEW.name);
        ELSIF NEW.display_name IS DISTINCT FROM OLD.display_name THEN
            NEW.name := NEW.display_name;
        ELSIF NEW.name IS DISTINCT FROM OLD.name THEN
            NEW.display_name := NEW.name;
        END IF;
    """

    def expand(self):
        super().expand()
        op.execute("ALTER TABLE users ALTER name DROP NOT NULL")


@ANSWERS.wrong("not filled")
class OneBatch(Shape):
    def backfill(self):
        op.execute(
            "UPDATE users SET display_name = name "
            "WHERE id IN (SELECT id FROM users WHERE display_name IS NULL ORDER BY created_at LIMIT 1000)"
        )


@ANSWERS.wrong("not filled")
class PassesOverWhatIsHeld(Shape):
    def backfill(self):
        op.execute(
            "UPDATE users SET display_name = name "
            "WHERE id IN (SELECT id FROM users WHERE display_name IS NULL FOR UPDATE SKIP LOCKED)"
        )


@ANSWERS.wrong("not filled")
class TheBridgeComesWithTheBackfill(Shape):
    """Who is added while its UPDATE runs is neither seen by it nor by the trigger."""

    def expand(self):
        op.execute("ALTER TABLE users ADD display_name text")

    def backfill(self):
        super().backfill()
        self.keep_equal()


@ANSWERS.wrong("new program fails meanwhile")
class ContractsInSteps(Shape):
    def contract(self):
        with op.get_context().autocommit_block():
            super().contract()
