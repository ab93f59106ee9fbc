"""The embedding model that 3.10 gives its learners: it can fail, and it looks around while it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from secrets import choice, randbelow, token_hex
from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.models import DIMENSIONS

WORDS = ("index", "commit", "vector", "lease", "page", "lock", "row", "plan")
SEEN = """
    SELECT (SELECT count(*) FROM document_chunks WHERE document_id = :id) AS chunks,
           (SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%') AS transactions
"""


ROUNDS = 3  # of the event loop in a call: by then those that are sent together have all begun
LINGERING = 20  # rounds of the event loop that a call goes on for after another one has failed


class EmbeddingFailed(Exception):
    """The service did not answer. Of no class that anybody has heard of."""


class Embedder:
    """Gives each text a vector of its own; fails at the text ``fails_at``.

    Calls that are under way when one fails go on for a while, unless they are cancelled.

    Attributes:
        meanwhile: SQL that another session runs and commits in every call, with the document's id as ``id``.
        model: its name, another one each time.
        failed: whether it has raised.
        held: the greatest number of connections that were out of the pool while it was asked.
        transactions: the same for open transactions, of whatever engine.
        chunks: the numbers of the document's chunks that others saw meanwhile.
        left_at_work: how many calls saw a connection taken out of the pool after another one had failed.
    """

    def __init__(self, attempt: Attempt, document_id: UUID, *, looks: bool = True) -> None:
        self.model = f"embed-{token_hex(3)}"
        self.attempt = attempt
        self.document_id = document_id
        self.looks = looks
        self.fails_at = ""
        self.error: Exception = EmbeddingFailed()
        """What it raises there."""
        self.meanwhile = ""
        self._round = 0
        self._one_look = asyncio.Lock()  # another look's connection would be taken for the learner's
        self.vectors: dict[str, list[int]] = {}
        self.forget()

    def forget(self) -> None:
        """What was seen so far, and what calls that were left behind will still see."""
        self.failed = False
        self._round += 1
        self.held = self.transactions = self._asked = 0
        self.chunks: set[int] = set()
        self.left_at_work = 0
        self._taken = False
        self._failing: asyncio.Event | None = None

    def note_connection(self, *_: object) -> None:
        """To be told of every connection that is opened or taken out of the pool."""
        self._taken = self.failed

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        if isinstance(texts, str):
            raise TypeError("embed takes a list of texts")
        fails = self.fails_at in texts
        if fails:
            self._failing = asyncio.Event()
        try:
            await self._work(thoroughly=fails)
            if fails:
                self.failed = True
                raise self.error
        finally:
            if fails and self._failing is not None:
                self._failing.set()
        await self._linger()
        return [[float(number) for number in self.vector(text)] for text in texts]

    async def _work(self, thoroughly: bool) -> None:
        if self.looks and not self.failed:  # after a failure, calls that are left may meet whoever writes it down
            self._asked += 1  # looks cost more than answers; who asks for a text at a time is not looked at 500 times
            await self._look(thoroughly=thoroughly or self._asked & (self._asked - 1) == 0)
        if self.meanwhile:
            await self.attempt.sql(self.meanwhile, id=self.document_id)
        await asyncio.sleep(0)

    async def _linger(self) -> None:
        """Be at work until those that fail have done so, and a little longer."""
        round_ = self._round
        for _ in range(ROUNDS if self.fails_at else 0):
            await asyncio.sleep(0)
        if self._failing is None:
            return
        await self._failing.wait()
        for _ in range(LINGERING):
            await asyncio.sleep(0)
            if self._taken and round_ == self._round:
                self.left_at_work += 1
                return

    async def _look(self, thoroughly: bool) -> None:
        round_ = self._round
        self.held = max(self.held, self.attempt.engine.pool.checkedout())  # type: ignore[attr-defined]
        if thoroughly:
            async with self._one_look:
                chunks, transactions = (await self.attempt.sql(SEEN, id=self.document_id))[0]
            if not self.failed and round_ == self._round:
                self.chunks.add(chunks)
                self.transactions = max(self.transactions, transactions)

    def vector(self, text: str) -> list[int]:
        """Whole numbers, so that what is stored can be compared exactly."""
        if text not in self.vectors:
            self.vectors[text] = [randbelow(200) - 100 for _ in range(8)] + [0] * (DIMENSIONS - 8)
        return self.vectors[text]

    def rows(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The chunks that these texts are to become."""
        return [
            {"chunk_index": index, "content": text, "embedding": str(self.vector(text)).replace(" ", "")}
            | {"embedding_model": self.model, "token_count": len(text.split())}
            for index, text in enumerate(texts)
        ]


def new_texts(count: int) -> list[str]:
    """So many passages of different lengths, of which two are alike and some have quotes, tabs and the like."""
    texts = [f"{token_hex(4)} {' '.join(choice(WORDS) for _ in range(1 + randbelow(9)))}" for _ in range(count)]
    for place in range(2, count, 7):
        texts[place] = awkward_text()
    texts[count // 2] = texts[1]
    return texts
