"""Cursors: where a page ended, signed, so that a client can only give back what it was given."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from course_lib.service import problems
from course_lib.service.problems import Refused

SIGNATURE = 16  # bytes: nobody finds one by trying


class Cursors:
    """Seals places and opens them again.

    Args:
        secret: the same in all processes that serve the same clients.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, owner: UUID, listing: str, *place: str) -> str:
        """A cursor that is good for this owner and this listing only."""
        payload = json.dumps(place).encode()
        return urlsafe_b64encode(self._sign(owner, listing, payload) + payload).decode().rstrip("=")

    def open(self, owner: UUID, listing: str, cursor: str) -> list[str]:
        """The place.

        Raises:
            Refused: it was not sealed here for this owner and listing.
        """
        try:
            sealed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError:
            raise Refused(problems.BAD_CURSOR) from None
        signature, payload = sealed[:SIGNATURE], sealed[SIGNATURE:]
        if not hmac.compare_digest(signature, self._sign(owner, listing, payload)):
            raise Refused(problems.BAD_CURSOR, "Begin with the first page, without a cursor.")
        place: list[str] = json.loads(payload)
        return place

    def _sign(self, owner: UUID, listing: str, payload: bytes) -> bytes:
        message = owner.bytes + listing.encode() + b"\0" + payload
        return hmac.digest(self._secret, message, "sha256")[:SIGNATURE]
