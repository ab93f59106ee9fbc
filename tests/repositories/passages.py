"""Passages and messages for tests that have no database."""

from __future__ import annotations

from uuid import uuid4

from course_lib.models import Message
from course_lib.repositories.rag import Passage


def passage(content: str, distance: float = 0.5, title: str = "Rules", index: int = 0) -> Passage:
    return Passage(uuid4(), uuid4(), title.lower(), title, index, content, distance)


def said(role: str, content: str, status: str = "complete") -> Message:
    return Message(role=role, content=content, status=status)
