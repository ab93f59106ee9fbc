"""S3: a setting on a connection that is shared, and the policies that believe it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import ClassVar

from sqlalchemy import text
from sqlalchemy.exc import TimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.interview.scenes.blocks_of_users import CONNECTIONS, Stage, read
from course_lib.judging.application import as_application
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill

POLICY = """
    CREATE POLICY own ON documents USING (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
"""
WRITE = text("INSERT INTO documents (user_id, source, title) VALUES (:user, :title, :title)")


class AsUser(Drill):
    """What a session's commits and a block's errors do to a setting of the connection."""

    id = "S3"
    title = "For a moment, somebody else's"
    answer = "as_user"
    minutes = 15
    points = 3
    level = "senior"
    topics: ClassVar = ("tenants", "pooling", "security")
    faults: ClassVar = ("after a commit", "after a rollback", "left behind")
    seconds = 12.0
    hints: ClassVar = (
        "Where does `set_config` write to, and is that what the session uses from its first statement to its last?",
        "A session gives its connection back when its transaction ends, and takes one again with its next statement: "
        "any one of the pool. And a setting that was made in a transaction is gone when that is rolled back.",
        "Either the setting belongs to each transaction (`set_config(…, true)`), and something makes it whenever one "
        "begins; or one connection belongs to the block, and is clean again whichever way the block ends.",
        '`event.listens_for(session.sync_session, "after_begin")` is called with the session, the transaction and '
        "the connection, each time the session begins a transaction.",
    )
    why = (
        "The setting lived on a connection, and the session does not: after a commit it goes on with whichever "
        "connection is free, and with what somebody left on it. Made at the beginning of each transaction and for that "
        "transaction alone, it is where the statements are, ends with them, and needs no cleaning up that an error "
        "could skip."
    )
    follow_up = (
        "The policies believe whatever the application sets, and somebody finds a place for SQL of their own. What "
        "does row-level security still protect then, and what could the server check instead?"
    )
    mistakes: ClassVar = {
        "not a context manager": "`as_user` gave {kind}, and it is used with `async with`. "
        "| As it was found: `@asynccontextmanager`.",
        "not a session": "The block was given {kind}, and an AsyncSession was asked for. | `yield session`",
        "wrong rows": "In a block that had only begun, {own} of the user's {all} documents were read, and {others} of "
        "other users. | The policy compares the owner with `app.user_id`, as it is on the connection that is used.",
        "after a commit": "Two blocks had committed and went on, and in one of them {others} documents of the other "
        "user were read, and {own} of the user's own {all}. "
        "| That is what was reported. Which connection does a session use after a commit?",
        "hidden after a commit": "A block had committed and went on, and {own} of the user's {all} documents were "
        "read. | Whatever was set for a transaction has ended with it. What sets it for the next?",
        "after a rollback": "A block had rolled back and went on, and {own} of the user's {all} documents were read, "
        "and {others} of other users. | What was set in a transaction is taken back with it.",
        "own write refused": "A block had committed, and then could not add a document of its user. "
        "| The policy asks for the same setting when a row is written.",
        "left behind": "After a block that {how}, a session that `as_user` did not make read {count} documents. "
        "| What a connection of the pool was told stays on it, unless it was told for a transaction. Who cleans up?",
        "not committed": "A block wrote and came to its end, and others do not see what it wrote. "
        "| What is open at the end of a block is committed.",
        "not rolled back": "A block wrote and then raised an error, and others see what it wrote. "
        "| An error takes back what the block had not committed.",
        "lost": "A block wrote, committed, and then raised an error, and what it had committed is gone. "
        "| Its commits are commits.",
        "error swallowed": "A block raised an error, and outside of it there was none. | It has to rise.",
        "connections used up": "With {count} blocks open and a pool of {count} connections, one of them got none. "
        "| One connection for a block is what it may hold.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        stage = await Stage.made(attempt)
        await attempt.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        await attempt.sql("ALTER TABLE documents FORCE ROW LEVEL SECURITY")
        await attempt.sql(POLICY)
        async with as_application(attempt, ("documents",), CONNECTIONS):
            for scene in (
                self._both_go_on, self._after_a_rollback, self._writes, self._nobody_after_an_end,
                self._raises, self._raises_after_a_commit, self._cancelled,
            ):  # fmt: skip
                await self._play(attempt, scene, stage)

    async def _play(self, attempt: Attempt, scene: Callable[[Stage], Awaitable[None]], stage: Stage) -> None:
        async def play() -> None:
            try:
                await scene(stage)
            finally:
                await stage.end_all()

        play.__name__ = self.answer  # the name that a message gives
        await attempt.call(function=play)

    # what is read in a block

    async def _both_go_on(self, stage: Stage) -> None:
        """Two blocks side by side, so that each connection was the other's."""
        try:
            blocks = [await stage.block(user).begun() for user in stage.titles]
            for block in blocks:
                stage.compare(block, await block.do(read), "wrong rows")
        except TimeoutError as error:
            raise stage.attempt.wrong("connections used up", count=CONNECTIONS) from error
        for _ in range(2):
            for block in blocks:
                await block.do(AsyncSession.commit)
            for block in reversed(blocks):
                stage.compare(block, await block.do(read), "after a commit", hidden="hidden after a commit")

    async def _after_a_rollback(self, stage: Stage) -> None:
        blocks = [stage.block(user) for user in stage.titles]
        for block in blocks:
            await (await block.begun()).do(read)
            await block.do(AsyncSession.rollback)
        for block in reversed(blocks):
            stage.compare(block, await block.do(read), "after a rollback")

    # what stays of it

    async def _writes(self, stage: Stage) -> None:
        block = stage.block(stage.one)
        await block.do(read)
        await block.do(AsyncSession.commit)
        title = f"Late {token_hex(4)}"
        try:
            await block.do(lambda session: session.execute(WRITE, {"user": stage.one, "title": title}))
        except Exception as error:
            raise stage.attempt.wrong("own write refused") from error
        await block.end()
        stage.attempt.expect(title in await stage.stored(), "not committed")
        stage.titles[stage.one].add(title)

    async def _nobody_after_an_end(self, stage: Stage) -> None:
        block = stage.block(stage.one)
        await block.do(read)
        await block.do(AsyncSession.commit)
        await block.do(read)
        await block.end()
        await stage.expect_nobody("came to its end")

    async def _raises(self, stage: Stage) -> None:
        block, title = stage.block(stage.one), f"Wrong {token_hex(4)}"
        await block.do(lambda session: session.execute(WRITE, {"user": stage.one, "title": title}))
        await stage.expect_error(block)
        stage.attempt.expect(title not in await stage.stored(), "not rolled back")
        await stage.expect_nobody("raised an error")

    async def _raises_after_a_commit(self, stage: Stage) -> None:
        block, title = stage.block(stage.one), f"Kept {token_hex(4)}"
        await block.do(lambda session: session.execute(WRITE, {"user": stage.one, "title": title}))
        await block.do(AsyncSession.commit)
        await block.do(read)
        await stage.expect_error(block)
        stage.attempt.expect(title in await stage.stored(), "lost")
        stage.titles[stage.one].add(title)
        await stage.expect_nobody("had committed and then raised an error")

    async def _cancelled(self, stage: Stage) -> None:
        block = stage.block(stage.one)
        await block.do(read)
        await block.do(AsyncSession.commit)
        block.task.cancel()
        await asyncio.wait({block.task})
        stage.attempt.expect(block.task.cancelled(), "error swallowed")
        await stage.expect_nobody("had committed and then was cancelled")
