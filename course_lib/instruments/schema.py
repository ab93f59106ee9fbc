"""The tables of a database as they are, read from its catalogue and drawn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from sqlalchemy import Connection, ForeignKey, MetaData, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError, NoReferencedTableError, SAWarning
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import TypeEngine

from course_lib.instruments.pictures import INK, INKS, LINE, SOFT, Picture, card, fitted, written

HIDDEN = {"alembic_version"}  # the migrations' own table, not the product's
WIDTH, ROW, GAP_X, GAP_Y = 2.3, 0.23, 1.0, 0.35  # inches
INDENT, BETWEEN = 0.12, 0.15  # inches: within a box, and between a column's name and its type
LIMIT_COLUMNS = 8  # lines in a box
SHORTER = {
    "TIMESTAMP WITH TIME ZONE": "timestamptz", "TIMESTAMP WITHOUT TIME ZONE": "timestamp", "DOUBLE PRECISION": "float8",
}  # fmt: skip
PARTITIONS = text("""
    SELECT relname, relispartition, pg_get_partkeydef(oid),
           CASE relkind WHEN 'p' THEN (SELECT count(*) FROM pg_partition_tree(oid) WHERE isleaf) END
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND (relkind = 'p' OR relkind IN ('r', 'f') AND relispartition)
""")


async def read_schema(engine: AsyncEngine) -> dict[str, Table]:
    """The tables of schema ``public``, by name, reflected from the running server.

    A partitioned table is one table; its ``info["partitions"]`` says how it is partitioned.
    """
    async with engine.connect() as connection:
        metadata = await connection.run_sync(_reflect)
        found = (await connection.execute(PARTITIONS)).all()
    tables = {table.name: table for table in metadata.tables.values() if table.schema is None}
    for name, is_partition, rule, leaves in found:
        if is_partition:
            tables.pop(name).info["partition"] = True
        else:
            tables[name].info["partitions"] = f"{_counted(leaves, 'partition')} by {rule}"
    return {name: table for name, table in tables.items() if name not in HIDDEN}


def _reflect(connection: Connection) -> MetaData:
    import pgvector.sqlalchemy  # teaches reflection the type vector  # noqa: F401

    metadata = MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # a type that SQLAlchemy does not know is drawn without its name
        metadata.reflect(connection)
    return metadata


def draw_schema(tables: Mapping[str, Table]) -> Picture:
    """Boxes for tables, arrows for foreign keys; what refers to others stands to their right.

    A key that leads to the table itself, or to one that is not among ``tables``, names it in place of the type.
    """
    if not tables:
        return _draw_nothing()
    keys = _keys(tables)
    places = _places(tables, keys)
    right = max(x for x, _ in places.values()) + WIDTH
    bottom = min(y - _height(tables[name]) for name, (_, y) in places.items())
    picture, axes = card(right + 0.2, -bottom + 0.2, _words(tables, keys))
    axes.set_xlim(-0.1, right + 0.1)
    axes.set_ylim(bottom - 0.1, 0.1)
    axes.set_aspect("equal")
    for name, (x, y) in places.items():
        told = {key.column: key.other for key in keys if key.table == name and not key.is_arrow}
        _draw_table(axes, name, tables[name], told, (x, y))
    for key in keys:
        if key.is_arrow:
            _draw_arrow(axes, tables, places, key)
    return picture


class Key(NamedTuple):
    """A column of a foreign key, and the table it refers to; ``is_drawn`` when that is in the picture."""

    table: str
    column: str
    other: str
    is_drawn: bool

    @property
    def is_arrow(self) -> bool:
        return self.is_drawn and self.table != self.other


def _keys(tables: Mapping[str, Table]) -> list[Key]:
    names = {table: name for name, table in tables.items()}
    found = set()
    for name, table in tables.items():
        for key in table.foreign_keys:
            other = _target(key)
            if other is None or "partition" not in other.info:  # each partition of a table gets a copy of its keys
                full = key.target_fullname.rpartition(".")[0] if other is None else other.fullname
                drawn = None if other is None else names.get(other)
                found.add(Key(name, key.parent.name, drawn or full, drawn is not None))
    return sorted(found)


def _target(key: ForeignKey) -> Table | None:
    """The table that a key refers to; None where the metadata do not hold it."""
    try:
        return key.column.table
    except NoReferencedTableError:
        return None


def _words(tables: Mapping[str, Table], keys: list[Key]) -> str:
    said = [
        f"{key.table}.{key.column} refers to {key.other}" + ("" if key.is_drawn else ", which is not drawn")
        for key in keys
    ]
    said += [f"{name} has {table.info['partitions']}" for name, table in tables.items() if "partitions" in table.info]
    return f"{_counted(len(tables), 'table')}: {'; '.join(said) or 'none refers to another'}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _draw_nothing() -> Picture:
    picture, axes = card(WIDTH, 0.6, "no tables")
    axes.text(0.5, 0.5, "no tables", color=SOFT, size=10, ha="center", va="center")
    return picture


def _depth(name: str, keys: list[Key], seen: frozenset[str] = frozenset()) -> int:
    """0 for a table that refers to no other, else one more than the deepest it refers to; circles count once."""
    seen |= {name}
    parents = {key.other for key in keys if key.table == name and key.is_arrow} - seen
    return 1 + max(_depth(parent, keys, seen) for parent in parents) if parents else 0


def _height(table: Table) -> float:
    return ROW * (1.45 + len(_lines(table)))


def _lines(table: Table) -> list[str]:
    """Column names, and the last line of a partitioned table; columns that do not fit are counted."""
    names = [column.name for column in table.columns]
    if len(names) > LIMIT_COLUMNS:
        kept = names[: LIMIT_COLUMNS - 1]
        names = [*kept, f"and {len(names) - len(kept)} more"]
    return [*names, *([table.info["partitions"]] if "partitions" in table.info else [])]


def _places(tables: Mapping[str, Table], keys: list[Key]) -> dict[str, tuple[float, float]]:
    """Top left corners, in inches: a column per depth, each centred on the tallest."""
    levels: dict[int, list[str]] = {}
    for name in sorted(tables):
        levels.setdefault(_depth(name, keys), []).append(name)
    heights = {level: sum(_height(tables[n]) + GAP_Y for n in names) - GAP_Y for level, names in levels.items()}
    places: dict[str, tuple[float, float]] = {}
    for place, (level, names) in enumerate(sorted(levels.items())):
        y = -(max(heights.values()) - heights[level]) / 2
        for name in sorted(names, key=lambda name: (-_parents_height(name, keys, places), name)):
            places[name] = (place * (WIDTH + GAP_X), y)
            y -= _height(tables[name]) + GAP_Y
    return places


def _parents_height(name: str, keys: list[Key], places: Mapping[str, tuple[float, float]]) -> float:
    """Where the tables it refers to stand: neighbours of their parents, so that arrows do not cross."""
    heights = [places[other][1] for other in {key.other for key in keys if key.table == name} if other in places]
    return sum(heights) / len(heights) if heights else 0.0


def _draw_table(axes: Axes, name: str, table: Table, told: Mapping[str, str], corner: tuple[float, float]) -> None:
    """``told``: by column the tables that keys refer to without an arrow. ``corner``: the upper left."""
    x, y = corner
    height = _height(table)
    box = FancyBboxPatch(
        (x, y - height), WIDTH, height, boxstyle="round,pad=0,rounding_size=0.08",
        facecolor="white", edgecolor=LINE, linewidth=1.2,
    )  # fmt: skip
    axes.add_patch(box)
    shown = fitted(name, 10.5, WIDTH - 2 * INDENT, "bold")
    axes.text(x + INDENT, y - 0.62 * ROW, shown, color=INK, size=10.5, weight="bold", va="center", parse_math=False)
    axes.plot([x, x + WIDTH], [y - 1.2 * ROW] * 2, color=LINE, linewidth=1)
    for index, line in enumerate(_lines(table)):
        column = table.columns.get(line)
        key = column is not None and (column.primary_key or bool(column.foreign_keys))
        kind = f"→ {told[line]}" if line in told else "" if column is None else _type(column.type)
        ink = INKS[0] if key else INK if column is not None else SOFT
        _draw_line(axes, x, y - ROW * (1.75 + index), (line, ink), (kind, INKS[0] if line in told else SOFT))


def _draw_line(axes: Axes, x: float, y: float, left: tuple[str, str], right: tuple[str, str]) -> None:
    """A name and a type, each with its colour; the type makes room where both do not fit."""
    room = WIDTH - 2 * INDENT
    name = fitted(left[0], 8.5, room)
    kind = fitted(right[0], 8, max(room - BETWEEN - written(name, 8.5), 0.35))
    name = fitted(name, 8.5, room - BETWEEN - written(kind, 8)) if kind else name
    axes.text(x + INDENT, y, name, color=left[1], size=8.5, va="center", parse_math=False)
    axes.text(x + WIDTH - INDENT, y, kind, color=right[1], size=8, va="center", ha="right", parse_math=False)


def _type(kind: TypeEngine[object]) -> str:
    """PostgreSQL's name for it; an enum or a domain has its own. Nothing where SQLAlchemy does not know it."""
    try:
        name = kind.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    except CompileError:
        return ""
    return SHORTER.get(name, name.lower() if name.isupper() else name)


def _draw_arrow(axes: Axes, tables: Mapping[str, Table], places: Mapping[str, tuple[float, float]], key: Key) -> None:
    """From the referring column to the middle of the other table's right side."""
    lines = _lines(tables[key.table])
    x, y = places[key.table]
    hidden = min(len(lines), LIMIT_COLUMNS) - 1  # the line that counts what is not shown
    row = lines.index(key.column) if key.column in lines else hidden
    start = (x, y - ROW * (1.75 + row))
    end_x, end_y = places[key.other]
    end = (end_x + WIDTH, end_y - ROW * 1.75)
    axes.annotate(
        "", xy=end, xytext=start,
        arrowprops={
            "arrowstyle": "-|>", "color": INKS[0], "linewidth": 1.3, "shrinkA": 0, "shrinkB": 1,
            "connectionstyle": "arc3,rad=0.12",
        },
    )  # fmt: skip
