"""What is in a database, read from the server's catalogue: everything a migration can make, change or forget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.judging.attempt import Attempt
from course_lib.judging.quoting import one_line

Key = tuple[str, str]
"""What it is (``column``, ``index``, ``type`` …) and its name, for example ``documents.title``."""

LOOK = r"""
WITH ours AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
extensions AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
relations AS (
    SELECT c.* FROM pg_class AS c JOIN ours ON ours.oid = relnamespace
    WHERE NOT EXISTS (SELECT FROM extensions AS e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
),
types AS (
    SELECT t.* FROM pg_type AS t JOIN ours ON ours.oid = typnamespace
    WHERE NOT EXISTS (SELECT FROM extensions AS e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)
),
functions AS (
    SELECT p.* FROM pg_proc AS p JOIN ours ON ours.oid = pronamespace
    WHERE prokind IN ('f', 'p')
        AND NOT EXISTS (SELECT FROM extensions AS e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
)
SELECT 'schema', nspname, '' FROM ours
UNION ALL SELECT 'extension', extname, extversion FROM pg_extension
UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'table' END, r.oid::regclass::text, concat_ws(
    ', ', relkind::text, relpersistence, relrowsecurity, relforcerowsecurity, relreplident, reloptions, relacl,
    CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(r.oid) END, obj_description(r.oid, 'pg_class'),
    (SELECT string_agg(inhparent::regclass::text, ', ') FROM pg_inherits WHERE inhrelid = r.oid)
) FROM relations AS r WHERE relkind IN ('r', 'p', 'f', 'v', 'm')
UNION ALL
SELECT 'column', format('%s.%s', r.oid::regclass, attname), concat_ws(
    ' ', format_type(atttypid, atttypmod),
    CASE WHEN attcollation <> typcollation THEN 'COLLATE ' || CAST(attcollation AS regcollation)::text END,
    CASE WHEN attnotnull THEN 'NOT NULL' END,
    CASE WHEN NOT coalesce(n.convalidated, true) THEN 'NOT VALID' END,
    CASE attgenerated WHEN '' THEN 'DEFAULT ' ELSE 'GENERATED ' || attgenerated::text || ' ' END
        || pg_get_expr(adbin, adrelid),
    CASE attidentity WHEN '' THEN NULL ELSE 'IDENTITY ' || attidentity::text END,
    CASE WHEN attstorage <> typstorage THEN 'STORAGE ' || attstorage::text END, nullif(attcompression, ''),
    attoptions, attacl, col_description(r.oid, attnum)
)
FROM relations AS r JOIN pg_attribute AS a ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_type AS t ON t.oid = atttypid LEFT JOIN pg_attrdef ON adrelid = r.oid AND adnum = attnum
LEFT JOIN pg_constraint AS n ON conrelid = r.oid AND contype = 'n' AND conkey = ARRAY[attnum]
WHERE relkind IN ('r', 'p', 'f', 'v', 'm')
UNION ALL
SELECT 'constraint', format(
    '%s.%s', coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text), conname
), concat_ws(
    ' ', pg_get_constraintdef(c.oid), CASE WHEN NOT convalidated THEN '(not validated)' END,
    obj_description(c.oid, 'pg_constraint')
)
FROM pg_constraint AS c JOIN ours ON ours.oid = connamespace WHERE contype <> 'n'
UNION ALL
SELECT 'index', r.oid::regclass::text, concat_ws(
    ' ', pg_get_indexdef(r.oid), CASE WHEN NOT (indisvalid AND indisready) THEN '(invalid)' END,
    CASE WHEN indisclustered THEN '(clustered)' END, CASE WHEN indisreplident THEN '(identity)' END,
    obj_description(r.oid, 'pg_class')
)
FROM relations AS r JOIN pg_index ON indexrelid = r.oid
UNION ALL
SELECT 'sequence', r.oid::regclass::text, concat_ws(
    ' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle, relacl
)
FROM relations AS r JOIN pg_sequence ON seqrelid = r.oid
UNION ALL
SELECT 'type', t.oid::regtype::text, concat_ws(
    ' ', typtype::text,
    (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
    CASE WHEN typtype = 'd' THEN concat_ws(' ', format_type(typbasetype, typtypmod), typnotnull, typdefault) END,
    typacl, obj_description(t.oid, 'pg_type')
)
FROM types AS t
WHERE typtype IN ('e', 'd', 'r')
    OR typtype = 'c' AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = typrelid AND c.relkind = 'c')
UNION ALL SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid) FROM functions
UNION ALL
SELECT 'trigger', format('%s.%s', tgrelid::regclass, tgname), pg_get_triggerdef(t.oid) || ' ' || tgenabled::text
FROM pg_trigger AS t JOIN relations ON relations.oid = tgrelid WHERE NOT tgisinternal
UNION ALL
SELECT 'policy', format('%s.%s', polrelid::regclass, polname), concat_ws(
    ' ', polcmd::text, polpermissive, polroles, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
)
FROM pg_policy
UNION ALL
SELECT 'rule', format('%s.%s', ev_class::regclass, rulename), pg_get_ruledef(r.oid)
FROM pg_rewrite AS r JOIN relations ON relations.oid = ev_class WHERE rulename <> '_RETURN'
UNION ALL
SELECT 'statistics', s.stxname, pg_get_statisticsobjdef(s.oid)
FROM pg_statistic_ext AS s JOIN ours ON ours.oid = stxnamespace
"""
COLUMNS = """
    SELECT format('%s.%s', c.oid::regclass, attname) FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid
    WHERE relkind IN ('r', 'p', 'f') AND attnum > 0 AND NOT attisdropped AND relnamespace <> 'pg_catalog'::regnamespace
"""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was; ``was`` or ``now`` is None where it was not there, or is not any more."""

    kind: str
    name: str
    was: str | None
    now: str | None

    @property
    def thing(self) -> str:
        """``type visibility``."""
        return f"{self.kind} {self.name}"

    def __str__(self) -> str:
        if self.was is None:
            return f"{self.thing} is there, and was not before"
        if self.now is None:
            return f"{self.thing} is gone"
        return f"{self.thing} was {one_line(self.was)} and is {one_line(self.now)}"


@dataclass(frozen=True)
class Catalogue:
    """Each thing's definition. Names are without the schema where that is ``public``."""

    things: Mapping[Key, str]

    def __contains__(self, key: Key) -> bool:
        return key in self.things

    def get(self, kind: str, name: str) -> str | None:
        """Its definition, None where it is not there."""
        return self.things.get((kind, name))

    def names(self, kind: str) -> list[str]:
        """Of all things of a kind."""
        return sorted(name for one, name in self.things if one == kind)

    def since(self, before: Catalogue, without: Iterable[Key] = ()) -> list[Difference]:
        """What is different from ``before``, in the order of kind and name; without these things."""
        keys = (self.things.keys() | before.things.keys()) - set(without)
        pairs = [(key, before.things.get(key), self.things.get(key)) for key in sorted(keys)]
        return [Difference(*key, was, now) for key, was, now in pairs if was != now]


async def look_at_catalogue(attempt: Attempt, session: AsyncSession | None = None) -> Catalogue:
    """Tables, columns, constraints, indexes, types, sequences, functions, triggers, policies; of no extension.

    The order of columns is not in it: a column that went and came back stands last, and programs name their columns.
    Reading a default takes ACCESS SHARE on its table, which waits behind whoever waits for ACCESS EXCLUSIVE there; a
    ``session`` that has a lock on it already does not.
    """
    if session is None:
        rows: Iterable[Any] = await attempt.sql(LOOK)
    else:
        rows = await session.execute(text(LOOK))
    return Catalogue({(kind, name): definition for kind, name, definition in rows})


async def rows_of(attempt: Attempt, catalogue: Catalogue) -> dict[str, str]:
    """A fingerprint of every table's rows, of the columns in ``catalogue`` alone; "" where one of them is gone.

    Asked before and after a migration with the catalogue from before, it says whether rows were kept.
    """
    columns: dict[str, list[str]] = {table: [] for table in catalogue.names("table") if table != "alembic_version"}
    for name in catalogue.names("column"):
        table, _, column = name.rpartition(".")
        if table in columns:
            columns[table].append(column)
    there = {name for (name,) in await attempt.sql(COLUMNS)}
    asked = {
        table: f"(SELECT md5(coalesce(string_agg(r, '' ORDER BY r), '')) FROM "
        f"(SELECT CAST(ROW({', '.join(names)}) AS text) AS r FROM {table}))"
        for table, names in columns.items()
        if all(f"{table}.{name}" in there for name in names)
    }
    prints = (await attempt.sql(f"SELECT {', '.join(asked.values())}"))[0] if asked else ()
    return dict.fromkeys(columns, "") | dict(zip(asked, prints, strict=True))
