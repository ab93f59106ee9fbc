"""What the instruments say in HTML can be read on JupyterLab's light page and on its dark one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from bs4 import BeautifulSoup, NavigableString
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.exercises import find_exercise
from course_lib.instruments import PoolGauge, QueryLog, Rows, explain, recall
from course_lib.judging.verdict import Finding, Verdict
from course_lib.models import Conversation, DocumentChunk, Message
from tests.instruments.seeing import Colour, colour, contrast

# --jp-content-font-color1 with its share, --jp-layout-color0, and a table's other rows, of JupyterLab 4.6's two themes
PAGES = {
    "light": (("#000000", 0.87), ("#ffffff", "#f5f5f5")),
    "dark": (("#ffffff", 1.0), ("#111111", "#212121")),
}


def mixed(ink: Colour, share: float, ground: Colour) -> Colour:
    return share * ink + (1 - share) * ground


def styles(words: NavigableString) -> Iterator[str]:
    """Those that hold for some words, the outermost first."""
    yield from (str(element.get("style", "")) for element in reversed(list(words.parents)))


def contrasts(markup: str, page: str) -> dict[str, float]:
    """The least contrast of all words with what is behind them."""
    (name, share), grounds = PAGES[page]
    found = {}
    for words in BeautifulSoup(markup, "html.parser").find_all(string=re.compile(r"\S")):
        each = []
        for ground in map(colour, grounds):
            ink, strength = colour(name), share
            for style in styles(words):
                assert not re.search(r"(?<![-\w])color:(?!inherit)", style), "a colour of its own suits one page only"
                if tint := re.search(r"background:rgba\((\d+),(\d+),(\d+),([\d.]+)\)", style):
                    ground = mixed(np.array(tint.groups()[:3], float) / 255, float(tint[4]), ground)
                if dim := re.search(r"opacity:([\d.]+)", style):
                    strength *= float(dim[1])
            each.append(contrast(mixed(ink, strength, ground), ground))
        found[str(words)] = min(each)
    return found


async def shown(engine: AsyncEngine) -> dict[str, str]:
    with QueryLog(engine) as log, PoolGauge(engine) as gauge:
        async with engine.connect() as connection:
            for _ in range(5):
                await connection.execute(select(Message.id).where(Message.seq == 1).limit(1))
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT nonsense"))
    async with engine.connect() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plans = [await explain(connection, select(model).order_by(model.id)) for model in (Conversation, Message)]
        plans.append(await explain(engine, select(Message).where(Message.content == "?"), analyze=True))
    found = await recall(engine, DocumentChunk.embedding, np.ones((1, 256)), settings={"work_mem": "8MB"})
    rows = Rows(["id", "title"], [(1, "Lamp"), (2, None)])
    instruments = {"log": log, "gauge": gauge, "recall": found, "rows": rows, **dict(zip("abc", plans, strict=True))}
    return {name: instrument._repr_html_() for name, instrument in instruments.items()}


@pytest.mark.parametrize("page", list(PAGES))
async def test_every_word_stands_out(engine: AsyncEngine, page: str) -> None:
    for name, markup in (await shown(engine)).items():
        assert contrasts(markup, page)
        for words, found in contrasts(markup, page).items():
            assert found >= 4.5, (name, words)


def set_as_formulas(markup: str) -> list[str]:
    """The words with a dollar that MathJax looks at: those not in code, and in nothing marked for it to pass over."""
    return [
        str(words)
        for words in BeautifulSoup(markup, "html.parser").find_all(string=re.compile(r"\$"))
        if not any(
            element.name in ("pre", "code") or {"mathjax_ignore", "tex2jax_ignore"} <= set(element.get("class", []))
            for element in words.parents
        )
    ]


async def test_two_dollars_are_no_formula(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execute(select(Message.id).where(Message.seq == 1).limit(1))
    rows = Rows(["$ a", "$ b"], [("from $5", "to $9")])
    finding = Finding("wrong", sentence="It asks for $1, and then for $2.", look="See `$1`.")
    verdict = Verdict.of(find_exercise("0.1"), finding)
    for shown in (log, rows, verdict):
        assert shown._repr_html_().count("$") >= 2
        assert not set_as_formulas(shown._repr_html_())


def test_a_formula_would_be_found() -> None:
    assert set_as_formulas("<td>name = $1 WHERE id = $2</td><code>$3</code>") == ["name = $1 WHERE id = $2"]


def test_the_measure_sees_what_is_too_faint() -> None:
    faint = contrasts('<p>said<span style="opacity:.6">aside</span></p>', "light")
    assert faint["said"] > 12
    assert faint["aside"] < 4.5
