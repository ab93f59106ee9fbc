"""Fill a migrated database with the corpus and with a product's worth of use. The same rows every time.

Eight users, forty documents with their embedded chunks, two hundred conversations, a finished job per document.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import URL, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from course_lib.data.corpus import FOLDER, CorpusDocument, CorpusUser, documents, golden_questions, users
from course_lib.db import make_engine, migrate
from course_lib.llm.names import embedding_model, embedding_space
from course_lib.models import ApiKey, Base, Conversation, Document, DocumentChunk, Job, Message, User
from course_lib.models.documents import content_hash
from course_lib.settings import REPOSITORY

OPENING_DAY = datetime(2026, 1, 5, 8, tzinfo=UTC)
CONVERSATIONS = {"ada": 6, "bruno": 30, "chidi": 50, "dagny": 10, "emeka": 40, "farah": 24, "goran": 25, "hana": 15}

Row = dict[str, Any]


def fingerprint() -> str:
    """A hash of all that the seeded database depends on: migrations, models, corpus, this file, whose vectors."""
    digest = sha256(embedding_space().encode())
    folders = [REPOSITORY / "alembic", REPOSITORY / "course_lib" / "models"]
    files = [*(file for folder in folders for file in folder.rglob("*.py")), *FOLDER.rglob("*.*"), Path(__file__)]
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


async def build_base(url: URL) -> None:
    """Migrate and seed the database at ``url``: the recipe that lessons start from."""
    await migrate(url)
    engine = make_engine(url)
    async with engine.begin() as connection:
        await seed(connection)
    await engine.dispose()


async def seed(connection: AsyncConnection) -> None:
    """Insert the rows into a migrated, empty database.

    Raises:
        CourseError: the configured server did not embed the texts.
    """
    rows = Rows()
    for user in users():
        rows.add_user(user)
    for document in documents():
        rows.add_document(document)
    chunks = rows.of[DocumentChunk]
    from course_lib.llm import embed_texts, openai_client  # brings the SDK, which opening a lesson need not wait for
    from course_lib.llm.compatible import explained

    client = openai_client()
    with explained(client):
        vectors = await embed_texts([chunk["content"] for chunk in chunks], client=client)
    for chunk, vector in zip(chunks, vectors, strict=True):
        chunk["embedding"] = vector
    rows.add_conversations()
    rows.settle_accounts()
    for table in (User, ApiKey, Document, DocumentChunk, Conversation, Message, Job):
        await connection.execute(insert(table), rows.of[table])


def count_tokens(text: str) -> int:
    """Length of ``text`` in tokens of the offline model, whichever model embeds it: the same in every run."""
    from course_lib.llm.offline.embedding_model import load_model

    return load_model().count_tokens(text)


def stable_id(name: str, at: datetime) -> UUID:
    """A version 7 UUID like the server's, but the same in every run: the time, then bits from a hash of ``name``."""
    milliseconds = int(at.timestamp() * 1000)
    bits = int.from_bytes(sha256(name.encode()).digest()[:10])
    value = milliseconds << 80 | bits
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return UUID(int=value)


@dataclass
class Rows:
    """The rows of each table, in the making."""

    of: dict[type[Base], list[Row]] = field(
        default_factory=lambda: {t: [] for t in (User, ApiKey, Document, DocumentChunk, Conversation, Message, Job)}
    )
    ids: dict[str, UUID] = field(default_factory=dict)

    def add_user(self, user: CorpusUser) -> None:
        at = OPENING_DAY + timedelta(hours=len(self.of[User]))
        self.ids[user.slug] = stable_id(user.slug, at)
        self.of[User].append(
            {"id": self.ids[user.slug], "email": user.email, "name": user.name, "tier": user.tier}
            | {"token_limit": user.token_limit, "tokens_used": 0, "created_at": at, "updated_at": at}
        )
        key = user.demonstration_key
        self.of[ApiKey].append(
            {"id": stable_id(key, at), "user_id": self.ids[user.slug], "label": "first key", "created_at": at}
            | {"prefix": key[:8], "key_hash": sha256(key.encode()).digest()}
        )

    def add_document(self, document: CorpusDocument) -> None:
        at = OPENING_DAY + timedelta(days=1, minutes=7 * len(self.of[Document]))
        identity = stable_id(document.source, at)
        self.ids[document.source] = identity
        times = {"created_at": at, "updated_at": at + timedelta(seconds=20)}
        self.of[Document].append(
            {"id": identity, "user_id": self.ids[document.user], "source": document.source, "title": document.title}
            | {"status": "ready", "content_hash": content_hash(document.chunks), **times}
            | {"meta": {"words": sum(len(chunk.split()) for chunk in document.chunks)}}
        )
        self.of[DocumentChunk] += [
            {"id": stable_id(f"{document.source}#{index}", at), "document_id": identity, "chunk_index": index}
            | {
                "content": content,
                "token_count": count_tokens(content),
                "embedding_model": embedding_model(),
            }
            for index, content in enumerate(document.chunks)
        ]
        self.of[Job].append(
            {"id": stable_id(f"embed {document.source}", at), "kind": "embed_document", "document_id": identity}
            | {"status": "done", "attempts": 1, "run_after": at, **times}
        )

    def add_conversations(self) -> None:
        """Everybody's questions, asked again and again over the weeks, by different people at the desk."""
        order = [slug for slug, count in CONVERSATIONS.items() for _ in range(count)]
        chance = random.Random(2026)
        chance.shuffle(order)
        for number, slug in enumerate(order):
            at = OPENING_DAY + timedelta(days=2, hours=5 * number, minutes=chance.randrange(240))
            identity = stable_id(f"conversation {number}", at)
            messages = list(_messages(slug, identity, at, chance))
            self.of[Message] += messages
            self.of[Conversation].append(
                {"id": identity, "user_id": self.ids[slug], "title": messages[0]["content"]}
                | {"created_at": at, "updated_at": messages[-1]["created_at"]}
            )

    def settle_accounts(self) -> None:
        """A user has used the tokens of the messages in the user's conversations."""
        owner = {row["id"]: row["user_id"] for row in self.of[Conversation]}
        accounts = {row["id"]: row for row in self.of[User]}
        for message in self.of[Message]:
            accounts[owner[message["conversation_id"]]]["tokens_used"] += message["token_count"]


def _messages(slug: str, conversation: UUID, at: datetime, chance: random.Random) -> Iterator[Row]:
    """One to five of the user's golden questions, each with its answer and the sources of the answer."""
    titles = {document.source: document.title for document in documents()}
    asked = chance.sample([q for q in golden_questions() if q.user == slug], k=chance.randint(1, 5))
    for turn, question in enumerate(asked):
        cited = {"sources": [titles[source] for source in question.documents], "question": question.id}
        for offset, role, content in ((0, "user", question.text), (1, "assistant", question.answer)):
            moment = at + timedelta(seconds=90 * turn + 4 * offset)
            seq = 2 * turn + offset + 1
            yield {"id": stable_id(f"{conversation} {seq}", moment), "conversation_id": conversation, "seq": seq} | {
                "role": role,
                "content": content,
                "token_count": count_tokens(content),
                "meta": cited if role == "assistant" else {},
                "created_at": moment,
            }
