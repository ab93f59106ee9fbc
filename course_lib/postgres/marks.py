"""Who made a database: written into its comment, and believed no further than its types and lengths.

Everybody on a server can read the comments of all databases, and write those of their own. So a mark says what its
database is for and which process made it, never that it may be dropped: that takes the course's shape of name and the
same owner as well (``databases``).
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from functools import cache
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from course_lib.postgres.lives import ended, own_life

COURSE: Final = "databases-for-ai-engineers"
LONGEST = 1_000  # characters of a comment that can be a mark

Word = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}\Z")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{0,32}\Z")]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", regex_engine="python-re"))
class Mark:
    """What a database of the course is, and who made it.

    Attributes:
        kind: ``lesson``, ``template``, ``build`` (a template in the making), ``kept`` (renamed by the learner), or
            ``pool`` (made ahead for a role that may make none, see ``database_pool``).
        subject: the lesson's number, the recipe, or the class.
        host, pid, life: the process, see ``lives``; the host is for people to read.
        state: of a template, what it was built from.
        contents: of a template, what it holds, see ``contents.digest``.
        lesson: of a pool's, the lesson that it was taken for.
        claimed: of a pool's, when that process took it, in milliseconds since 1970; 0 while nobody uses it.
    """

    kind: Word
    subject: Word
    host: Annotated[str, Field(max_length=255)]
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    life: Annotated[str, Field(pattern=r"^[0-9a-f]{8}\Z")]
    state: Hex = ""
    contents: Hex = ""
    lesson: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,24}\Z")] = ""
    claimed: Annotated[int, Field(ge=0, lt=2**50)] = 0
    course: Literal["databases-for-ai-engineers"] = COURSE

    @classmethod
    def of_this_process(cls, kind: str, subject: str, state: str = "", contents: str = "") -> Mark:
        return cls(kind, subject, _host(), os.getpid(), own_life(), state, contents)

    @classmethod
    def parse(cls, comment: str | None) -> Mark | None:
        """The mark in a database's comment, or None when there is none."""
        if comment is None or len(comment) > LONGEST:
            return None
        try:
            return _adapter().validate_json(comment)
        except ValidationError:
            return None

    def __str__(self) -> str:
        """As it stands in the comment."""
        return json.dumps({name: value for name, value in asdict(self).items() if value})

    @property
    def in_use_for(self) -> str:
        """The lesson whose database it is now; "" for others."""
        return self.subject if self.kind == "lesson" else self.lesson if self.claimed else ""

    def maker_ended(self) -> bool | None:
        """Whether the process that made the database has ended; None when this course folder never knew it."""
        return ended(self.pid, self.life)


@cache
def _adapter() -> TypeAdapter[Mark]:
    return TypeAdapter(Mark)


def _host() -> str:
    return socket.gethostname()[:255]
