"""Answers to M3, fast yesterday."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import String, cast, func, select, text

from course_lib.models import Document
from course_lib.models import DocumentChunk as Passage
from tests.exercises.written import Answers

ANSWERS = Answers("M3")
IN_SQL = text("""
    SELECT chunk_index, content FROM document_chunks
    WHERE document_id = CAST(:document AS uuid) AND chunk_index >= :first AND chunk_index <= :last ORDER BY chunk_index
""")
SERIES = text("""
    SELECT chunk_index, content FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
    JOIN document_chunks ON chunk_index = n AND document_id = CAST(CAST(:document AS text) AS uuid) ORDER BY n
""")


async def found(session, *conditions, order=Passage.chunk_index):
    rows = await session.execute(select(Passage.chunk_index, Passage.content).where(*conditions).order_by(order))
    return [tuple(row) for row in rows]


def near(number, width):
    return Passage.chunk_index.between(number - width, number + width)


@ANSWERS.right
async def in_a_list(session, document_id, number, width):
    numbers = list(range(number - width, number + width + 1))
    return await found(session, Passage.document_id == UUID(document_id), Passage.chunk_index.in_(numbers))


@ANSWERS.right
async def in_sql(session, document_id, number, width):
    asked = {"document": UUID(document_id), "first": number - width, "last": number + width}
    return (await session.execute(IN_SQL, asked)).all()


@ANSWERS.right
async def a_series_of_numbers(session, document_id, number, width):
    asked = {"document": document_id, "first": number - width, "last": number + width}
    return [(row.chunk_index, row.content) for row in await session.execute(SERIES, asked)]


@ANSWERS.right
async def the_number_beside_the_distance(session, document_id, number, width):
    """The condition as it was found may stay, where one that the index answers stands beside it."""
    return await found(
        session,
        Passage.document_id == UUID(document_id),
        near(number, width),
        func.abs(Passage.chunk_index - number) <= width,
    )


@ANSWERS.right
async def converted_by_the_driver(session, document_id, number, width):
    return await found(session, Passage.document_id == document_id, near(number, width))


@ANSWERS.right
async def joined_with_the_document(session, document_id, number, width):
    around = select(Passage.chunk_index, Passage.content).join(Passage.document)
    around = around.where(Document.id == UUID(document_id), near(number, width)).order_by(Passage.chunk_index)
    return (await session.execute(around)).all()


@ANSWERS.wrong("thrown away")
async def the_number_only(session, document_id, number, width):
    return await found(session, cast(Passage.document_id, String) == document_id, near(number, width))


@ANSWERS.wrong("thrown away")
async def another_spelling_of_the_cast(session, document_id, number, width):
    lowered = func.lower(cast(Passage.document_id, String)) == document_id.lower()
    return await found(session, lowered, near(number, width))


@ANSWERS.wrong("thrown away")
async def the_document_only(session, document_id, number, width):
    return await found(
        session, Passage.document_id == UUID(document_id), func.abs(Passage.chunk_index - number) <= width
    )


@ANSWERS.wrong("thrown away")
async def computed_on_the_column(session, document_id, number, width):
    return await found(
        session,
        Passage.document_id == UUID(document_id),
        Passage.chunk_index - number <= width,
        Passage.chunk_index - number >= -width,
    )


@ANSWERS.wrong("thrown away")
async def filtered_in_python(session, document_id, number, width):
    rows = await found(session, Passage.document_id == UUID(document_id))
    return [row for row in rows if abs(row[0] - number) <= width]


@ANSWERS.wrong("thrown away")
async def as_a_number_of_another_type(session, document_id, number, width):
    distance = text("chunk_index::numeric BETWEEN :first AND :last").bindparams(
        first=number - width, last=number + width
    )
    return await found(session, Passage.document_id == UUID(document_id), distance)


@ANSWERS.wrong("whole table")
async def without_the_function(session, document_id, number, width):
    """What the other side adds up to is still computed on the column."""
    within = Passage.chunk_index + width >= number, Passage.chunk_index - width <= number
    return await found(session, cast(Passage.document_id, String) == document_id, *within)


@ANSWERS.wrong("whole table")
async def the_cast_in_another_table(session, document_id, number, width):
    documents = select(Document.id).where(cast(Document.id, String) == document_id)
    return await found(session, Passage.document_id.in_(documents), near(number, width))


@ANSWERS.wrong("too far")
async def neighbours_in_the_list(session, document_id, number, width):
    mine = Passage.document_id == UUID(document_id)
    before = (
        select(Passage.chunk_index, Passage.content)
        .where(mine, Passage.chunk_index < number)
        .order_by(Passage.chunk_index.desc())
        .limit(width)
    )
    after = (
        select(Passage.chunk_index, Passage.content)
        .where(mine, Passage.chunk_index >= number)
        .order_by(Passage.chunk_index)
        .limit(width + 1)
    )
    rows = [*await session.execute(before), *await session.execute(after)]
    return sorted(tuple(row) for row in rows)


@ANSWERS.wrong("missing")
async def without_the_last_one(session, document_id, number, width):
    within = Passage.chunk_index >= number - width, Passage.chunk_index < number + width
    return await found(session, Passage.document_id == UUID(document_id), *within)


@ANSWERS.wrong("missing")
async def nothing_where_the_hit_is_gone(session, document_id, number, width):
    rows = await found(session, Passage.document_id == UUID(document_id), near(number, width))
    return rows if any(row[0] == number for row in rows) else []


@ANSWERS.wrong("strangers")
async def of_all_documents(session, document_id, number, width):
    return await found(session, near(number, width))


@ANSWERS.wrong("twice")
async def both_sides_with_the_middle(session, document_id, number, width):
    mine = Passage.document_id == UUID(document_id)
    before = await found(session, mine, Passage.chunk_index.between(number - width, number))
    return before + await found(session, mine, Passage.chunk_index.between(number, number + width))


@ANSWERS.wrong("order")
async def nearest_first(session, document_id, number, width):
    order = func.abs(Passage.chunk_index - number)
    return await found(session, Passage.document_id == UUID(document_id), near(number, width), order=order)


@ANSWERS.wrong("schema changed")
async def another_index(session, document_id, number, width):
    await session.execute(
        text("CREATE INDEX IF NOT EXISTS around ON document_chunks ((document_id::text), chunk_index)")
    )
    await session.commit()
    return await found(session, text("document_id::text = :id").bindparams(id=document_id), near(number, width))


@ANSWERS.wrong("not pairs")
async def objects(session, document_id, number, width):
    mine = (
        select(Passage)
        .where(Passage.document_id == UUID(document_id), near(number, width))
        .order_by(Passage.chunk_index)
    )
    return (await session.scalars(mine)).all()


@ANSWERS.wrong("not a list")
async def by_number(session, document_id, number, width):
    return dict(await found(session, Passage.document_id == UUID(document_id), near(number, width)))


@ANSWERS.wrong("nothing returned")
async def nothing_said(session, document_id, number, width):
    await found(session, Passage.document_id == UUID(document_id), near(number, width))
