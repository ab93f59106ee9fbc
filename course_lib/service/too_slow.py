"""A body that does not come in time is waited for no longer. Nothing else would end it, and sockets are counted."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.service.problems import TOO_SLOW


class TooSlowIsAProblem:
    """Around the whole app: a request's body has ``seconds`` from its first header to its last byte.

    A body is read before the key is looked at, so anybody may send one, a byte at a time; the problem document is the
    last thing they hear. Headers that come slowly cost a socket and no more, and are a matter for what stands in front.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline, whole = asyncio.get_running_loop().time() + self._seconds, False

        async def received() -> Message:
            nonlocal whole
            if whole:  # what comes now is that the client has left, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(TOO_SLOW.status, headers={"Connection": "close"}) from None
            whole = not message.get("more_body", False)
            return message

        await self.app(scope, received if scope["type"] == "http" else receive, send)
