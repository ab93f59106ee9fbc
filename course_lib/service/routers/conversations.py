"""Conversations and what was said in them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy import delete, select

from course_lib.models import Conversation, Message
from course_lib.repositories import NotFound, Place
from course_lib.service import problems
from course_lib.service.dependencies import JSON, Caller, Running, Work
from course_lib.service.documented import ONCE, errors
from course_lib.service.idempotency import OnceOnly
from course_lib.service.schemas import (
    LARGEST_INT,
    ConversationOut,
    Conversations,
    ConversationWithMessages,
    Cursor,
    Limit,
    MessageOut,
    NewConversation,
)  # fmt: skip
from course_lib.unit_of_work import UnitOfWork

router = APIRouter(prefix="/conversations", tags=["conversations"])
LISTING = "conversations"
Before = Annotated[int | None, Query(ge=1, le=LARGEST_INT, description="Only messages before this ``seq``.")]


@router.post("", status_code=201, dependencies=[JSON], responses=errors(*ONCE, body=True))
async def begin(
    new: NewConversation, caller: Caller, work: Work, once: OnceOnly, response: Response
) -> ConversationOut:
    """An empty conversation."""
    await once.claim(work.session, new.model_dump_json().encode())
    made = ConversationOut.model_validate(await work.conversations.create(caller.id, new.title))
    headers = {"Location": f"conversations/{made.id}"}
    response.headers.update(headers)
    await once.keep(work.session, 201, made.model_dump(mode="json"), headers)
    return made


@router.get("", responses=errors(problems.BAD_CURSOR))
async def conversations(
    caller: Caller, work: Work, service: Running, limit: Limit = 20, cursor: Cursor = None
) -> Conversations:
    """A page of the caller's conversations, the one that changed last on top."""
    after = None
    if cursor:
        moment, identity = service.cursors.open(caller.id, LISTING, cursor)
        after = Place(datetime.fromisoformat(moment), UUID(identity))
    found = await work.conversations.page_of(caller.id, after=after, limit=limit + 1)
    further = None
    if len(found) > limit:
        last = Place.of(found[limit - 1])
        further = service.cursors.seal(caller.id, LISTING, last.updated_at.isoformat(), str(last.id))
    return Conversations(items=[ConversationOut.model_validate(row) for row in found[:limit]], next=further)


@router.get("/{conversation_id}", responses=errors(problems.NOT_FOUND))
async def conversation(
    conversation_id: UUID, caller: Caller, work: Work, limit: Limit = 50, before: Before = None
) -> ConversationWithMessages:
    """One conversation with its latest messages, oldest of them first."""
    row = await _mine(work, caller.id, conversation_id)
    newest = select(Message).where(Message.conversation_id == conversation_id).order_by(Message.seq.desc()).limit(limit)
    if before is not None:
        newest = newest.where(Message.seq < before)
    messages = [_shown(message) for message in await work.session.scalars(newest)][::-1]
    return ConversationWithMessages(**ConversationOut.model_validate(row).model_dump(), messages=messages)


@router.delete("/{conversation_id}", status_code=204, responses=errors(problems.NOT_FOUND))
async def forget(conversation_id: UUID, caller: Caller, work: Work) -> None:
    """Delete a conversation with its messages."""
    mine = (Conversation.id == conversation_id, Conversation.user_id == caller.id)
    if await work.session.scalar(delete(Conversation).where(*mine).returning(Conversation.id)) is None:
        raise NotFound(Conversation, conversation_id)


async def _mine(work: UnitOfWork, user_id: UUID, conversation_id: UUID) -> Conversation:
    mine = select(Conversation).where(Conversation.id == conversation_id, Conversation.user_id == user_id)
    if (found := await work.session.scalar(mine)) is None:
        raise NotFound(Conversation, conversation_id)
    return found


def _shown(message: Message) -> MessageOut:
    fields = ("id", "seq", "role", "content", "status", "token_count", "created_at")
    shown = {name: getattr(message, name) for name in fields}
    return MessageOut(**shown, sources=message.meta.get("sources", []))
