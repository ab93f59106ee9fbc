"""A body that is too large is refused by the framework, in plain text. Clients get a problem document instead."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.service.problems import TOO_LARGE, Refused


class TooLargeIsAProblem:
    """Around the whole app: in place of a 413 that is no problem document, one that is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def sent(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == TOO_LARGE.status:
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if replaced := kind.startswith("text/plain"):
                    await Refused(TOO_LARGE).response()(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, sent)
