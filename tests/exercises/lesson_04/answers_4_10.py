"""Answers to 4.10, tenants kept apart."""

from __future__ import annotations

from sqlalchemy import event, func, select, text

from tests.exercises.written import Answers

ANSWERS = Answers("4.10")

ME = "nullif(current_setting('app.user_id', true), '')::uuid"
TABLES = ("documents", "document_chunks")


class Right:
    """What the others change a part of."""

    own_document = f"user_id = {ME}"
    own_chunk = "document_id IN (SELECT id FROM documents)"
    enabled: tuple[str, ...] = TABLES
    forced: tuple[str, ...] = TABLES
    command = ""

    async def protect(self, session):
        for table in self.enabled:
            await session.execute(text(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))
        for table in self.forced:
            await session.execute(text(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"))
        await self.policies(session)

    async def policies(self, session):
        await session.execute(text(f"CREATE POLICY own ON documents {self.command} USING ({self.own_document})"))
        await session.execute(text(f"CREATE POLICY own ON document_chunks {self.command} USING ({self.own_chunk})"))

    async def enter(self, session, user_id):
        await session.execute(select(func.set_config("app.user_id", str(user_id), True)))


ANSWERS.right(Right)


@ANSWERS.right
class ComparesText(Right):
    own_document = "user_id::text = current_setting('app.user_id', true)"


@ANSWERS.right
class ExistsAndTextSql(Right):
    own_chunk = f"EXISTS (SELECT FROM documents d WHERE d.id = document_id AND d.user_id = {ME})"

    async def enter(self, session, user_id):
        await session.execute(text("SELECT set_config('app.user_id', :id, true)"), {"id": str(user_id)})


@ANSWERS.right
class SetLocalOfACheckedId(Right):
    async def enter(self, session, user_id):
        await session.execute(text(f"SET LOCAL app.user_id = '{user_id}'"))


@ANSWERS.right
class AFunctionAndACheck(Right):
    async def policies(self, session):
        await session.execute(text(f"CREATE FUNCTION tenant() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT {ME} $$"))
        mine = "EXISTS (SELECT FROM documents d WHERE d.id = document_id AND d.user_id = tenant())"
        await session.execute(
            text("CREATE POLICY a ON documents USING (user_id = tenant()) WITH CHECK (user_id = tenant())")
        )
        await session.execute(text(f"CREATE POLICY a ON document_chunks USING ({mine}) WITH CHECK ({mine})"))


@ANSWERS.right
class APolicyForEachCommand(Right):
    async def policies(self, session):
        for table, own in (("documents", self.own_document), ("document_chunks", self.own_chunk)):
            await session.execute(text(f"CREATE POLICY r ON {table} FOR SELECT USING ({own})"))
            await session.execute(text(f"CREATE POLICY i ON {table} FOR INSERT WITH CHECK ({own})"))
            await session.execute(text(f"CREATE POLICY u ON {table} FOR UPDATE USING ({own})"))
            await session.execute(text(f"CREATE POLICY d ON {table} FOR DELETE USING ({own})"))


@ANSWERS.wrong("commits itself")
class CommitsItsOwnProtection(Right):
    async def protect(self, session):
        await super().protect(session)
        await session.commit()


@ANSWERS.right
class WipesTheSessionSettingAtTheEnd(Right):
    """Roundabout, and it holds."""

    async def enter(self, session, user_id):
        await session.execute(select(func.set_config("app.user_id", str(user_id), False)))
        connection = await session.connection()
        pool = connection.engine.pool

        def wipe(driver, _):
            driver.run_async(lambda connection: connection.execute("RESET app.user_id"))

        event.listen(pool, "checkin", wipe, once=True)


@ANSWERS.wrong("method missing")
class OnlyProtects:
    async def protect(self, session):
        await Right().protect(session)


@ANSWERS.wrong("not written")
class OnlyProtectsSoFar:
    async def protect(self, session):
        await Right().protect(session)

    async def enter(self, session, user_id):
        raise NotImplementedError


@ANSWERS.wrong("stays")
class InEveryTransactionOfTheSession(Right):
    async def enter(self, session, user_id):
        await super().enter(session, user_id)
        statement = select(func.set_config("app.user_id", str(user_id), True))
        event.listen(session.sync_session, "after_begin", lambda _, __, connection: connection.execute(statement))


@ANSWERS.wrong("written for others")
class GivesItsOwnAway(APolicyForEachCommand):
    async def policies(self, session):
        await super().policies(session)
        for table, own in (("documents", self.own_document), ("document_chunks", self.own_chunk)):
            await session.execute(text(f"DROP POLICY u ON {table}"))
            await session.execute(text(f"CREATE POLICY u ON {table} FOR UPDATE USING ({own}) WITH CHECK (true)"))


@ANSWERS.wrong("not enabled")
class PoliciesOnly(Right):
    enabled = ()


@ANSWERS.wrong("not enabled")
class ChunksForgotten(Right):
    enabled = ("documents",)


@ANSWERS.wrong("owner passes")
class NotForced(Right):
    forced = ()


@ANSWERS.wrong("owner passes")
class ChunksNotForced(Right):
    forced = ("documents",)


@ANSWERS.wrong("open to nobody")
class OpenWhileUnset(Right):
    own_document = f"{ME} IS NULL OR user_id = {ME}"


@ANSWERS.wrong("open to nobody")
class ChunksOfAnybody(Right):
    own_chunk = "true"


@ANSWERS.wrong("raises for nobody")
class SettingMustExist(Right):
    own_document = "user_id = current_setting('app.user_id')::uuid"


@ANSWERS.wrong("raises after somebody")
class EmptyText(Right):
    own_document = "user_id = current_setting('app.user_id', true)::uuid"


@ANSWERS.wrong("stays")
class ForTheSession(Right):
    async def enter(self, session, user_id):
        await session.execute(select(func.set_config("app.user_id", str(user_id), False)))


@ANSWERS.wrong("commits itself")
class ForTheSessionAndCommits(Right):
    async def enter(self, session, user_id):
        await session.execute(select(func.set_config("app.user_id", str(user_id), True)))
        await session.commit()


@ANSWERS.wrong("own rows hidden")
class NoPolicies(Right):
    async def policies(self, session):
        await session.flush()


@ANSWERS.wrong("own rows hidden")
class AnotherSetting(Right):
    async def enter(self, session, user_id):
        await session.execute(select(func.set_config("app.tenant", str(user_id), True)))


@ANSWERS.wrong("own rows hidden")
class ChunksWithoutAPolicy(Right):
    async def policies(self, session):
        await session.execute(text(f"CREATE POLICY own ON documents USING ({self.own_document})"))


@ANSWERS.wrong("others seen")
class AnybodyWhoIsSomebody(Right):
    own_document = f"{ME} IS NOT NULL"


@ANSWERS.wrong("others seen")
class ChunksOfEverybody(Right):
    own_chunk = f"{ME} IS NOT NULL"


@ANSWERS.wrong("own write refused")
class ReadOnly(Right):
    command = "FOR SELECT"


@ANSWERS.wrong("own write refused")
class NoPolicyForUpdates(Right):
    commands = ("SELECT", "INSERT", "DELETE")

    async def policies(self, session):
        for table, own in (("documents", self.own_document), ("document_chunks", self.own_chunk)):
            for command in self.commands:
                clause = f"WITH CHECK ({own})" if command == "INSERT" else f"USING ({own})"
                await session.execute(text(f"CREATE POLICY own_{command} ON {table} FOR {command} {clause}"))


@ANSWERS.wrong("others changed")
class AnybodyDeletes(NoPolicyForUpdates):
    commands = ("SELECT", "INSERT", "UPDATE")

    async def policies(self, session):
        await super().policies(session)
        for table in TABLES:
            await session.execute(text(f"CREATE POLICY gone ON {table} FOR DELETE USING (true)"))


@ANSWERS.wrong("written for others")
class ChecksNothing(Right):
    async def policies(self, session):
        for table, own in (("documents", self.own_document), ("document_chunks", self.own_chunk)):
            await session.execute(text(f"CREATE POLICY own ON {table} USING ({own}) WITH CHECK (true)"))


@ANSWERS.wrong("written for others")
class ChunksAnywhere(Right):
    own_chunk = "document_id IN (SELECT id FROM documents)"

    async def policies(self, session):
        await session.execute(text(f"CREATE POLICY own ON documents USING ({self.own_document})"))
        check = f"WITH CHECK ({ME} IS NOT NULL)"
        await session.execute(text(f"CREATE POLICY own ON document_chunks USING ({self.own_chunk}) {check}"))


@ANSWERS.wrong("others changed")
class UpdatesOfEverybody(APolicyForEachCommand):
    async def policies(self, session):
        await super().policies(session)
        await session.execute(
            text(f"CREATE POLICY all_of_them ON document_chunks FOR UPDATE USING ({ME} IS NOT NULL) WITH CHECK (true)")
        )


@ANSWERS.wrong("raised")
class BoundInSet(Right):
    async def enter(self, session, user_id):
        await session.execute(text("SET LOCAL app.user_id = :id"), {"id": str(user_id)})


@ANSWERS.wrong("raised")
class AnIdThatIsNoText(Right):
    async def enter(self, session, user_id):
        await session.execute(text("SELECT set_config('app.user_id', :id, true)"), {"id": user_id})


@ANSWERS.wrong("own rows hidden")
class ForgotToWait(Right):
    async def enter(self, session, user_id):
        session.execute(select(func.set_config("app.user_id", str(user_id), True)))
