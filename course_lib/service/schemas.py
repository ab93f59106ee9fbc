"""What goes in and what comes out. Never a model: a column that is added to a table must not appear in a response."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from course_lib.repositories.rag import StoredTurn

MOST_ON_A_PAGE = 100
LARGEST_INT = 2**31 - 1  # PostgreSQL's int


def storable(text: str) -> str:
    """Refuse what PostgreSQL's ``text`` cannot hold, before it is asked: NUL, and half a surrogate pair."""
    if "\0" in text:
        raise ValueError("a NUL cannot be stored in a text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is no character") from None
    return text


def _line(text: str) -> str:
    if any(sign in text for sign in "\r\n"):
        raise ValueError("this is one line")
    return text


Text = Annotated[str, AfterValidator(storable)]
Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_line),
    AfterValidator(storable),
]  # fmt: skip
Address = Annotated[Line, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")]
Question = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000), AfterValidator(storable)
]
Limit = Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE, description="So many at most.")]
Cursor = Annotated[str | None, Query(max_length=500, description="``next`` of the page before.")]


class In(BaseModel):
    """A body. What it does not know it refuses: a misspelt field is told, and not dropped."""

    model_config = ConfigDict(extra="forbid")


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class NewAccount(In):
    email: Address = Field(examples=["pia@example.org"])
    name: Line = Field(examples=["Pia Holm"])


class Account(Out):
    id: UUID
    email: str
    name: str
    tier: str
    token_limit: int
    tokens_used: int
    created_at: datetime


class NewKey(In):
    label: Line = Field(examples=["laptop"])


class Key(Out):
    """A key without its secret, of which only a hash is kept."""

    id: UUID
    label: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeyWithSecret(Key):
    secret: str = Field(description="Shown this once.")


class SignedUp(Out):
    account: Account
    key: KeyWithSecret


class NewDocument(In):
    title: Line = Field(examples=["Opening hours"])
    text: Text = Field(min_length=1, examples=["# Opening hours\n\nThe bakery opens at six."])
    source: Line | None = Field(
        default=None, description="Where it comes from; the document from the same source is replaced. Else its title."
    )


class DocumentOut(Out):
    id: UUID
    source: str
    title: str
    status: Literal["uploaded", "processing", "ready", "failed"]
    error: str | None
    created_at: datetime
    updated_at: datetime


class JobOut(Out):
    id: UUID
    kind: str
    document_id: UUID | None
    status: Literal["queued", "running", "done", "failed"]
    attempts: int
    max_attempts: int
    error: str | None
    created_at: datetime
    updated_at: datetime


class Uploaded(Out):
    """Accepted, and not yet searchable: the job says when."""

    document: DocumentOut
    job: JobOut


class PassageOut(Out):
    """A passage of one of the caller's documents."""

    document_id: UUID
    title: str
    chunk_index: int
    content: str


class NewConversation(In):
    title: Line = Field(examples=["Ovens"])


class ConversationOut(Out):
    id: UUID
    title: str
    created_at: datetime
    updated_at: datetime


class MessageOut(Out):
    id: UUID
    seq: int
    role: str
    content: str
    status: str
    token_count: int
    sources: list[Any] = []
    created_at: datetime


class ConversationWithMessages(ConversationOut):
    messages: list[MessageOut]


class NewQuestion(In):
    question: Question = Field(examples=["When does the bakery open?"])
    conversation_id: UUID | None = Field(default=None, description="Left out: a new conversation.")
    document_ids: Annotated[list[UUID], Field(max_length=100)] | None = Field(
        default=None, description="Only these documents."
    )


class Source(Out):
    """A passage that an answer rests on: its number in the text, and the words that were quoted from it."""

    number: int
    document_id: UUID
    title: str
    chunk_index: int
    quotation: str | None = None


class Answered(Out):
    """A stored turn. ``aborted`` is an answer that is not whole."""

    conversation_id: UUID
    message_id: UUID
    text: str
    status: str
    sources: list[Source]
    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, turn: StoredTurn) -> Self:
        answer = turn.answer
        return cls(
            conversation_id=answer.conversation_id, message_id=answer.id, text=answer.content, status=answer.status,
            sources=answer.meta["sources"],
            prompt_tokens=turn.question.token_count, completion_tokens=answer.token_count,
        )  # fmt: skip


class Documents(Out):
    items: list[DocumentOut]
    next: str | None = None


class Conversations(Out):
    items: list[ConversationOut]
    next: str | None = None


class Keys(Out):
    items: list[Key]
