"""One question on its way: short transactions around a model that takes its time, and an end that is always kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

import openai
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib import llm
from course_lib.models import Conversation, Message, User
from course_lib.postgres.losing import server_went_away
from course_lib.repositories import ConversationRepository, NotFound, RagRepository
from course_lib.repositories.rag import Passage, embed_question
from course_lib.service import problems
from course_lib.service.idempotency import Once
from course_lib.service.problems import Refused
from course_lib.service.running import Service
from course_lib.service.schemas import Answered, NewQuestion, Source, Usage

PASSAGES, HISTORY = 6, 10
PAUSES = (0.1, 0.5, 1, 2, 4, 8)  # seconds between tries to store, while a database restarts
Status = Literal["complete", "aborted"]


class Answering:
    """A question of one user: ``begin``, then ``rest``, then ``end``; leaving the block keeps what was said.

    No connection is held while a model works. What fails before the first token leaves nothing behind; from then on
    the turn is stored however it ends, once.
    """

    def __init__(self, service: Service, user_id: UUID, asked: NewQuestion, once: Once) -> None:
        self.service, self.user_id, self.asked, self.once = service, user_id, asked, once
        self.passages: list[Passage] = []
        self.said: list[str] = []
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        self.turn: UUID
        self._stream: AsyncStream[ChatCompletionChunk] | None = None
        self._claimed = False
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def begin(self) -> None:
        """Up to the first token: whatever is refused until here can still be a status code.

        Raises:
            Refused, NotFound: no such conversation of the user's, no tokens left, or this process is stopping.
            Replay: it was answered before.
            openai.OpenAIError: the model did not answer.
        """
        if self.service.stopping.is_set():
            raise Refused(problems.STOPPING, retry_after=1)
        async with self.service.sessions.begin() as session:
            await self.once.claim(session, self.asked.model_dump_json().encode())
            history = await self._history(session)
            await self._check_quota(session)
            self.turn = (await session.scalars(select(func.uuidv7()))).one()
        self._claimed = True
        question = await embed_question(self.asked.question, self.service.client)
        async with self.service.sessions() as session:
            search = RagRepository(session).search
            ids = self.asked.document_ids
            self.passages = await search(self.user_id, question, PASSAGES, document_ids=ids)
        self._stream = await self.service.client.chat.completions.create(
            model=llm.CHAT_MODEL,
            messages=prompt(self.asked.question, self.passages, history),
            stream=True,
            stream_options={"include_usage": True},
        )
        await self._next()

    async def rest(self) -> AsyncIterator[str]:
        """The tokens, the first one too."""
        told = 0
        more = True
        while more or told < len(self.said):
            if told < len(self.said):
                yield self.said[told]
                told += 1
            else:
                more = await self._next()

    async def end(self, status: Status = "complete") -> Answered:
        """Store the turn in one transaction. It goes on when whoever waits for it is cancelled."""
        self._ended = True
        return await self.service.finishing.run(self._keep(status))

    async def leave(self) -> None:
        """Unless it has ended: stop the model, and store what was said as aborted. Nothing, if nothing was."""
        if self._claimed and not self._ended:
            self._ended = True
            await self.service.finishing.run(self._leave())

    async def _next(self) -> bool:
        """Append the next token to what was said; False when there is none."""
        assert self._stream is not None
        async for chunk in self._stream:
            if chunk.usage is not None:
                used = chunk.usage
                self.usage = Usage(prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens)
            if chunk.choices and (piece := chunk.choices[0].delta.content):
                self.said.append(piece)
                return True
        return False

    async def _history(self, session: AsyncSession) -> list[ChatCompletionMessageParam]:
        identity = self.asked.conversation_id
        if identity is None:
            return []
        mine = select(Conversation.id).where(Conversation.id == identity, Conversation.user_id == self.user_id)
        if await session.scalar(mine) is None:
            raise NotFound(Conversation, identity)
        latest = await ConversationRepository(session).latest_messages(identity, HISTORY)
        said: list[Any] = [{"role": message.role, "content": message.content} for message in latest]
        return said

    async def _check_quota(self, session: AsyncSession) -> None:
        left = await session.scalar(select(User.token_limit - User.tokens_used).where(User.id == self.user_id))
        if left is None:
            raise Refused(problems.NO_KEY, "The account was deleted.")
        if left <= 0:
            raise Refused(problems.QUOTA, retry_after=3600)

    async def _leave(self) -> None:
        if self._stream is not None:
            with suppress(openai.OpenAIError, OSError):
                await self._stream.close()  # or the model goes on writing, and is paid for it
        if self.said:
            await self._keep("aborted")
        else:
            async with self.service.sessions.begin() as session:
                await self.once.abandon(session)

    async def _keep(self, status: Status) -> Answered:
        for pause in (*PAUSES, None):
            try:
                async with self.service.sessions.begin() as session:
                    return await self._store(session, status)
            except Exception as error:
                if pause is None or not server_went_away(error):
                    raise
                await asyncio.sleep(pause)
        raise AssertionError

    async def _store(self, session: AsyncSession, status: Status) -> Answered:
        conversations, place = ConversationRepository(session), self.asked.conversation_id or self.turn
        earlier = select(Message).where(Message.conversation_id == place, Message.meta["turn"].astext == str(self.turn))
        if (message := await session.scalar(earlier)) is None:
            if self.asked.conversation_id is None:
                await conversations.add(Conversation(id=place, user_id=self.user_id, title=self.asked.question[:80]))
            await conversations.add_message(place, "user", self.asked.question, token_count=self.usage.prompt_tokens)
            sources = [source.model_dump(mode="json") for source in self._sources()]
            message = await conversations.add_message(
                place, "assistant", "".join(self.said),
                token_count=self.usage.completion_tokens or len(self.said),
                meta={"turn": str(self.turn), "sources": sources},
            )  # fmt: skip
            message.status = status
            used = self.usage.prompt_tokens + message.token_count
            spent = func.least(User.token_limit, User.tokens_used + used)
            await session.execute(update(User).where(User.id == self.user_id).values(tokens_used=spent))
        answered = Answered(
            conversation_id=place, message_id=message.id, text=message.content, status=status,
            sources=self._sources(), usage=self.usage,
        )  # fmt: skip
        await self.once.keep(session, 201, answered.model_dump(mode="json"), {})
        return answered

    def _sources(self) -> list[Source]:
        cited = {int(number) for number in re.findall(r"\[(\d+)\]", "".join(self.said))}
        given = [passage for number, passage in enumerate(self.passages, 1) if number in cited]
        return [Source(document_id=p.document_id, title=p.title, chunk_index=p.chunk_index) for p in given]


def prompt(
    question: str, passages: Sequence[Passage], history: Sequence[ChatCompletionMessageParam]
) -> list[ChatCompletionMessageParam]:
    numbered = "\n\n".join(f"[{number}] {passage.content}" for number, passage in enumerate(passages, 1))
    return [
        {"role": "system", "content": "Answer from the passages only, and cite them by number."},
        *history,
        {"role": "user", "content": f"{numbered}\n\nQuestion: {question}"},
    ]
