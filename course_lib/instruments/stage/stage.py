"""The stage itself: it lets one actor step at a time, and knows when everybody has come to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from course_lib.errors import CourseError
from course_lib.instruments.stage.actor import ANOTHER, Actor
from course_lib.instruments.stage.attribution import StepLog, current_step
from course_lib.instruments.stage.cells import Part
from course_lib.instruments.stage.observer import Observer
from course_lib.instruments.stage.rendering import render_text
from course_lib.instruments.stage.scene import Scene
from course_lib.instruments.stage.step import Kind, Step, is_of_the_database
from course_lib.instruments.stage.threads import ThreadActor
from course_lib.instruments.stage.words import listed

if TYPE_CHECKING:
    from course_lib.instruments.pictures import Picture

PAUSE = 0.003  # seconds between two looks at who waits
STEADY = 0.1  # seconds a wait for a session off stage must last: others may hold a lock for a moment only


class Stage:
    """Sessions stepped by name. The last line of a cell, ``stage``, draws what happened.

    After every step the stage settles: each actor's last step has ended, or waits for a lock that an actor at rest or
    a session off stage holds, as ``pg_blocking_pids`` says. So the same steps give the same scene every time. The
    server breaks a deadlock when one who waits has waited for ``deadlock_timeout``, 1 s by default: who began to wait
    first is the victim, provided that the circle closes within that second.

    What one COMMIT lets go on at once races on the server, and no stage decides that: two who wait for a row that was
    changed queue anew for its new version, and in some runs the second overtakes the first. When it was only locked
    (FOR UPDATE), or the change is rolled back, they keep their order. A ``lock_timeout`` below a few tenths of a
    second may end a step before the stage has seen it wait.

    Args:
        engine: every actor takes one connection of it. On a synchronous Engine each actor steps in a thread of its own,
            and the functions it steps through are synchronous as well.
        patience: seconds after which a step that neither ends nor stands at a lock is an error.

    Raises:
        CourseError: what was given is no engine.
    """

    def __init__(self, engine: AsyncEngine | Engine, *, patience: float = 10.0) -> None:
        if not isinstance(engine, AsyncEngine | Engine):
            raise CourseError(
                f"A stage stands on an engine, and {type(engine).__name__} is none.",
                "Write: async with Stage(engine) as stage:",
            )
        self._engine = engine
        self._is_async = isinstance(engine, AsyncEngine)
        self._patience = patience
        self._actors: list[Actor] = []
        self._owners: dict[int, Actor] = {}
        self._observer = Observer(
            engine.sync_engine if isinstance(engine, AsyncEngine) else engine,
            greenlet_spawn if self._is_async else asyncio.to_thread,
        )
        self._log = StepLog(engine, self._belongs)
        self._scene = Scene(self._parts, self._name_of)
        self._turn = asyncio.Lock()
        self._is_open = False
        self._leaving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Stage:
        if self._is_open or self._scene.rows:
            raise CourseError("A stage is for one scene.", "Make another: async with Stage(engine) as stage:")
        await self._observer.open()
        self._log.__enter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._is_open = False
        gently = kind is None or issubclass(kind, Exception)
        self._leaving = asyncio.create_task(self._leave(gently))
        await asyncio.shield(self._leaving)  # a second interrupt does not stop it

    # who is on it

    def actor(self, name: str, *, isolation_level: str | None = None) -> Actor:
        """A new actor.

        Args:
            isolation_level: of all its transactions, for instance ``"REPEATABLE READ"``.

        Raises:
            CourseError: there is one of this name, or no such isolation level.
        """
        if any(actor.name == name for actor in self._actors):
            raise CourseError(f"There is a {name} on this stage.", "Give the other actor another name.")
        level = isolation_level.upper().replace("_", " ") if isolation_level is not None else None
        levels = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT")
        if level is not None and level not in levels:
            raise CourseError(f"{isolation_level!r} is no isolation level.", f"Choose one of: {', '.join(levels[:3])}.")
        made = Actor if self._is_async else ThreadActor
        self._actors.append(made(self, name, len(self._actors), level))
        return self._actors[-1]

    def actors(self, *names: str, isolation_level: str | None = None) -> list[Actor]:
        """Several actors, in the order of the picture's columns."""
        return [self.actor(name, isolation_level=isolation_level) for name in names]

    # stepping

    async def take(
        self, actor: Actor, kind: Kind, what: str, values: dict[str, Any], work: Callable[[], Awaitable[Any]]
    ) -> Step:
        """Let ``actor`` do ``work`` and everybody come to rest. Actors call this."""
        if current_step.get() is not None:
            raise CourseError("A step is under way, and it cannot take another one.", "Step from the cell instead.")
        async with self._turn:
            if not self._is_open:
                raise CourseError("Nobody can step: the stage is closed.", "Step inside of: async with Stage(…):")
            await self._settle()
            self._scene.notice()
            actor.refuse_while_busy()
            before = actor.band
            step = Step(actor.name, kind, what, values, self._log.sent_by, self._until_over)
            step.aborted = before == "failed"
            self._log.watch(step)
            if (pid := await actor.connect(self._engine)) is not None:
                self._belongs(step, pid)
            actor.begin(step, work)
            try:
                await self._settle()
            finally:
                self._scene.record(actor.lane, before)
        if step.error is not None and not is_of_the_database(step.error):
            raise step.error
        return step

    async def _until_over(self, step: Step) -> None:
        tasks = [actor.task for actor in self._actors if actor.step is step and actor.task is not None]
        await asyncio.wait(tasks, timeout=self._patience) if tasks else None
        if not step.is_over:
            raise CourseError(
                f"{step.actor} still {step.outcome}, and nothing has ended that within {self._patience:g} seconds.",
                "Let the other commit or roll back.",
            )
        async with self._turn:
            await self._settle()
            self._scene.notice()

    async def _settle(self) -> None:
        """Wait until every step has ended or stands at a lock that nobody lets go of by himself."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience
        strangers_since: float | None = None
        while busy := {actor: actor.task for actor in self._actors if actor.task is not None and actor.is_busy}:
            ended, _ = await asyncio.wait(busy.values(), timeout=PAUSE, return_when=asyncio.FIRST_COMPLETED)
            if ended:
                continue
            waits = await self._waits(busy)
            if any(task.done() for task in busy.values()):
                continue  # whoever has ended since was not at rest when the server was asked
            if not at_rest(waits):
                strangers_since = None
            elif (
                all(None not in others for others in waits.values())
                or clock() - (strangers_since := strangers_since or clock()) >= STEADY
            ):
                self._accept(waits)
                break
            if clock() > deadline:
                raise self._out_of_patience(waits)

    async def _waits(self, busy: Collection[Actor]) -> dict[Actor, list[Actor | None]]:
        """Each busy actor, and those whose lock it waits for at this moment; None stands for who is not on stage."""
        pids = {actor: actor.step.pids for actor in busy if actor.step is not None}
        blockers = await self._observer.blockers([pid for each in pids.values() for pid in each])
        waits: dict[Actor, list[Actor | None]] = {}
        for actor, own in pids.items():
            found = {self._owners.get(blocker) for pid in own for blocker in blockers.get(pid, ())}
            on_stage: list[Actor | None] = [other for other in self._actors if other in found]
            waits[actor] = on_stage + [None] * (None in found)
        return waits

    def _accept(self, waits: Mapping[Actor, Sequence[Actor | None]]) -> None:
        for actor, others in waits.items():
            if actor.step is not None and not actor.step.is_over:
                actor.step.waits_for = tuple(other.name if other else ANOTHER for other in others)

    def _out_of_patience(self, waits: Mapping[Actor, Sequence[Actor | None]]) -> CourseError:
        seconds = f"{self._patience:g} seconds"
        running = [actor for actor, others in waits.items() if not others]
        if not running:
            names = listed([actor.name for actor in waits])
            return CourseError(
                f"{names} wait for each other, and the server has not ended that within {seconds}.",
                "Look at SHOW deadlock_timeout, and give the stage more time: Stage(engine, patience=60).",
            )
        step = running[0].step
        return CourseError(
            f"{running[0].name}'s step has neither ended nor come to a lock within {seconds}: {step and step.what}",
            "Make it shorter, or give the stage more time: Stage(engine, patience=60).",
        )

    # what the log and the scene ask

    def _belongs(self, step: Step, pid: int) -> None:
        step.pids.add(pid)
        self._owners[pid] = next(actor for actor in self._actors if actor.name == step.actor)

    def _name_of(self, pid: int) -> str:
        return self._owners[pid].name if pid in self._owners else ANOTHER

    def _parts(self) -> list[Part]:
        return [Part(a.lane, a.name, a.step, a.band, a.is_transactional) for a in self._actors]

    # leaving

    async def _leave(self, gently: bool) -> None:
        try:
            steps = [actor.step for actor in self._actors if actor.is_busy]
            if gently and all(step is not None and step.waits_for for step in steps):
                with suppress(Exception):  # a lost server, or out of patience: the rest is cut off
                    await self._roll_back_in_turn()
        finally:
            await self._clear()

    async def _roll_back_in_turn(self) -> None:
        """Roll back who is at rest, let go on whom that lets go on, and so on until nothing is open."""
        await self._settle()
        self._scene.notice()
        while left := [actor for actor in self._actors if not actor.is_busy and actor.band]:
            for actor in left:
                await actor.do_rollback()
            await self._settle()
            self._scene.record_end([actor.lane for actor in left])

    async def _clear(self) -> None:
        busy = [actor for actor in self._actors if actor.is_busy]
        tasks = [actor.task for actor in busy if actor.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if busy and not self._is_async:
            await self._end_threads(busy)
        self._scene.notice()
        self._log.__exit__()
        left = [actor.lane for actor in self._actors if actor.band]
        for actor in self._actors:
            with suppress(Exception):  # a connection that is lost is left as well
                await actor.leave()
        if left:
            self._scene.record_end(left)
        with suppress(Exception):
            await self._observer.close()

    async def _end_threads(self, busy: Sequence[Actor]) -> None:
        """A thread cannot be cancelled; what it waits for can be ended."""
        with suppress(Exception):  # the server is lost, or a function does not return
            await self._observer.terminate([pid for actor in busy if actor.step for pid in actor.step.pids])
            for actor in busy:
                await actor.at_rest()

    # how it looks

    def __str__(self) -> str:
        self._scene.notice()
        return render_text(self._titles(), self._scene.rows)

    __repr__ = __str__

    def _titles(self) -> list[tuple[str, str]]:
        return [(actor.name, actor.isolation_level or "") for actor in self._actors]

    def plot(self) -> Picture:
        """The swim-lanes: a column per actor, a row per step, each transaction a band."""
        from course_lib.instruments.stage.picture import draw

        self._scene.notice()
        return draw(self._titles(), self._scene.rows)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.plot()._repr_mimebundle_(include, exclude)


def at_rest(waits: Mapping[Actor, Sequence[Actor | None]]) -> bool:
    """True when all that are busy wait for somebody at rest, directly or through others; a circle is not at rest."""
    resting: set[Actor] = set()
    while more := {
        actor
        for actor, others in waits.items()
        if actor not in resting
        and others
        and all(other is None or other is actor or other not in waits or other in resting for other in others)
    }:
        resting |= more
    return len(resting) == len(waits)
