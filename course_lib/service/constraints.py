"""Which problem a database's refusal is, by the name of the constraint. Never by the error's text."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from course_lib.service import problems
from course_lib.service.problems import Refused

BY_NAME: dict[str, tuple[problems.Kind, str]] = {
    "uq_users_email": (problems.EMAIL_TAKEN, "Sign in with one of its keys, or take another address."),
    "ck_users_email": (problems.INVALID, "email: this is no address."),
    "ck_users_tokens": (problems.QUOTA, "This would be more than token_limit."),
    "fk_documents_user_id": (problems.NO_KEY, "The account was deleted."),
    "fk_conversations_user_id": (problems.NO_KEY, "The account was deleted."),
    "fk_api_keys_user_id": (problems.NO_KEY, "The account was deleted."),
    "fk_idempotent_requests_user_id": (problems.NO_KEY, "The account was deleted."),
    "fk_messages_conversation_id": (problems.NOT_FOUND, "The conversation was deleted."),
    "fk_jobs_document_id": (problems.NOT_FOUND, "The document was deleted."),
    "fk_document_chunks_document_id": (problems.NOT_FOUND, "The document was deleted."),
}
"""Constraints that a request can run into, and what its sender is told."""

BY_STATE: dict[str, tuple[problems.Kind, int | None]] = {
    "22021": (problems.INVALID, None),  # bytes that are no text, such as NUL
    "22P05": (problems.INVALID, None),  # a character that JSON may escape and a text cannot hold
    "22003": (problems.INVALID, None),  # a number out of its column's range
    "40001": (problems.TRY_AGAIN, 1),  # serialization failure
    "40P01": (problems.TRY_AGAIN, 1),  # deadlock
    "55P03": (problems.TRY_AGAIN, 1),  # lock_timeout
    "57014": (problems.TRY_AGAIN, 1),  # statement_timeout
}


def refusal(error: DBAPIError) -> Refused | None:
    """What to tell the client; None for what is a mistake of ours, and a 500."""
    driver = error.driver_exception
    name = getattr(driver, "constraint_name", None)
    if name in BY_NAME:
        return Refused(*BY_NAME[name])
    state = getattr(driver, "sqlstate", None)
    if state in BY_STATE:
        kind, seconds = BY_STATE[state]
        return Refused(kind, retry_after=seconds)
    return None
