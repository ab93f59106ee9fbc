"""10.6: the rows that one transaction deleted, out of a backup and into a database that has gone on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.exercises.lesson_10.scenes.incident import Incident, Rows, incident
from course_lib.instruments.network import Wire
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.postgres.extra_server import NoSuchMoment

MOST_RESTORES = 8


class BringBack(Exercise):
    """The moment by the transaction's number, the loss as a difference, and nothing else touched."""

    id = "10.6"
    title = "Restore to a minute ago"
    answer = "bring_back"
    minutes = 25
    points = 3
    level = "senior"
    recipe = "empty"
    seconds = 40.0
    hints: ClassVar = (
        "When was it? `created_at` of the job is when its transaction began. Others went on writing until it "
        "committed, and some of what they wrote was deleted too.",
        "Each row knows the transaction that wrote it: the system column `xmin`. With `track_commit_timestamp` on, "
        "`pg_xact_commit_timestamp(xmin)` is the moment of its COMMIT.",
        "Two servers, one restored with `inclusive=False` and one with it, are the states just before and just after "
        "that COMMIT. What the first has and the second has not is what this one transaction deleted.",
        "Insert with `ON CONFLICT DO NOTHING`, conversations before their messages, and only where the row that it "
        "refers to is there today.",
    )
    why = (
        "A restore to a moment is whole, and the live database is ahead of it: so the restored server is a place to "
        "copy from, not a replacement. The difference of two states just before and just after one COMMIT is exactly "
        "what that transaction did. What was deleted on purpose since is in neither half, and nothing that was written "
        "since is touched. The main alternative is to put the restored server in the place of the live one: right "
        "after a disk was lost, and the loss of all that came since after a mistake."
    )
    follow_up = (
        "The mistake is found three weeks later and archives are kept for two. What do you still have, and what would "
        "you have set up before: for the table, for the role that ran the job, and for the retention of the archive?"
    )
    mistakes: ClassVar = {
        "nothing back": "None of the {lost} lost rows is back. | Was the restored server in the state just before the "
        "COMMIT of the purge?",
        "of the window": "{missing} of the {lost} lost rows are not back, and they were all written while the purge "
        "was at work. | It deleted them as well: the moment to go back to is its COMMIT, not its beginning.",
        "messages missing": "The lost conversations are back, and {missing} of their messages are not. "
        "| A conversation's deletion takes its messages along.",
        "not all back": "{missing} of the {lost} lost rows are not back. | Compare the states before and after the "
        "purge, table by table.",
        "changed on the way": "{count} lost row(s) are back with other values, for one in `{table}`. "
        "| Every column comes back as it was, the id and the times too.",
        "back on purpose": "{count} row(s) are back that somebody has deleted on purpose since, or with their account. "
        "| Which rows did the purge itself delete?",
        "overwritten": "{count} row(s) that were changed since have their old values again. | What is in the live "
        "database is newer than the backup.",
        "lost since": "{count} row(s) are gone that the live database had when you began, or that came meanwhile. "
        "| It is in use: add to it, and take nothing away.",
        "extra rows": "{count} row(s) are there that never were, for one in `{table}`. | Add what was lost, once.",
        "second run": "A second call {did}. | Somebody will run it again to be sure: then nothing is missing any more.",
        "too many restores": "{count} servers were restored. | The moment can be known beforehand: two are enough.",
        "connection held": "{held} connection(s) were not given back to the pools. | `async with engine.connect()`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        wires: list[Wire] = []

        def through(url: Any) -> Any:
            wires.append(Wire.open(url))
            return wires[-1].url

        try:
            async with incident(through) as scene:
                await _Trial(attempt, scene).run()
        finally:
            for wire in wires:
                wire.close()


class _Trial:
    def __init__(self, attempt: Attempt, scene: Incident) -> None:
        self.attempt, self.scene = attempt, scene
        self.restores = 0

    async def run(self) -> None:
        await self._call()
        self._compare(await self.scene.rows())
        try:
            await self._call()
        except Exception as error:
            if getattr(error, "mistake", "") != "raised":
                raise
            did = f"raised {type(error.__cause__).__name__}"
            raise self.attempt.wrong("second run", did=did) from error
        again = await self.scene.rows()
        self.attempt.expect(again == self.scene.expected, "second run", did="left other rows than the first one")

    async def _call(self) -> None:
        await self.attempt.call(self.scene.engine, self.scene.job, self._restore)
        engines = [self.scene.engine, *self.scene.engines]
        held = sum(engine.pool.checkedout() for engine in engines)  # type: ignore[attr-defined]
        self.attempt.expect(not held, "connection held", held=held)

    async def _restore(self, moment: datetime | None = None, *, inclusive: bool = True) -> AsyncEngine:
        """What the answer is given. Of a moment that cannot be had it is told by a ValueError."""
        self.restores += 1
        self.attempt.expect(self.restores <= MOST_RESTORES, "too many restores", count=self.restores)
        if moment is not None and not isinstance(moment, datetime):
            raise TypeError(f"a moment is a datetime, and this is {type(moment).__name__}")
        try:
            return await self.scene.restore(moment, inclusive)
        except NoSuchMoment as error:
            raise ValueError(error.sentence) from None

    def _compare(self, found: Rows) -> None:
        scene, expect = self.scene, self.attempt.expect
        lost, wanted = scene.lost, scene.expected
        gone = [key for key in wanted if key not in found and key not in lost]
        expect(not gone, "lost since", count=len(gone))
        old = [key for key in scene.changed if found[key] != wanted[key]]
        expect(not old, "overwritten", count=len(old))
        dead = [key for key in scene.deleted if key in found]
        expect(not dead, "back on purpose", count=len(dead))
        missing = {key for key in lost if key not in found}
        numbers = {"missing": len(missing), "lost": len(lost)}
        expect(len(missing) < len(lost), "nothing back", **numbers)
        expect({table for table, _ in missing} != {"messages"} or len(missing) < 5, "messages missing", **numbers)
        of_window = missing and {key for key in missing if key[0] == "conversations"} == scene.window
        expect(not of_window, "of the window", **numbers)
        expect(not missing, "not all back", **numbers)
        other = [key for key in lost if found[key] != lost[key]]
        expect(not other, "changed on the way", count=len(other), table=other[0][0] if other else "")
        extra = [key for key in found if key not in wanted]
        expect(not extra, "extra rows", count=len(extra), table=extra[0][0] if extra else "")
        rest = [key for key in wanted if found[key] != wanted[key]]
        expect(not rest, "overwritten", count=len(rest))
