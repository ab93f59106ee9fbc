"""The worker: takes jobs off the queue and makes uploads searchable, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID

import openai
from sqlalchemy import URL, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.errors import CourseError
from course_lib.models import Document, Job
from course_lib.postgres.losing import server_went_away
from course_lib.repositories import limits
from course_lib.repositories.rag import ingest
from course_lib.repositories.rag.cutting import cut
from course_lib.repositories.rag.reading import read_document
from course_lib.repositories.rag.store import lock_documents
from course_lib.service import queue, uploads
from course_lib.service.idempotency import forget_old
from course_lib.service.running import make_service_engine
from course_lib.service.uploads import Upload
from course_lib.settings import Settings

log = logging.getLogger(__name__)
IDLE_SECONDS = 0.5  # between looks at an empty queue
TIDY_SECONDS = 15  # between looks for what dead workers left
FIRST_PAUSE = timedelta(seconds=2)
NO_MODEL = "The language model did not answer. Send the document again later."
UNKNOWN = "The document could not be read, and the fault is ours. Send it again later."


class NotOurs(Exception):
    """The job is somebody else's by now, or was deleted: what was made of it is not stored."""


class Worker:
    """Does one job after the other. Two of them never do the same one, however many there are."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], client: openai.AsyncOpenAI) -> None:
        self.sessions, self.client = sessions, client
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set; the job in hand is done first. A database that is away is waited for."""
        tidied = -math.inf
        clock = asyncio.get_running_loop().time
        while not stop.is_set():
            try:
                if clock() - tidied >= TIDY_SECONDS:
                    await self.tidy()
                    tidied = clock()
                if await self.work():
                    continue
            except Exception as error:
                if not server_went_away(error):
                    log.exception("A job could not be taken.")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), IDLE_SECONDS)

    async def work(self) -> bool:
        """Take a job and do it; False when there was none."""
        async with self.sessions.begin() as session:
            job = await queue.take(session, self.name)
        if job is None:
            return False
        try:
            async with self._alive(job):
                await self._do(job)
        except CourseError as error:
            await self._failed(job, error.sentence, None)
        except openai.OpenAIError:  # before the database: what it came from may be a TimeoutError, too
            await self._failed(job, NO_MODEL, FIRST_PAUSE * 2**job.attempts)
        except Exception as error:
            if server_went_away(error):
                raise  # the lease runs out, and somebody takes it again
            log.exception("Job %s failed.", job.id)
            await self._failed(job, UNKNOWN, FIRST_PAUSE * 2**job.attempts)
        return True

    async def tidy(self) -> None:
        """Give back what dead workers hold, and forget what nobody asks for again."""
        async with self.sessions.begin() as session:
            for job in await queue.reclaim(session):
                if job.document_id is not None:
                    await uploads.refuse(session, job.document_id, UNKNOWN)
            await forget_old(session)

    async def _do(self, job: Job) -> None:
        if job.kind == limits.KIND:
            async with self.sessions.begin() as session:
                await limits.give_back(session, UUID(job.payload["user_id"]), job.id)
        elif job.kind == uploads.KIND:
            await self._ingest(job)
        else:
            raise CourseError(f"No worker knows what a job of kind {job.kind} is.")

    async def _ingest(self, job: Job) -> None:
        """Read, cut, embed, with no connection; then, in one transaction, the passages and the end of the job."""
        upload = Upload.of(job.payload)
        read = await asyncio.to_thread(read_document, upload.data, upload.name, upload.content_type)
        chunks = await asyncio.to_thread(cut, read.text)
        async with self.sessions() as session:
            user_id = await session.scalar(select(Document.user_id).where(Document.id == job.document_id))
        if user_id is None:
            return  # deleted, and the job with it

        async def done(session: AsyncSession) -> None:
            # in the order in which a deletion locks them; who has deleted the document has deleted the job
            await lock_documents(session, user_id)
            await session.execute(select(Document.id).where(Document.id == job.document_id).with_for_update())
            if not await queue.still_held(session, job.id, self.name):
                raise NotOurs
            await queue.finish(session, job.id)

        with suppress(NotOurs):
            await ingest(self.sessions, user_id, upload.source, upload.title or read.title, chunks, self.client, done)

    async def _failed(self, job: Job, sentence: str, pause: timedelta | None) -> None:
        async with self.sessions.begin() as session:
            status = await queue.fail(session, job.id, self.name, sentence, pause)
            if status == "failed" and job.document_id is not None:
                await uploads.refuse(session, job.document_id, sentence)

    @asynccontextmanager
    async def _alive(self, job: Job) -> AsyncIterator[None]:
        """Say so, again and again, while the block runs: a large document takes longer than a lease."""
        beating = asyncio.create_task(self._beat(job))
        try:
            yield
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    async def _beat(self, job: Job) -> None:
        held = True
        while held:
            await asyncio.sleep(queue.LEASE.total_seconds() / 3)
            with suppress(Exception):  # the database may be away for a moment; the lease is longer
                async with self.sessions.begin() as session:
                    held = await queue.extend(session, job.id, self.name)


async def work_until(stop: asyncio.Event, url: URL | str, settings: Settings, client: openai.AsyncOpenAI) -> None:
    """A worker with an engine of its own, until ``stop`` is set."""
    engine = make_service_engine(url, settings.model_copy(update={"pool_size": 2}))
    try:
        await Worker(make_session_factory(engine), client).run(stop)
    finally:
        await engine.dispose()
