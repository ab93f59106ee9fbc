"""One question on its way: short transactions around a model that takes its time, and an end that is always kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import UUID

import openai
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.errors import CourseError
from course_lib.repositories import NotFound, RagRepository
from course_lib.repositories.lasting import lasting, uninterrupted
from course_lib.repositories.limits import settle
from course_lib.repositories.rag import Answer, Asked, Embedding, Passage, prepare, store_turn
from course_lib.repositories.rag.asking import K, answer_to, give_back, left
from course_lib.repositories.rag.prompt import check_question
from course_lib.service import problems
from course_lib.service.idempotency import Once
from course_lib.service.problems import Refused
from course_lib.service.running import Service
from course_lib.service.schemas import Answered, NewQuestion


class Answering:
    """A question of one user: ``begin``, then ``rest``, then ``end``; leaving the block keeps what was said.

    No connection is held while a model works. What fails before the first token leaves nothing behind; from then on
    the turn is stored however it ends, once, together with the response that its idempotency key is given again.
    """

    def __init__(self, service: Service, user_id: UUID, question: NewQuestion, once: Once) -> None:
        self.service, self.user_id, self.question, self.once = service, user_id, question, once
        self._said: list[str] = []
        self._answer: Answer | None = None
        self._claimed = self._kept = False
        self._asked: Asked | None = None
        self._pieces: AsyncGenerator[str | Answer, None] | None = None

    async def __aenter__(self) -> Self:
        self.service.answers += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.leave()
        finally:
            self.service.answers -= 1

    async def begin(self) -> None:
        """Up to the first token: whatever is refused until here can still be a status code.

        Raises:
            Refused, NotFound, LimitReached: no such conversation of the user's, no tokens left, a question that
                cannot be asked, or this process is stopping.
            Replay: it was answered before.
            openai.OpenAIError: the model did not answer.
        """
        if self.service.stopping.is_set():
            raise Refused(problems.STOPPING, retry_after=1)
        question, sessions, client = self.question, self.service.sessions, self.service.client
        try:
            check_question(question.question)
        except CourseError as error:
            raise Refused(problems.INVALID, error.sentence) from error
        async with sessions.begin() as session:
            await self.once.claim(session, question.model_dump_json().encode())
        self._claimed = True
        self._asked = await prepare(
            sessions, self.user_id, question.conversation_id, question.question, client, search=self._search
        )
        self._pieces = answer_to(self._asked, client)
        await self._next()

    async def rest(self) -> AsyncIterator[str]:
        """The tokens, the first one too."""
        for piece in self._said:  # grows meanwhile
            yield piece
            await self._next()

    async def end(self) -> Answered:
        """Store the turn, in one transaction."""
        assert self._answer is not None
        return await self._keep(self._answer)

    async def leave(self) -> None:
        """Unless it has ended: stop the model, and store what was said as aborted. Nothing, if nothing was."""
        if self._kept or not self._claimed:
            return
        if self._pieces is not None:
            with suppress(openai.OpenAIError, OSError):
                await uninterrupted(self._close(self._pieces))  # or the model goes on writing, and is paid for it
        said = self._answer or (left(self._asked, "".join(self._said)) if self._asked else None)
        if said is not None:
            await self._keep(said)
        else:
            await uninterrupted(self._undo())

    async def _search(self, session: AsyncSession, user_id: UUID, text: str, vector: Embedding) -> Sequence[Passage]:
        """By meaning and by words, in the documents that were named, if any were."""
        search = RagRepository(session).search_both
        return await search(user_id, text, vector, K, document_ids=self.question.document_ids)

    async def _next(self) -> None:
        """Hear the next token, or how the answer ended."""
        assert self._pieces is not None
        piece = await anext(self._pieces, None)
        if isinstance(piece, str):
            self._said.append(piece)
        elif piece is not None:
            self._answer = piece

    @staticmethod
    async def _close(pieces: AsyncGenerator[str | Answer, None]) -> None:
        await pieces.aclose()

    async def _keep(self, said: Answer) -> Answered:
        self._kept = True
        return await uninterrupted(self._store(said))

    async def _store(self, said: Answer) -> Answered:
        asked, sessions = self._asked, self.service.sessions
        assert asked is not None
        held = asked.reservation

        async def turn(session: AsyncSession) -> Answered:
            answered = Answered.of(await store_turn(session, asked.turn(said), held))
            await self.once.keep(session, 201, answered.model_dump(mode="json"), {})
            return answered

        try:
            return await lasting(sessions, turn)
        except NotFound:  # the conversation was deleted meanwhile; the answer was paid for all the same
            if held is not None:
                await lasting(sessions, lambda session: settle(session, held, said.usage.total_tokens))
            await lasting(sessions, self.once.abandon)
            raise

    async def _undo(self) -> None:
        """There was no answer: nothing is charged, and the same key may be used again."""
        await give_back(self.service.sessions, self._asked.reservation if self._asked else None)
        await lasting(self.service.sessions, self.once.abandon)
