"""The tables of a database as they are, read from its catalogue and drawn."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from sqlalchemy import Connection, ForeignKey, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments.pictures import COLOURS, FAINT, INK, LINE, Picture, card

HIDDEN = {"alembic_version"}  # the migrations' own table, not the product's
WIDTH, ROW, GAP_X, GAP_Y = 2.3, 0.23, 1.0, 0.35  # inches
LIMIT_COLUMNS = 8  # lines in a box


async def read_schema(engine: AsyncEngine) -> dict[str, Table]:
    """The tables of schema ``public``, by name, reflected from the running server."""

    def reflect(connection: Connection) -> MetaData:
        import pgvector.sqlalchemy  # teaches reflection the type vector  # noqa: F401

        metadata = MetaData()
        metadata.reflect(connection)
        return metadata

    async with engine.connect() as connection:
        metadata = await connection.run_sync(reflect)
    return {name: table for name, table in metadata.tables.items() if name not in HIDDEN}


def draw_schema(tables: Mapping[str, Table]) -> Picture:
    """Boxes for tables, arrows for foreign keys; what refers to others stands to their right."""
    places = _places(tables)
    right = max(x for x, _ in places.values()) + WIDTH
    bottom = min(y - _height(tables[name]) for name, (_, y) in places.items())
    arrows = [(key.parent.table.name, key.parent.name, key.column.table.name) for key in _keys(tables)]
    words = "; ".join(f"{table}.{column} refers to {other}" for table, column, other in sorted(arrows))
    picture, axes = card(right + 0.2, -bottom + 0.2, f"{len(tables)} tables: {words}")
    axes.set_xlim(-0.1, right + 0.1)
    axes.set_ylim(bottom - 0.1, 0.1)
    axes.set_aspect("equal")
    for name, (x, y) in places.items():
        _draw_table(axes, tables[name], x, y)
    for table, column, other in arrows:
        _draw_arrow(axes, tables, places, (table, column, other))
    return picture


def _keys(tables: Mapping[str, Table]) -> list[ForeignKey]:
    return [key for table in tables.values() for key in table.foreign_keys]


def _depth(table: Table, seen: frozenset[Table] = frozenset()) -> int:
    """0 for a table that refers to no other, else one more than the deepest it refers to; circles count once."""
    seen |= {table}
    parents = {key.column.table for key in table.foreign_keys} - seen
    return 1 + max(_depth(parent, seen) for parent in parents) if parents else 0


def _height(table: Table) -> float:
    return ROW * (1.45 + len(_columns(table)))


def _columns(table: Table) -> list[str]:
    """Column names; what does not fit is counted in the last line."""
    names = [column.name for column in table.columns]
    if len(names) <= LIMIT_COLUMNS:
        return names
    kept = names[: LIMIT_COLUMNS - 1]
    return [*kept, f"and {len(names) - len(kept)} more"]


def _places(tables: Mapping[str, Table]) -> dict[str, tuple[float, float]]:
    """Top left corners, in inches: a column per depth, each centred on the tallest."""
    levels: dict[int, list[str]] = {}
    for name in sorted(tables):
        levels.setdefault(_depth(tables[name]), []).append(name)
    heights = {level: sum(_height(tables[n]) + GAP_Y for n in names) - GAP_Y for level, names in levels.items()}
    places: dict[str, tuple[float, float]] = {}
    for level, names in sorted(levels.items()):
        y = -(max(heights.values()) - heights[level]) / 2
        for name in sorted(names, key=lambda name: (-_parents_height(tables[name], places), name)):
            places[name] = (level * (WIDTH + GAP_X), y)
            y -= _height(tables[name]) + GAP_Y
    return places


def _parents_height(table: Table, places: Mapping[str, tuple[float, float]]) -> float:
    """Where the tables it refers to stand: neighbours of their parents, so that arrows do not cross."""
    parents = {key.column.table.name for key in table.foreign_keys}
    heights = [places[name][1] for name in parents if name in places]
    return sum(heights) / len(heights) if heights else 0.0


def _draw_table(axes: Axes, table: Table, x: float, y: float) -> None:
    height = _height(table)
    box = FancyBboxPatch(
        (x, y - height), WIDTH, height, boxstyle="round,pad=0,rounding_size=0.08",
        facecolor="white", edgecolor=LINE, linewidth=1.2,
    )  # fmt: skip
    axes.add_patch(box)
    axes.text(x + 0.12, y - 0.62 * ROW, table.name, color=INK, size=10.5, weight="bold", va="center")
    axes.plot([x, x + WIDTH], [y - 1.2 * ROW] * 2, color=LINE, linewidth=1)
    for index, name in enumerate(_columns(table)):
        height = y - ROW * (1.75 + index)
        column = table.columns.get(name)
        key = column is not None and (column.primary_key or bool(column.foreign_keys))
        axes.text(x + 0.12, height, name, color=COLOURS[0] if key else INK, size=8.5, va="center")
        if column is not None:
            axes.text(x + WIDTH - 0.12, height, _type(column.type), color=FAINT, size=7.5, va="center", ha="right")


def _type(kind: object) -> str:
    names = {"TIMESTAMP": "timestamptz", "DOUBLE PRECISION": "float8"}
    text = str(kind)
    return names.get(text, text.lower())


def _draw_arrow(
    axes: Axes,
    tables: Mapping[str, Table],
    places: Mapping[str, tuple[float, float]],
    key: tuple[str, str, str],
) -> None:
    """From the referring column to the middle of the other table's right side."""
    table, column, other = key
    names = _columns(tables[table])
    x, y = places[table]
    row = names.index(column) if column in names else len(names) - 1
    start = (x, y - ROW * (1.75 + row))
    end_x, end_y = places[other]
    end = (end_x + WIDTH, end_y - ROW * 1.75)
    axes.annotate(
        "", xy=end, xytext=start,
        arrowprops={
            "arrowstyle": "-|>", "color": COLOURS[0], "linewidth": 1.3, "shrinkA": 0, "shrinkB": 1,
            "connectionstyle": "arc3,rad=0.12",
        },
    )  # fmt: skip
