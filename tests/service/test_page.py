"""The page of ``course serve``: what it is made of, and its main path in a real browser, by keyboard alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import httpx2
import pytest
from sqlalchemy import URL
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.db import make_engine, make_session_factory
from course_lib.llm import openai_client
from course_lib.service import create_app
from course_lib.service.gate import Gate
from course_lib.service.page import FOLDER, Person, add_page
from course_lib.service.worker import Worker
from tests.browser import browser, complaints_of, contrast, needs_chromium, tab_to, until
from tests.service.running import Serving, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = (FOLDER / "index.html").read_text(encoding="utf-8")
STYLE = (FOLDER / "page.css").read_text(encoding="utf-8")
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js")}
PEOPLE = [
    Person(name, "A user of the course.", f"{name.lower()}-demonstration-key", "When does the bakery open?")
    for name in ("Chidi", "Farah")
]
QUESTION = "What does E-417 mean and what do I do first?"
PREFIX = "/hub/user/pia/proxy/8000"


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


ELEMENTS = Elements(PAGE).found
IDS = {attributes["id"] for _, attributes in ELEMENTS if "id" in attributes}

# -- what it is made of ------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere_and_every_address_is_relative() -> None:
    targets = [at[name] for _, at in ELEMENTS for name in ("src", "href") if name in at]
    assert {str(target) for target in targets} == {"data:,", "page.css", "page.js", "#question"}
    imported = {target for script in SCRIPTS.values() for target in re.findall(r'from "(.*?)"', script)}
    assert imported == {f"./{name}" for name in SCRIPTS if name != "page.js"}
    for script in SCRIPTS.values():
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", script) == []
        assert re.findall(r"(?:get|request|fetch)\((?:\"\w+\", )?[\"`](?:/|http)", script) == []
    assert "url(" not in STYLE and "@import" not in STYLE


def test_no_text_is_ever_read_as_markup_and_no_script_or_style_stands_in_the_page() -> None:
    for name, script in SCRIPTS.items():
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in script, (name, way)
    assert "<style" not in PAGE and not re.search(r"<script(?![^>]*\ssrc=)", PAGE)
    assert not [at for _, at in ELEMENTS if "style" in at or any(name.startswith("on") for name in at)]


def test_what_scripts_ask_for_is_in_the_page() -> None:
    asked = {name for script in SCRIPTS.values() for name in re.findall(r'\$\("([\w-]+)"\)', script)}
    assert asked <= IDS


def test_whoever_does_not_see_it_can_use_it() -> None:
    labelled = {at.get("for") for tag, at in ELEMENTS if tag == "label"}
    controls = [at for tag, at in ELEMENTS if tag in ("input", "select", "textarea")]
    assert controls and all(at["id"] in labelled for at in controls)
    assert {"header", "main", "aside"} <= {tag for tag, _ in ELEMENTS}
    for tag, at in ELEMENTS:
        if tag in ("section", "aside"):
            assert at["aria-labelledby"] in IDS
    assert [at["id"] for _, at in ELEMENTS if at.get("aria-live") == "polite"] == ["said"]
    assert ("html", {"lang": "en"}) in ELEMENTS
    levels = [int(tag[1]) for tag, _ in ELEMENTS if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(lower - upper <= 1 for upper, lower in pairwise(levels))


def colours(part: str) -> dict[str, tuple[float, ...]]:
    """Red, green and blue from 0 to 255, by the name of the variable."""
    return {name: tuple(bytes.fromhex(colour)) for name, colour in re.findall(r"--([\w-]+): #(\w{6});", part)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_told_from_its_ground(scheme: str) -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    of = colours(light if scheme == "light" else dark.partition("\n}\n")[0])
    for ground in ("ground", "panel"):
        for text in ("ink", "quiet", "accent", "wrong"):
            assert contrast(of[text], of[ground]) >= 4.5, (text, ground)
    assert contrast(of["on-accent"], of["accent"]) >= 4.5
    assert contrast(of["ink"], of["mark"]) >= 4.5
    for bar in ("request", "statement", "hold", "answers", "wait"):
        assert contrast(of[bar], of["panel"]) >= 3, bar


async def test_it_is_served_only_where_it_was_asked_for(running: Serving, paged: Serving) -> None:
    paths = ["/", "/people.json", "/page.css", *(f"/{name}" for name in SCRIPTS)]
    async with httpx2.AsyncClient(trust_env=False) as client:
        for path in paths:
            assert (await client.get(running.address + path)).status_code == 404
        let_in = await client.get(address_of(paged))
        assert let_in.status_code == 303
        for path in paths:
            answer = await client.get(f"{paged.address}{PREFIX}{path}")
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'") and "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
    assert "/people.json" not in paged.app.openapi()["paths"]


# -- in a browser, below a proxy's path and behind the gate ------------------------------------------------


class Proxied:
    """As a proxy shows an app that was told its path: what is not below the path is not there.

    As jupyter-server-proxy 4.6 does it, a response is kept back until it is whole, unless events were asked for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.kept_back: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = scope["path"].removeprefix(PREFIX)  # uvicorn puts root_path before what was asked for
            if not asked.startswith(f"{PREFIX}/"):
                await send({"type": "http.response.start", "status": 404, "headers": []})
                await send({"type": "http.response.body"})
                return
            scope = scope | {"path": asked}
            if (b"accept", b"text/event-stream") not in scope["headers"]:
                self.kept_back.add(asked.removeprefix(PREFIX))
                send = self._whole(send)
        await self.app(scope, receive, send)

    @staticmethod
    def _whole(send: Send) -> Send:
        kept: list[Message] = []

        async def sent(message: Message) -> None:
            kept.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                for one in kept:
                    await send(one)

        return sent


@pytest.fixture(scope="module")
def paged(service_url: URL) -> Iterator[Serving]:
    app = create_app(service_url, client=openai_client(token_delay_ms=5), xray=True)
    app.root_path = PREFIX
    add_page(app, PEOPLE)
    app.state.gate = Gate(app, 0, lambda token: None)
    app.state.proxied = Proxied(app.state.gate)
    with serving(service_url, app=app, around=app.state.proxied, root_path=PREFIX) as running:
        yield running


def address_of(paged: Serving) -> str:
    """As ``course serve`` prints it, good for one time."""
    return f"{paged.address}{PREFIX}/?token={paged.app.state.gate.token}"


async def read_documents(url: URL) -> None:
    """A worker, until there is nothing more to do."""
    engine = make_engine(url, binary_vectors=True)
    worker = Worker(make_session_factory(engine), openai_client())
    while await worker.work():
        pass
    await engine.dispose()


@needs_chromium
def test_the_main_path_by_keyboard(paged: Serving, service_url: URL) -> None:
    with browser() as page:
        said = complaints_of(page)
        page.goto(address_of(paged))
        until(page, "document.querySelectorAll('#documents li').length > 2")
        choose_somebody(page)
        ask(page)
        open_a_source(page)
        look_at_the_xray(page)
        add_a_document(page, service_url)
        for width, dark in ((390, False), (1280, True), (390, True)):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if dark else "light")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
        assert said == []
    kept_back = paged.app.state.proxied.kept_back
    assert "/documents" in kept_back and "/questions/stream" not in kept_back, "or nobody would see it stream"


def choose_somebody(page: Page) -> None:
    before = page.evaluate("document.querySelector('#documents').innerText")
    tab_to(page, "person")
    page.keyboard.press("ArrowDown")
    until(page, f"document.querySelector('#documents').innerText.length > 20 && {other_than(before)}")
    page.keyboard.press("ArrowUp")
    until(page, f"!({other_than(before)})")


def other_than(before: str) -> str:
    return f"document.querySelector('#documents').innerText !== {before!r}"


def ask(page: Page) -> None:
    tab_to(page, "question")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.sources button')")
    answer = page.evaluate("document.querySelector('.answered .text').textContent")
    assert answer and answer in page.evaluate("document.querySelector('#said').textContent"), (
        "it is read aloud when whole"
    )
    assert page.evaluate("document.activeElement.id") == "question", "the next question can be typed"
    until(page, "document.querySelector('#conversation').value !== ''")


def open_a_source(page: Page) -> None:
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.parentElement.parentElement.className") == "sources":
            break
    page.keyboard.press("Enter")
    until(page, "document.activeElement.nextSibling.textContent.length > 20")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus can be seen"


def look_at_the_xray(page: Page) -> None:
    until(page, "document.querySelector('#summary').textContent.startsWith('POST /questions/stream, status 200')")
    assert "Of these, 0 ms were spent waiting for the model." in page.evaluate(
        "document.querySelector('#summary').innerText"
    )
    for lane in ("request", "statement", "hold", "answers"):
        assert page.evaluate(f"document.querySelectorAll('#picture svg[aria-label] rect.{lane}').length") > 0, lane
    assert "RagRepository.search_both" in page.evaluate("document.querySelector('#statements').innerText")
    tab_to(page, "explain")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#plan').textContent.includes('document_chunks')")
    assert page.evaluate("document.activeElement.id") == "plan"


def add_a_document(page: Page, url: URL) -> None:
    page.keyboard.press("Tab")  # over the end, and from the top
    tab_to(page, "person")
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.tagName") != "SUMMARY":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    tab_to(page, "title")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#add-problem').textContent.startsWith('A document has a title and a text.')")
    page.keyboard.type("<b>Cleaning</b>")
    tab_to(page, "text")
    page.keyboard.type("The dome is cleaned on the second Thursday of the month.")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#job').textContent.includes('waits')")
    with ThreadPoolExecutor() as threads:  # in this one playwright keeps an event loop
        threads.submit(asyncio.run, read_documents(url)).result()
    until(page, "document.querySelector('#job').textContent.includes('is ready')")
    assert "<b>Cleaning</b>" in page.evaluate("document.querySelector('#documents').innerText")
