"""The page of ``course serve``: HTML, CSS and JavaScript as they are in this folder, and nothing from elsewhere.

All addresses in it are relative, so that it works below whatever path a proxy shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

FOLDER = Path(__file__).parent
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
ONLY_OURS = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": ONLY_OURS,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Person:
    """A user whom the page may be: their key, a sentence about them, and a question that their documents answer."""

    name: str
    about: str
    key: str
    example: str


def add_page(app: FastAPI, people: Sequence[Person]) -> None:
    """Serve the page at the root of ``app``. Whoever gets it gets the keys: only for what a gate stands before."""
    add_files(app, FOLDER)

    async def everybody() -> Response:
        return JSONResponse([asdict(person) for person in people], headers=HEADERS)

    app.add_api_route("/people.json", everybody, include_in_schema=False)


def add_files(app: FastAPI, folder: Path) -> None:
    """Serve a folder's HTML at the root of ``app``, with the style and the scripts beside it, and nothing else."""
    for file in folder.iterdir():
        if kind := KINDS.get(file.suffix):
            path = "/" if kind == "text/html" else f"/{file.name}"
            app.add_api_route(path, _file(file, kind), include_in_schema=False)


def _file(file: Path, kind: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    content = file.read_bytes()

    async def page() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return page
