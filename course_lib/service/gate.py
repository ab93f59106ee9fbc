"""Who may use a service that listens on a port which every user of the machine can reach: who has the address."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from course_lib.service.problems import Kind, Refused

NOT_LET_IN = Kind("not-let-in", 401, "Open the address that was printed where the service was started")
TOKEN = "token"


class Gate:
    """Around an app: lets in whoever shows the token, once, and from then on the cookie that was given for it.

    A token in an address is seen: in a browser's history, over a shoulder. So it is good for one time, and the next
    one is handed to ``announce``. The cookie names the port, since cookies do not tell ports apart, and no path: a
    browser takes the folder it was given in, which behind a proxy is the proxy's for this app and nobody else's.
    """

    def __init__(self, app: ASGIApp, port: int, announce: Callable[[str], None]) -> None:
        self.app, self._announce = app, announce
        self._cookie, self._session = f"course-serve-{port}", secrets.token_urlsafe(32)
        self.token = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_known(scope):
            await self.app(scope, receive, send)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = next((value for name, value in query if name == TOKEN), "")
        if scope["method"] == "GET" and _same(shown, self.token):
            await self._let_in(scope, [pair for pair in query if pair[0] != TOKEN])(scope, receive, send)
        else:
            await Refused(NOT_LET_IN).response()(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and _same(cookies[self._cookie].value, self._session)

    def _let_in(self, scope: Scope, query: list[tuple[str, str]]) -> Response:
        self.token = secrets.token_urlsafe(32)
        self._announce(self.token)
        here = scope["path"].rpartition("/")[2] or "./"
        headers = {
            "Location": here + (f"?{urlencode(query)}" if query else ""),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "Set-Cookie": f"{self._cookie}={self._session}; HttpOnly; SameSite=Lax",
        }
        return Response(status_code=303, headers=headers)


def _same(shown: str, wanted: str) -> bool:
    """In constant time, which ``==`` is not."""
    return hmac.compare_digest(shown.encode(), wanted.encode())
