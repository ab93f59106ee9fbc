"""The scene as text and as a picture: both tell the same, nothing overlaps, everything can be read."""

from __future__ import annotations

import asyncio
import re
from itertools import combinations
from uuid import uuid4

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.instruments import Stage
from course_lib.instruments.pictures import DOTS_PER_INCH, INKS, Picture
from course_lib.instruments.stage.layout import lay_out
from course_lib.instruments.stage.picture import ACTORS, WRONG
from course_lib.instruments.stage.words import spoken_call, spoken_value
from course_lib.models import User

ADA, BRUNO, CHIDI = "ada@example.org", "bruno@example.org", "chidi@example.org"
ADD = "UPDATE users SET tokens_used = tokens_used + 10 WHERE email = :email"
INSERT = "INSERT INTO users (email, name) VALUES (:email, 'New') ON CONFLICT (email) DO UPDATE SET name = 'Changed'"


async def add_tokens(session: AsyncSession, email: str, times: int) -> int:
    for _ in range(times):
        await session.execute(
            text("UPDATE users SET tokens_used = tokens_used + 1 WHERE email = :email"), {"email": email}
        )
    await session.commit()
    return times


async def two(engine: AsyncEngine) -> Stage:
    async with Stage(engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada("UPDATE users SET tokens_used = 50 WHERE email = :email", email=ADA)
        await bruno(add_tokens, ADA, 2)
        await ada("SELECT tokens_used FROM users WHERE email = :email", email=ADA)
        await ada.commit()
        await ada("SELECT name, 'costs $1 or $2' AS price FROM users")
        await ada.rollback()
        await bruno.rollback()
    return stage


TWO = """\
       Ada                                        Bruno
  1  │ UPDATE users SET tokens_used = 50
     │   WHERE email = :email
     │ email = 'ada@example.org'
     │ 1 row
  2  │                                          │ add_tokens('ada@example.org', 2)
     │                                          │ UPDATE users SET tokens_used = tokens_used +
     │                                          │   1 WHERE email = $1
     │                                          ░ waits for Ada
  3  │ SELECT tokens_used FROM users            ░
     │   WHERE email = :email                   ░
     │ email = 'ada@example.org'                ░
     │ → 50                                     ░
  4  └ COMMIT                                   │ goes on
                                                │ UPDATE users SET tokens_used = tokens_used +
                                                │   1 WHERE email = $1
                                                │ COMMIT
                                                └ → 2
  5  │ SELECT name, 'costs $1 or $2' AS price
     │   FROM users
     │ 8 rows
  6  └ ROLLBACK
  7                                               ROLLBACK
                                                  nothing was open
     │ transaction open   ░ waits for a lock"""


async def three(engine: AsyncEngine) -> Stage:
    async with Stage(engine) as stage:
        ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
        for actor, email in ((ada, ADA), (bruno, BRUNO), (chidi, CHIDI), (ada, BRUNO), (bruno, CHIDI), (chidi, ADA)):
            await actor(ADD, email=email)
        await ada.commit()
        await chidi.commit()
    return stage


async def four(engine: AsyncEngine) -> Stage:
    async with Stage(engine) as stage:
        actors = stage.actors("Ada", "Bruno", "Chidi", "Dagny", isolation_level="SERIALIZABLE")
        for turn in range(4):
            for actor in actors:
                if not actor.is_busy:
                    await actor(INSERT if turn < 2 else ADD, email=f"new{turn}@example.org")
            await actors[turn].commit()
    return stage


async def circle(engine: AsyncEngine) -> Stage:
    async with Stage(engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        for actor, email in ((ada, ADA), (bruno, BRUNO), (ada, BRUNO), (bruno, ADA)):
            await actor("SELECT 1 FROM users WHERE email = :email FOR UPDATE", email=email)
        await ada.commit()
        await bruno.commit()
    return stage


CIRCLE = """\
  3  │ SELECT 1 FROM users WHERE email = :email   │
     │   FOR UPDATE                               │
     │ email = 'bruno@example.org'                │
     ░ waits for Bruno                            │
  4  ░                                            │ SELECT 1 FROM users WHERE email = :email
     ░                                            │   FOR UPDATE
     ░                                            │ email = 'ada@example.org'
     ╳ ✗ DBAPIError 40P01: deadlock detected      ░ waits for Ada
     ╳                                            │ goes on → 1
  5  ╳ COMMIT                                     │
     ╳ ✗ rolled back instead: it had failed       │
  6                                               └ COMMIT
     │ transaction open   ░ waits for a lock   ╳ failed, the server has undone it"""


SCENES = [two, three, four]


@pytest.fixture(params=SCENES, ids=lambda scene: scene.__name__)
async def stage(request: pytest.FixtureRequest, engine: AsyncEngine) -> Stage:
    return await request.param(engine)


def texts_of(picture: Picture) -> list[Text]:
    return [found for found in picture.findobj(Text) if isinstance(found, Text) and found.get_text()]


def words(told: str) -> list[str]:
    """The words of a scene without the signs of bands."""
    return sorted(word for word in told.replace("\\$", "$").split() if word not in "│░╳└")


async def test_two_actors_as_text(engine: AsyncEngine) -> None:
    assert str(await two(engine)) == TWO


async def test_a_deadlock_as_text(engine: AsyncEngine) -> None:
    told = str(await circle(engine))
    assert told[told.index("  3  ") :] == CIRCLE


async def test_who_closes_a_circle_late_is_its_victim(engine: AsyncEngine) -> None:
    """The first has looked for a deadlock after a second, found none, and looks no more."""
    async with Stage(engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        for actor, email in ((ada, ADA), (bruno, BRUNO), (ada, BRUNO)):
            await actor("SELECT 1 FROM users WHERE email = :email FOR UPDATE", email=email)
        await asyncio.sleep(1.5)
        await bruno("SELECT 1 FROM users WHERE email = :email FOR UPDATE", email=ADA)
    lines = str(stage).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  4  "))
    assert [" ".join(line.split()) for line in lines[at + 3 : at + 5]] == [
        "░ ░ waits for Ada", "│ goes on → 1 ╳ ✗ DBAPIError 40P01: deadlock detected",
    ]  # fmt: skip


async def test_no_arrow_crosses_what_is_written(stage: Stage) -> None:
    sheet = lay_out(stage._scene.rows, len(stage._actors), 30)
    written = {(line.at, line.lane) for line in sheet.lines}
    assert sheet.arrows
    for arrow in sheet.arrows:
        (at, lane), by = arrow.end, arrow.start[1]
        assert (at, lane) in written
        assert not {(at, between) for between in range(min(by, lane) + 1, max(by, lane))} & written


async def test_dollars_are_no_formulas(engine: AsyncEngine) -> None:
    drawn = " ".join(found.get_text() for found in texts_of((await two(engine)).plot()))
    assert "costs \\$1 or \\$2" in drawn
    assert not re.search(r"(?<!\\)\$", drawn)


@pytest.mark.soak(after=2)
async def test_the_picture_says_every_word_of_the_text(stage: Stage) -> None:
    picture = stage.plot()
    assert (picture.description, repr(stage)) == (str(stage), str(stage))
    drawn = [written.get_text() for written in texts_of(picture)]
    legend = str(stage).splitlines()[-1]
    said = set(words(str(stage).removesuffix(legend)))
    assert said - set(words(" ".join(drawn))) - {"·"} == set()


@pytest.mark.soak(after=2)
async def test_what_is_written_stays_in_its_lane_and_can_be_read(stage: Stage) -> None:
    picture = stage.plot()
    renderer = FigureCanvasAgg(picture).get_renderer()
    width, height = picture.get_size_inches() * picture.dpi
    boxes = [(written, written.get_window_extent(renderer)) for written in texts_of(picture)]
    for written, box in boxes:
        assert written.get_fontsize() >= 8
        assert 0 <= box.x0 <= box.x1 <= width, written.get_text()
        assert 0 <= box.y0 <= box.y1 <= height, written.get_text()
    for (one, box), (other, beside) in combinations(boxes, 2):
        crossed = min(box.x1, beside.x1) - max(box.x0, beside.x0), min(box.y1, beside.y1) - max(box.y0, beside.y0)
        assert crossed[0] <= 0 or crossed[1] <= 2, (one.get_text(), other.get_text())  # descenders may touch


@pytest.mark.soak(after=1)
async def test_a_picture_is_as_wide_as_a_notebook(stage: Stage) -> None:
    png = stage._repr_mimebundle_()[0]["image/png"]
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") <= 2 * 9.2 * DOTS_PER_INCH


async def test_the_text_fits_a_terminal(stage: Stage) -> None:
    assert max(map(len, str(stage).splitlines())) <= 106


def test_every_actor_has_a_colour_of_the_palette_and_none_that_of_errors() -> None:
    assert set(ACTORS) <= set(INKS)
    assert len(set(ACTORS)) == len(ACTORS)
    assert WRONG not in ACTORS


async def test_nothing_that_changes_from_run_to_run_is_shown(engine: AsyncEngine) -> None:
    async def identity(session: AsyncSession, user_id: object) -> object:
        return user_id

    async with Stage(engine) as stage:
        ada = stage.actor("Ada")
        await ada(identity, uuid4())
        await ada(identity, str(uuid4()))
        await ada("SELECT id, now() FROM users WHERE id <> :id LIMIT 1", id=uuid4())
        await ada(identity, User(email=ADA, name="Ada"))
        await ada.commit()
    assert [line.strip("│ ") for line in str(stage).splitlines()[1:-1]] == [
        "1    identity(…)", "→ a UUID", "2    identity(…)", "→ a str",
        "3  │ SELECT id, now() FROM users WHERE id <> :id LIMIT 1", "1 row",
        "4  │ identity(User)", "→ a User", "5  └ COMMIT",
    ]  # fmt: skip


def test_results_are_told_in_few_words() -> None:
    assert [spoken_value(value) for value in (None, 40, True, "Hana", "x" * 30, [1, 2], ["x" * 30] * 3, ())] == [
        "done", "→ 40", "→ True", "→ 'Hana'", f"→ '{'x' * 23}…'", "→ 1, 2", "→ 3 values", "→ 0 values",
    ]  # fmt: skip
    assert spoken_call(asyncio.sleep, [5, None, User], {"twice": True}) == "sleep(5, None, User, twice=True)"


async def test_a_transaction_that_ended_is_not_joined_to_the_next(engine: AsyncEngine) -> None:
    async with Stage(engine) as stage:
        ada = stage.actor("Ada")
        await ada("SELECT 1")
        await ada.commit()
        await ada("SELECT 2")
        unfinished = str(stage)
    assert [line[5] for line in unfinished.splitlines()[1:-1]] == ["│", "│", "└", "│", "│"]
    assert str(stage).splitlines()[-2] == "end  └ rolled back"


async def test_autocommit_has_no_band(engine: AsyncEngine) -> None:
    async with Stage(engine) as stage:
        ada = stage.actor("Ada", isolation_level="AUTOCOMMIT")
        await ada("SELECT 1")
        await ada.commit()
    assert not set("│░╳└") & set(str(stage))


async def test_an_empty_stage_can_be_looked_at(engine: AsyncEngine) -> None:
    async with Stage(engine) as stage:
        assert str(stage) == "an empty stage"
        stage.actor("Ada")
    assert str(stage).split() == ["Ada"]
    assert stage.plot().png().startswith(b"\x89PNG")
