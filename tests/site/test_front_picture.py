"""The picture of the README is of runs that anybody can repeat, and its words say what these show."""

from __future__ import annotations

import re

from PIL import Image

from course_lib.settings import REPOSITORY
from course_lib.site.front_picture import PICTURE, exercise_run, lesson_run

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_it_stands_on_the_first_screen_and_is_small() -> None:
    assert PICTURE.relative_to(REPOSITORY).as_posix() in README[:1_500]
    assert PICTURE.stat().st_size < 150_000
    assert Image.open(PICTURE).width > 2_000, "sharp"


def test_its_words_are_what_the_runs_show_today() -> None:
    (words,) = re.findall(r"!\[([^\]]+)\]", README)
    (verdict,) = exercise_run().outputs
    assert "51 statements were sent for 50 conversations; the budget is 2." in words
    assert (
        "51 statements were sent for 50 conversations; the budget is 2."
        in verdict.data["text/plain"] + (verdict.data["text/markdown"])
    )
    (stage,) = lesson_run().outputs
    told = stage.metadata["image/png"]["alt"]
    assert told.count("→ 10") == 2 and told.count("used = 20") == 2 and "→ 20" in told
