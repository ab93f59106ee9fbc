"""The picture on the README's first screen, from a real run: ``python -m course_lib.site.front_picture``, for authors.

A lesson is executed up to one of its cells, and an exercise is answered wrongly and checked. What the two show is set
beside each other by a browser.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from course_lib.errors import CourseError
from course_lib.notebook_format import nbformat
from course_lib.notebooks import execute
from course_lib.settings import REPOSITORY

PICTURE = REPOSITORY / "notebooks" / "front.png"
LESSON, CELL = "03_transactions.ipynb", "lost"
EXERCISES, CHECK = "02_n_plus_one.ipynb", "check-2-1"
ANSWER = '''\
async def conversations_with_messages(session, user_id):
    """All conversations of the user with their messages, newest first."""
    statement = (
        select(Conversation)
        .where(Conversation.user_id == user_id)
        .order_by(
            Conversation.updated_at.desc(), Conversation.id.desc()
        )
    )
    talks = (await session.scalars(statement)).all()
    for talk in talks:
        await talk.awaitable_attrs.messages
    return talks
'''
WIDTH, HEIGHT = 1240, 660  # points, of which each is two dots
COLOURS = 96
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 20px; width: {width}px; box-sizing: border-box; background: #fff; color: #22303C;
  font: 15px/1.5 "DejaVu Sans", sans-serif; display: flex; gap: 20px; }}
section {{ flex: 1; min-width: 0; border: 1px solid #D3D7DB; border-radius: 8px; padding: 14px 16px; }}
h2 {{ font-size: 15px; margin: 0 0 10px; color: #52606D; font-weight: normal; }}
pre {{ margin: 0 0 12px; padding: 10px 12px; background: #F1F3F5; border-left: 4px solid #5BA37D; white-space: pre-wrap;
  font: 11.5px/1.5 "DejaVu Sans Mono", monospace; }}
img {{ width: 100%; border-radius: 6px; }}
code {{ font: 13px "DejaVu Sans Mono", monospace; background: #F1F3F5; padding: 1px 4px; border-radius: 3px; }}
summary {{ margin-top: 4px; }}
{style}</style>
<section><h2>A lesson: run a cell, see what the server did</h2>{lesson}
<img src="data:image/png;base64,{drawn}"></section>
<section><h2>An exercise: your function, judged by what it sends</h2>{answer}{check}{verdict}</section>"""


def lesson_run() -> nbformat.NotebookNode:
    """The lesson's cell, as a run of all cells before it leaves it."""
    lesson = nbformat.read(REPOSITORY / "notebooks" / LESSON, as_version=4)
    last = next(number for number, cell in enumerate(lesson.cells) if cell.id == CELL)
    return _run(lesson.cells[: last + 1])


def exercise_run() -> nbformat.NotebookNode:
    """The check's cell, after an answer that asks once for each row."""
    solutions = nbformat.read(REPOSITORY / "solutions" / EXERCISES, as_version=4)
    cells = {cell.id: cell for cell in solutions.cells}
    return _run([cells["setup"], nbformat.v4.new_code_cell(ANSWER), cells[CHECK]])


def draw() -> None:
    """Run both and write the picture.

    Raises:
        CourseError: a run fails, or there is no browser.
    """
    lesson, check = lesson_run(), exercise_run()
    colours = HtmlFormatter(style="friendly", nobackground=True)
    page = PAGE.format(
        width=WIDTH, style=colours.get_style_defs(".highlight"),
        lesson=highlight(lesson.source, PythonLexer(), colours), drawn=lesson.outputs[0].data["image/png"],
        answer=highlight(ANSWER, PythonLexer(), colours), check=highlight(check.source, PythonLexer(), colours),
        verdict=check.outputs[0].data["text/html"],
    )  # fmt: skip
    image = Image.open(io.BytesIO(_photographed(page))).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, format="png", optimize=True)


def _run(cells: list[nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """The last of the cells, executed after the others."""
    with tempfile.TemporaryDirectory(prefix="course-picture-") as folder:
        path = Path(folder) / "run.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        execute(path)
        last: nbformat.NotebookNode = nbformat.read(path, as_version=4).cells[-1]
        return last


def _photographed(page: str) -> bytes:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None or find_spec("playwright") is None:
        raise CourseError("The picture is taken by Chromium and playwright, and one of them is missing.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2)
        shown.set_content(page)
        taken = shown.locator("body").screenshot()
        chromium.close()
    return taken


if __name__ == "__main__":
    draw()
    print(f"{PICTURE.relative_to(REPOSITORY)}: {PICTURE.stat().st_size // 1000} kB")
