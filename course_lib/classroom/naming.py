"""What a class and what is in it are called on its server.

A class has a slug. Its database and the role that all its learners are members of are ``course_class_<slug>``; a
learner's role and home database are ``<slug>_<login>``, and the databases of a pool ``<slug>_<login>_1`` and so on.
A login never ends in ``_1``, so no learner's home is in another's pool.
"""

from __future__ import annotations

import re

from course_lib.errors import CourseError

SLUG = re.compile(r"[a-z][a-z0-9_]{0,23}\Z")
LOGIN = re.compile(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*\Z")
LONGEST_LOGIN = 30  # letters; with the longest slug and a pool's number PostgreSQL's 63 are not reached
TAKEN = re.compile(r"(pg|course|lesson|postgres)(_|\Z)")
"""Beginnings of names that PostgreSQL keeps for itself, or that the course's other databases have."""
DEFAULT = "class"
POOL = 4  # databases of a learner who may make none: the lesson, the check's and the next check's, and one to spare


def check_slug(slug: str) -> str:
    """``slug``, when a class can be called so.

    Raises:
        CourseError: it cannot.
    """
    if not SLUG.match(slug):
        raise CourseError(
            "The short name of a class has small letters, digits and _, begins with a letter, and has at most 24.",
            "For example: --name spring27",
        )
    if TAKEN.match(slug):
        raise CourseError(f"A class cannot be called {slug}: other names begin so.", "For example: --name spring27")
    return slug


def spoken_class(slug: str, article: str = "the") -> str:
    """``the class spring27``; one that nobody has given a short name is just ``the class``."""
    return f"{article} class" if slug == DEFAULT else f"{article} class {slug}"


def role_name(slug: str, login: str) -> str:
    """Of a learner's role and home database."""
    return f"{slug}_{login}"


def keeper_name(slug: str) -> str:
    """Of the role without a login that owns what is left of learners who are gone."""
    return f"course_kept_{slug}"


def pool_names(role: str) -> list[str]:
    """Of the databases made ahead for a learner whose role may make none."""
    return [f"{role}_{number}" for number in range(1, POOL + 1)]
