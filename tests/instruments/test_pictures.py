"""Pictures can be read: by light and by dark, by deuteranopes, by a screen reader, on sharp screens, in exports."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
from matplotlib.patches import FancyBboxPatch
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments import bars, page_walk
from course_lib.instruments.pictures import (
    COLOURS,
    DOTS_PER_INCH,
    INK,
    INKS,
    PAPER,
    SHARPNESS,
    SOFT,
    Picture,
    fitted,
    written,
)
from course_lib.notebooks.executing import STORED
from course_lib.settings import get_settings
from tests.instruments.gallery import GALLERY
from tests.instruments.seeing import Seen, at_night, colour, contrast, difference
from tests.notebook_files import run_gate

READABLE = 4.5
MADE: dict[str, Picture] = {}
TWO = bars({"<COPY>": 3, 'add "all"': 2}, "Rows & rows", unit="rows")


@pytest.fixture(params=list(GALLERY))
async def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def drawn(kind: str, engine: AsyncEngine) -> Picture:
    return await GALLERY[kind](engine)


@pytest.fixture
def picture(kind: str, request: pytest.FixtureRequest) -> Picture:
    """One of a kind for all tests, since looking at it changes nothing; only the first asks for a database."""
    if kind not in MADE:
        MADE[kind] = request.getfixturevalue("drawn")
    return MADE[kind]


@pytest.mark.soak(after=8)
async def test_letters_stand_out_by_light_and_by_dark_and_stay_on_the_card(picture: Picture) -> None:
    seen = Seen(picture)
    assert seen.texts
    for text, box in seen.texts.items():
        assert seen.least_contrast(text) >= READABLE, (text.get_text(), text.get_color())
        assert -1 <= box.x0 <= box.x1 <= seen.width + 1, text.get_text()
        assert -1 <= box.y0 <= box.y1 <= seen.height + 1, text.get_text()
        assert text.get_fontsize() >= 8


@pytest.mark.parametrize("kind", ["plan", "tree", "schema"], indirect=True)
async def test_what_belongs_into_a_box_stands_in_it(picture: Picture) -> None:
    seen = Seen(picture)
    boxes = [box.get_window_extent() for box in picture.axes[0].patches if isinstance(box, FancyBboxPatch)]
    inside = [text for text, place in seen.texts.items() if any(box.overlaps(place) for box in boxes)]
    assert len(inside) > len(boxes) > 1
    for text in inside:
        place = seen.texts[text]
        assert any(
            box.x0 <= place.x0 and place.x1 <= box.x1 and box.y0 <= place.y0 and place.y1 <= box.y1 for box in boxes
        ), text.get_text()
    for one, other in combinations(inside, 2):
        width = min(seen.texts[one].x1, seen.texts[other].x1) - max(seen.texts[one].x0, seen.texts[other].x0)
        height = min(seen.texts[one].y1, seen.texts[other].y1) - max(seen.texts[one].y0, seen.texts[other].y0)
        assert width <= 0 or height <= 2, (one.get_text(), other.get_text())  # descenders may touch


def test_the_measure_of_contrast_knows_black_on_white_and_a_grey_that_just_fails() -> None:
    assert contrast(colour("black"), colour("white")) == pytest.approx(21)
    assert contrast(colour("#777777"), colour("white")) == pytest.approx(4.48, abs=0.01)
    assert at_night(colour("white")) == pytest.approx([0.08] * 3)


@pytest.mark.parametrize("page", [lambda seen: seen, at_night], ids=["light", "dark"])
def test_every_ink_can_be_read_on_the_card_on_a_white_box_and_on_a_tint_of_itself(page: object) -> None:
    assert callable(page)
    for ink in (INK, SOFT, *INKS):
        tint = 0.925 * colour(PAPER) + 0.075 * colour(ink)
        for ground in (colour(PAPER), colour("white"), tint):
            assert contrast(page(colour(ink)), page(ground)) >= READABLE, ink


@pytest.mark.parametrize("page", [lambda seen: seen, at_night], ids=["light", "dark"])
def test_the_colours_are_told_apart_by_deuteranopes_too(page: object) -> None:
    assert callable(page)
    seen = [page(colour(name)) for name in COLOURS]
    for deuteranope in (False, True):
        first = [difference(*two, deuteranope=deuteranope) for two in combinations(seen[:6], 2)]
        every = [difference(*two, deuteranope=deuteranope) for two in combinations(seen, 2)]
        assert min(first) >= 25
        assert min(every) >= 14


def test_that_measure_knows_what_deuteranopes_confuse() -> None:
    green, pink = colour("#009E73"), colour("#CC79A7")
    assert difference(green, pink, deuteranope=False) > 80
    assert difference(green, pink, deuteranope=True) < 20


def test_an_image_has_twice_the_dots_of_its_place_on_the_page() -> None:
    bundle, about = TWO._repr_mimebundle_()
    width, height = (int.from_bytes(bundle["image/png"][at : at + 4], "big") for at in (16, 20))
    shown = about["image/png"]
    assert SHARPNESS == 2
    assert (shown["width"], shown["height"]) == (946, round(float(TWO.get_size_inches()[1]) * DOTS_PER_INCH))
    assert width == pytest.approx(2 * shown["width"], abs=2)
    assert height == pytest.approx(2 * shown["height"], abs=2)


def test_a_file_is_small() -> None:
    png = page_walk([list(range(10))] * 8, range(10), "Pages").png()
    assert len(png) < 45_000


def test_a_text_is_cut_where_its_box_ends() -> None:
    assert fitted("documents", 10, 5.0) == "documents"
    cut = fitted("a_table_with_a_name_that_goes_on_and_on", 10, 1.0)
    assert cut.endswith("…")
    assert 0.8 < written(cut, 10) <= 1.0


# what a screen reader reads


@pytest.fixture
def as_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the kernels of lessons that are stored or compared."""
    for name, value in STORED.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()


@pytest.mark.soak(after=8)
async def test_every_picture_says_in_words_what_it_shows(picture: Picture) -> None:
    bundle, about = picture._repr_mimebundle_()
    [alt] = re.findall(r'<img class="course-picture" alt="([^"]*)"', bundle["text/html"])
    assert len(alt) > 20
    assert "\n" not in alt
    assert not set("│└░╳") & set(alt), "lines of a table are nothing to listen to"
    assert about["image/png"]["alt"] == picture.alt


@pytest.mark.usefixtures("as_stored")
def test_what_is_stored_is_an_image_alone_with_its_words_beside_it() -> None:
    bundle, about = TWO._repr_mimebundle_()
    assert list(bundle) == ["image/png"]
    assert about["image/png"]["alt"] == str(TWO) == 'Rows & rows: <COPY> 3 rows; add "all" 2 rows'


def test_an_export_of_nbconvert_has_the_alternative_text() -> None:
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter

    bundle, about = TWO._repr_mimebundle_()
    data = {"image/png": "", "text/html": bundle["text/html"], "text/plain": str(TWO)}
    output = nbformat.v4.new_output("execute_result", data, metadata=about, execution_count=1)
    cell = nbformat.v4.new_code_cell("TWO", outputs=[output], execution_count=1)
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert "No description has been provided" not in page
    [shown] = BeautifulSoup(page, "html.parser").select("main img")
    assert shown["alt"] == str(TWO)
    assert shown["width"] == "946"


def test_the_course_stores_pictures_so_and_its_gate_finds_them_alike(tmp_path: Path) -> None:
    from course_lib.notebooks import execute

    path = tmp_path / "99_small.ipynb"
    cell = nbformat.v4.new_code_cell("from course_lib.instruments import bars\nbars({'a': 1}, 'One')")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    execute(path)
    [output] = nbformat.read(path, as_version=4).cells[0].outputs
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.metadata["image/png"]["alt"] == output.data["text/plain"] == "One: a 1"
    done = run_gate(path)
    assert done.returncode == 0, done.stdout
