"""JupyterLab as somebody at its window uses it: what is on the screen, keys, and the menus."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.browser import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SHOWN = ".jp-NotebookPanel:not(.lm-mod-hidden)"
CELLS = f"[...document.querySelectorAll('{SHOWN} .jp-Notebook .jp-Cell')]"
ACTIVE = f"{CELLS}.findIndex(cell => cell.matches('.jp-mod-active'))"
PROMPTS = f"{CELLS}.map(cell => cell.querySelector('.jp-InputPrompt').textContent)"
FOCUS_INSIDE = f"document.querySelector('{SHOWN} .jp-Notebook').contains(document.activeElement)"


class Notebook:
    """The notebook of the tab in front. Cells are told by their place, from 0."""

    def __init__(self, page: Page, address: str, path: str, token: str) -> None:
        self.page = page
        page.goto(f"{address}/lab/tree/{path}?token={token}&reset")
        self.wait_for_kernel()
        until(page, FOCUS_INSIDE)

    def wait_for_kernel(self) -> None:
        self.page.locator("#jp-main-statusbar").get_by_text("Python 3 (ipykernel) | Idle").wait_for()

    def cell(self, place: int) -> Locator:
        return self.page.locator(f"{SHOWN} .jp-Notebook .jp-Cell").nth(place)

    def outputs(self, place: int) -> Locator:
        return self.cell(place).locator(".jp-OutputArea-output")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def go_to(self, place: int) -> None:
        """By keys alone."""
        self.press("Escape")
        away = place - self.page.evaluate(ACTIVE)
        self.press(*["ArrowDown" if away > 0 else "ArrowUp"] * abs(away))
        until(self.page, f"{ACTIVE} === {place}")

    def rewrite(self, place: int, lines: str) -> None:
        """Type something else into a cell, as on a keyboard; the editor indents by itself."""
        self.go_to(place)
        self.press("Enter", "Control+a")
        self.page.keyboard.type(lines)
        self.press("Escape")

    def insert_below(self, place: int, line: str) -> None:
        self.go_to(place)
        self.press("b", "Enter")
        self.page.keyboard.type(line)
        self.press("Escape")

    def run(self, place: int) -> None:
        """Shift+Enter, and wait until it has run."""
        before = self.page.evaluate(PROMPTS)[place]
        self.go_to(place)
        self.press("Shift+Enter")
        until(self.page, f"!['{before}', '[*]:'].includes({PROMPTS}[{place}])")

    def choose(self, menu: str, entry: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.get_by_role("menuitem", name=re.compile(rf"^{re.escape(entry)}")).click()

    def wait_until_all_have_run(self) -> None:
        """Each cell with code is numbered, none is waited for."""
        until(self.page, f"{PROMPTS}.every(prompt => !['[ ]:', '[*]:'].includes(prompt))")

    def wait_for_outputs(self, cells: int) -> None:
        """Until what so many cells show is drawn; JupyterLab draws the ones below later."""
        until(self.page, f"{CELLS}.filter(cell => cell.querySelector('.jp-OutputArea-output')).length >= {cells}")

    def theme(self, name: str) -> None:
        """``Light`` or ``Dark``, by the menu, which leaves the focus with nobody."""
        focused = self.page.evaluate_handle("document.activeElement")
        self.page.get_by_role("menuitem", name="Settings", exact=True).click()
        for entry in ("Theme", f"JupyterLab {name}"):
            self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()
        light = str(name == "Light").lower()
        until(self.page, f"document.body.dataset.jpThemeLight === '{light}'")
        focused.evaluate("element => element.focus()")

    def counts_as_changed(self) -> bool:
        """Whether the tab has the dot, so that closing it asks what to do."""
        return self.page.locator(".jp-mod-dirty").count() > 0

    def wider_than_the_window(self) -> list[str]:
        """Beginnings of outputs that one has to push sideways to see."""
        found: list[str] = self.page.locator(f"{SHOWN} .jp-OutputArea-output").evaluate_all(
            "outputs => outputs.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"
        )
        return found
