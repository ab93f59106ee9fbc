"""The board as a page: what it is made of, and in a real browser, below a proxy's path and behind the gate."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import pytest

from course_lib.classroom.board import name_learners
from course_lib.classroom.board.page import FOLDER, create_board_app
from course_lib.classroom.board.page.told import told
from course_lib.classroom.board.watching import Sight, watch
from course_lib.service.gate import Gate
from course_lib.service.serving import DrainingServer
from tests.browser import browser, complaints_of, contrast, needs_chromium, tab_to, until
from tests.classroom.board.classes import Class, SitDown, tell, verdict
from tests.classroom.board.test_commands import full
from tests.service.test_page import PREFIX, Elements, Proxied, colours

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PAGE = (FOLDER / "index.html").read_text(encoding="utf-8")
STYLE = (FOLDER / "board.css").read_text(encoding="utf-8")
SCRIPT = (FOLDER / "board.js").read_text(encoding="utf-8")
ELEMENTS = Elements(PAGE).found
IDS = {attributes["id"] for _, attributes in ELEMENTS if "id" in attributes}
HOSTILE = "<img src=x onerror='document.title=1'>"

# -- what it is made of ------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere_and_every_address_is_relative() -> None:
    targets = [at[name] for _, at in ELEMENTS for name in ("src", "href") if name in at]
    assert {str(target) for target in targets} == {"data:,", "board.css", "board.js"}
    assert "http" not in SCRIPT and "import " not in SCRIPT and 'new EventSource("events")' in SCRIPT
    assert "url(" not in STYLE and "@import" not in STYLE


def test_no_name_is_ever_read_as_markup() -> None:
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert way not in SCRIPT
    assert "<style" not in PAGE and not re.search(r"<script(?![^>]*\ssrc=)", PAGE)
    assert not [at for _, at in ELEMENTS if "style" in at or any(name.startswith("on") for name in at)]


def test_what_the_script_asks_for_is_in_the_page_and_in_order() -> None:
    assert set(re.findall(r'\$\("([\w-]+)"\)', SCRIPT)) <= IDS
    assert all(at["aria-labelledby"] in IDS for tag, at in ELEMENTS if tag == "section")
    levels = [int(tag[1]) for tag, _ in ELEMENTS if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(lower - upper <= 1 for upper, lower in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_told_from_its_ground(scheme: str) -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    of = colours(light if scheme == "light" else dark.partition("\n}\n")[0])
    for ground in ("ground", "panel", "right", "tried"):
        assert contrast(of["ink"], of[ground]) >= 7, ground
    for ground in ("ground", "panel"):
        for text in ("quiet", "wrong"):
            assert contrast(of[text], of[ground]) >= 4.5, (text, ground)
    assert contrast(of["on-stuck"], of["stuck"]) >= 7
    assert contrast(of["stuck"], of["panel"]) >= 3, "who is stuck stands out"


def test_what_the_page_is_told_has_no_role_no_code_and_no_foreign_mistake() -> None:
    board = full(4)
    odd = {key: replace(one, mistake=HOSTILE) for key, one in board.standings.items()}
    said = str(told(Sight(replace(board, standings=odd))))
    assert "friday_" not in said and HOSTILE not in said and "another mistake" in said


# -- served ------------------------------------------------------------------------------------------------


@dataclass
class Showing:
    """A board's page that is served."""

    gate: Gate
    proxied: Proxied
    port: int

    @property
    def address(self) -> str:
        """As it is printed, good for one time."""
        return f"http://127.0.0.1:{self.port}{PREFIX}/?token={self.gate.token}"


@pytest.fixture
def showing(friday: Class, sit_down: SitDown) -> Iterator[Showing]:
    """The page of the class, as ``course classroom board --page --root-path …`` serves it, behind such a proxy."""
    sit_down("teacher")
    with served_board("friday") as shown:
        yield shown


@contextmanager
def served_board(name: str) -> Iterator[Showing]:
    async def look() -> Sight:
        sights = watch(name, ["03"])
        try:
            return await anext(sights)
        finally:
            await sights.aclose()

    app = create_board_app(asyncio.run(look()), ["03"], lambda: server.should_exit)
    app.root_path = PREFIX
    gate = Gate(app, 0, lambda token: None)
    proxied = Proxied(gate)
    server = DrainingServer(app, around=proxied, port=0, root_path=PREFIX, timeout_graceful_shutdown=5)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    assert server.started
    try:
        yield Showing(gate, proxied, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.handle_exit(15, None)
        thread.join(4)
        assert not thread.is_alive(), "it stops at once, though browsers look at it"


async def test_it_is_for_who_has_the_address(showing: Showing) -> None:
    place = showing.address.partition("?")[0]
    async with httpx2.AsyncClient(trust_env=False) as client:
        for path in ("", "events", "board.js", "openapi.json", "?token=guessed"):
            assert (await client.get(place + path)).status_code == 401
        assert (await client.get(showing.address)).status_code == 303
        page = await client.get(place)
        assert page.status_code == 200 and "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        assert (await client.get(f"{place}openapi.json")).status_code == 404
        async with client.stream("GET", f"{place}events", headers={"Accept": "text/event-stream"}) as stream:
            line = await anext(stream.aiter_lines())
    assert line.startswith('data: {"class_name"') and "friday_" not in line
    assert f"{PREFIX}/events" not in showing.proxied.kept_back, "or nobody would see it change"


@needs_chromium
def test_the_class_is_seen_at_work(friday: Class, showing: Showing) -> None:
    aside(named(friday, HOSTILE))
    with browser(1280, 800) as page:
        complaints = complaints_of(page)
        page.goto(showing.address)
        until(page, "document.querySelectorAll('#learners tr').length === 3")
        until(page, f"document.querySelector('#learners').innerText.includes({HOSTILE[:15]!r})")
        look_at_a_try(friday, page)
        hide_the_names(page)
        lose_and_find_the_server(friday, page)
        for width, height in ((1280, 800), (1920, 1080), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
        assert page.evaluate("document.images.length") == 0 and page.evaluate("document.title") == "Board of friday"
        assert complaints == []


def aside(work: Coroutine[Any, Any, None]) -> None:
    """Playwright keeps an event loop in this thread."""
    with ThreadPoolExecutor() as threads:
        threads.submit(asyncio.run, work).result()


async def named(friday: Class, name: str) -> None:
    teacher = await friday.enter_as_teacher()
    await name_learners(teacher, {"friday_mallory": name})
    await teacher.close()


async def told_by(friday: Class, learner: str, *verdicts: Any) -> None:
    connection = await friday.enter(learner)
    await tell(connection, verdicts)
    await connection.close()


def look_at_a_try(friday: Class, page: Page) -> None:
    aside(told_by(friday, "ada", verdict("3.1", "right"), *(verdict("3.2") for _ in range(3))))
    until(page, "document.querySelector('#learners td.tried')")
    assert page.evaluate("document.querySelector('td.tried').innerText.trim()").startswith("3")
    assert page.evaluate("document.querySelector('td.tried').title") == "Ada Lovelace, 3.2: tried, 3 tries"
    aside(told_by(friday, "ada", verdict("3.2")))
    aside(told_by(friday, "bruno", verdict("3.2")))
    until(page, "document.querySelector('#stuck').innerText.includes('Ada Lovelace 3.2 · 4 tries, 0 min')")
    until(page, "document.querySelector('#mistakes').innerText.startsWith('2× 3.2 · nothing returned')")
    assert page.evaluate("document.querySelector('#mistakes .ask').innerText").startswith("Did you forget return?")
    assert page.evaluate("document.querySelector('#learners td.right .unseen').textContent") == "right"


def hide_the_names(page: Page) -> None:
    tab_to(page, "names")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#stuck').innerText.startsWith('Learner 2 ')")
    assert page.evaluate("document.body.innerHTML.includes('Lovelace')") is False
    assert page.evaluate("document.querySelector('#names').ariaPressed") == "true"
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#learners').innerText.includes('Ada Lovelace')")


def lose_and_find_the_server(friday: Class, page: Page) -> None:
    friday.server.cluster.stop()
    try:
        until(page, "document.querySelector('#trouble').innerText.includes('This was seen')")
        assert "Ada Lovelace" in page.evaluate("document.querySelector('#learners').innerText")
    finally:
        friday.server.cluster._start_server()
    until(page, "document.querySelector('#trouble').innerText === ''")
    aside(told_by(friday, "bruno", verdict("3.2", "right")))
    until(page, "document.querySelectorAll('#learners td.right').length === 2")
