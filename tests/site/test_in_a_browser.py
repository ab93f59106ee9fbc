"""The site in a real browser: what it asks for, what it complains about, and whether everybody can read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pypdf import PdfReader

from course_lib.site.pages import pages
from tests.browser import browser, complaints_of, contrast, needs_chromium, requests_elsewhere

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_chromium
KINDS = [
    "index",
    "notebooks/00_start_here",
    "exercises/00_start_here",
    "exercises/interview/junior",
    "questions",
    "search",
]
"""One page of each kind. The checker takes its time with each element, so of the lessons it is the shortest."""
OPENED = 20  # folds, for the same reason
SERIOUS = {"serious", "critical"}
DARK, LIGHT = "dark", "light"


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with browser() as page:
        yield page


def test_no_page_complains_asks_another_host_or_is_wider_than_a_telephone(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    complaints, elsewhere = complaints_of(page), requests_elsewhere(page, address)
    wide = {}
    for name in [*(page.document for page in pages()), "questions", "search"]:
        page.goto(f"{address}/{name}.html")
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        wide |= {name: over} if over > 0 else {}
    assert (complaints, elsewhere, wide) == ([], [], {})


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_a_checker_of_accessibility_finds_nothing_serious(page: Page, address: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    for name in KINDS:
        page.goto(f"{address}/{name}.html")
        assert _findings(page) == [], name


def _findings(page: Page) -> list[str]:
    if find_spec("axe_playwright_python") is None:
        pytest.skip("axe-playwright-python is not installed")
    import axe_playwright_python

    page.evaluate(
        f"[...document.querySelectorAll('article details')].slice(0, {OPENED}).forEach(one => one.open = true)"
    )
    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")
    assert len(found["passes"]) > 10, "it has looked"
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"] if one["impact"] in SERIOUS]


def test_the_checker_finds_a_picture_without_words(page: Page, address: str) -> None:
    page.goto(f"{address}/index.html")
    page.evaluate("document.querySelector('article').append(new Image(9, 9))")
    assert any(finding.startswith("image-alt") for finding in _findings(page))


def test_a_search_finds_pages_without_a_server(page: Page, site: Path) -> None:
    page.goto(f"{(site / 'search.html').as_uri()}?q=savepoint")
    page.wait_for_selector("#search-results li a")
    found = [link.get_attribute("href") or "" for link in page.query_selector_all("#search-results li a")]
    assert any("03_transactions" in link for link in found)


def test_pictures_and_outputs_turn_dark_with_the_page(page: Page, address: str) -> None:
    page.emulate_media(color_scheme=DARK)
    page.goto(f"{address}/notebooks/05_pooling_pitfalls.html")
    filters = page.eval_on_selector_all("img.course-picture", "all => all.map(one => getComputedStyle(one).filter)")
    assert len(filters) > 5 and set(filters) == {"invert(0.92) hue-rotate(180deg)"}
    page.goto(f"{address}/notebooks/02_n_plus_one.html")
    letters = "one => getComputedStyle(one).color.match(/[0-9.]+/g).map(Number)"
    assert contrast(page.eval_on_selector(".text_html td", letters), (18, 18, 18)) > 7
    grounds = page.eval_on_selector_all(".text_html", "all => all.map(one => getComputedStyle(one).backgroundColor)")
    assert set(grounds) == {"rgba(0, 0, 0, 0)"}


def test_the_button_chooses_light_or_dark_and_the_next_page_knows(page: Page, address: str) -> None:
    page.goto(f"{address}/index.html")
    page.click("button.theme-switch-button >> visible=true")
    page.click("button[data-mode=dark] >> visible=true")
    page.goto(f"{address}/questions.html")
    assert page.get_attribute("html", "data-theme") == DARK


def test_code_is_copied_by_its_button(page: Page, address: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{address}/notebooks/02_n_plus_one.html")
    page.hover("#open .cell_input")
    page.click("#open button.copybtn")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == 'from course_lib import open_lesson\n\nlesson = await open_lesson("02")'


def test_a_link_of_a_lesson_leads_to_its_section(page: Page, address: str) -> None:
    page.goto(f"{address}/notebooks/02_n_plus_one.html")
    page.click("article table a[href='#s10']")
    page.wait_for_function("Math.abs(document.getElementById('s10').getBoundingClientRect().top) < 200")


def test_printed_a_lesson_is_a_hand_out(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/notebooks/02_n_plus_one.html")
    page.emulate_media(media="print")
    for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", "footer"):
        for found in page.query_selector_all(part):
            assert not found.is_visible(), part
    cut = page.eval_on_selector_all(
        ".cell pre", "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert cut == 0
    page.pdf(path=tmp_path / "hand-out.pdf", format="A4")
    printed = [sheet.extract_text() for sheet in PdfReader(tmp_path / "hand-out.pdf").pages]
    assert 5 < len(printed) < 40
    text = " ".join(" ".join(printed).split())
    assert "51 statements, 1 transaction, 336 rows" in text and "Pitfalls of this lesson" in text
    assert len(re.findall("02 · N\\+1 and eager loading", text)) >= 1


def test_a_dark_page_is_printed_light(page: Page, address: str, tmp_path: Path) -> None:
    page.emulate_media(color_scheme=DARK)
    page.goto(f"{address}/notebooks/00_start_here.html")
    page.evaluate("seen = []; addEventListener('beforeprint', () => seen.push(document.documentElement.dataset.theme))")
    page.pdf(path=tmp_path / "hand-out.pdf")
    assert page.evaluate("seen") == [LIGHT]
    assert page.get_attribute("html", "data-theme") == DARK
