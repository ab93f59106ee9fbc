"""A real Chromium without a window, by playwright, for tests of what a person sees; and whether text can be told."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--disable-dev-shm-usage", "--no-proxy-server", "--mute-audio"]
PATIENCE = 60_000  # milliseconds; the machine may be busy

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
"""Its tests must not be ``async``: the synchronous playwright keeps an event loop in its thread."""

TEXTS = """selector => {
    const found = [];
    for (const part of document.querySelectorAll(selector)) {
        const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
            const element = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
            if (!text || !element.checkVisibility() || element.closest("svg")) continue;
            const painted = [];
            for (let at = element; at; at = at.parentElement) painted.push(getComputedStyle(at).backgroundColor);
            found.push([text.slice(0, 60), getComputedStyle(element).color, ...painted]);
        }
    }
    return found;
}"""


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page of a browser with a profile of its own, for the length of a block."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *as_root])
        page: Page = chromium.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        yield page
        chromium.close()


def complaints_of(page: Page) -> list[str]:
    """What the page writes into the browser's log from now on: errors of scripts, what its policy refused."""
    found: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(f"{message.text} {message.location.get('url', '')}")

    page.on("console", note)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def requests_elsewhere(page: Page, where: str) -> list[str]:
    """Addresses that the page asks from now on and that do not begin with ``where``."""
    found: list[str] = []
    own = (where, where.replace("http", "ws", 1), "data:", "blob:", "about:")
    page.on("request", lambda request: None if request.url.startswith(own) else found.append(request.url))
    return found


def until(page: Page, script: str) -> None:
    """Wait until the expression is true. A strict policy of a page forbids playwright's own ``wait_for_function``."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(f"!!({script})"):
        assert time.monotonic() < deadline, f"{script} never came true: {page.inner_text('body')}"
        page.wait_for_timeout(50)


def tab_to(page: Page, identity: str) -> None:
    """Press Tab until what has this id has the focus: by keyboard it must be reached."""
    for _ in range(60):
        if page.evaluate("document.activeElement.id") == identity:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{identity} cannot be reached by Tab")


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Of two colours of red, green and blue from 0 to 255, as WCAG 2 has it: 1 to 21."""

    def luminance(colour: tuple[float, ...]) -> float:
        parts = [part / 255 for part in colour[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def faint(page: Page, selector: str, least: float = 4.5) -> list[tuple[str, float]]:
    """Texts inside what ``selector`` finds that are told from their ground with a contrast below ``least``.

    Letters and grounds are those that the browser computed.
    """
    found = []
    for text, letters, *painted in page.evaluate(TEXTS, selector):
        ground = (255.0, 255.0, 255.0)
        for layer in reversed(painted):
            ground = _over(_colour(layer), ground)
        if (measured := contrast(_over(_colour(letters), ground), ground)) < least:
            found.append((text, round(measured, 2)))
    return found


def _colour(text: str) -> tuple[float, ...]:
    """``rgb(…)`` or ``rgba(…)`` as red, green and blue from 0 to 255, and how dense it is from 0 to 1."""
    assert text.startswith("rgb"), text
    parts = [float(part) for part in re.findall(r"[\d.]+", text)]
    return (*parts, 1.0)[:4]


def _over(layer: tuple[float, ...], ground: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(layer[3] * upper + (1 - layer[3]) * lower for upper, lower in zip(layer, ground, strict=False))
