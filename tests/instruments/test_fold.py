"""Statements are folded for reading, and into shapes that a loop's repeats share."""

from __future__ import annotations

import pytest

from course_lib.instruments.query_log.fold import is_bulk, line_of, shape_of


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT t.a\nFROM   t\n  WHERE t.a = $1::UUID", "SELECT t.a FROM t WHERE t.a = $1"),
        ("SELECT a FROM t WHERE b = %(b_1)s::VARCHAR AND c = %(c)s", "SELECT a FROM t WHERE b = $1 AND c = $2"),
        ("UPDATE t SET a=%(a)s::NUMERIC, b=b %% %(b)s", "UPDATE t SET a=$1, b=b % $2"),
        ("SELECT a FROM t WHERE b > $1::TIMESTAMP WITH TIME ZONE LIMIT $2", "SELECT a FROM t WHERE b > $1 LIMIT $2"),
        ("SELECT t.a, t.b, t.c, t.d, t.e FROM t", "SELECT … 5 columns … FROM t"),
        ("SELECT t.a, t.b, t.c, t.d FROM t", "SELECT t.a, t.b, t.c, t.d FROM t"),
        ("SELECT t.a AS t_a, count(*) AS count_1 FROM t", "SELECT t.a, count(*) FROM t"),
        ("SELECT t.a AS price FROM t", "SELECT t.a AS price FROM t"),
        (
            "SELECT t.a, t.b, t.c, t.d, t.e, row_number() OVER (PARTITION BY t.a ORDER BY t.b) AS n FROM t",
            "SELECT … 5 columns …, row_number() OVER (PARTITION BY t.a ORDER BY t.b) AS n FROM t",
        ),
        ("SELECT a FROM t WHERE a IN ($1, $2, $3)", "SELECT a FROM t WHERE a IN ($1, $2, $3)"),
        ("SELECT a FROM t WHERE a IN ($1, $2, $3, $4) LIMIT $5", "SELECT a FROM t WHERE a IN (… ×4) LIMIT $1"),
        ("SELECT a FROM t WHERE (a, b) IN (($1, $2), ($3, $4), ($5, $6), ($7, $8))",
         "SELECT a FROM t WHERE (a, b) IN (… ×4)"),
        ("SELECT a FROM t WHERE a IN (SELECT u.b FROM u WHERE u.c = $1)",
         "SELECT a FROM t WHERE a IN (SELECT u.b FROM u WHERE u.c = $1)"),
        ("INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)", "INSERT INTO t (a, b) VALUES (… ×2)"),
        ("INSERT INTO t (a, b, c, d, e) VALUES ($1, $2, $3, $4, $5) RETURNING t.id",
         "INSERT INTO t (… 5 columns) VALUES (…) RETURNING t.id"),
        (
            "INSERT INTO t (a) SELECT p0::VARCHAR FROM (VALUES ($1::VARCHAR, 0), ($2::VARCHAR, 1)) "
            "AS imp_sen(p0, sen_counter) ORDER BY sen_counter RETURNING t.id, t.id AS id__1",
            "INSERT INTO t (a) VALUES (… ×2) RETURNING t.id",
        ),
        ("SELECT a IS DISTINCT FROM b FROM t", "SELECT a IS DISTINCT FROM b FROM t"),
        ("SELECT 'two  words, FROM here' FROM t", "SELECT 'two  words, FROM here' FROM t"),
        ("SELECT a::text, t.m['k'] FROM t -- why\nWHERE a <> '' /* not empty */",
         "SELECT a::text, t.m['k'] FROM t WHERE a <> ''"),
        ("SAVEPOINT sa_savepoint_17", "SAVEPOINT"),
        ("DELETE FROM t USING u WHERE t.a = u.a", "DELETE FROM t USING u WHERE t.a = u.a"),
    ],
)  # fmt: skip
def test_a_statement_is_folded_into_one_line(sql: str, line: str) -> None:
    assert line_of(sql) == line


def test_the_line_cuts_a_long_constant() -> None:
    assert len(line_of(f"SELECT a FROM t WHERE a = '{'x' * 500}'")) < 80


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t WHERE a IN ($1)", "SELECT a FROM t WHERE a IN ($1, $2, $3, $4, $5)"),
        ("SELECT a FROM t WHERE a IN ($1, $2) LIMIT $3", "SELECT a FROM t WHERE a IN ($1) LIMIT $2"),
        ("INSERT INTO t (a) VALUES ($1)", "INSERT INTO t (a) VALUES ($1), ($2)"),
        ("SELECT a FROM t WHERE a = 'ada'", "SELECT a FROM t WHERE a = 'it''s bruno'"),
        ("SELECT a FROM t WHERE a = 7", "SELECT a FROM t WHERE a = 12.5"),
        ("SELECT a FROM t WHERE a = $1::UUID", "SELECT a FROM t WHERE a = %(a_1)s::UUID"),
    ],
)
def test_what_a_loop_repeats_has_one_shape(one: str, other: str) -> None:
    assert shape_of(one) == shape_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t WHERE a = $1", "SELECT a FROM t WHERE b = $1"),
        ("SELECT a FROM t WHERE a = $1 AND b = $1", "SELECT a FROM t WHERE a = $1 AND b = $2"),
        ("SELECT a FROM t", "SELECT a FROM t FOR UPDATE"),
        ('SELECT a FROM "T"', "SELECT a FROM t"),
    ],
)
def test_different_questions_have_different_shapes(one: str, other: str) -> None:
    assert shape_of(one) != shape_of(other)


def test_many_keys_or_many_rows_are_bulk() -> None:
    assert is_bulk("SELECT a FROM t WHERE a IN ($1, $2)")
    assert is_bulk("INSERT INTO t (a) VALUES ($1), ($2)")
    assert not is_bulk("SELECT a FROM t WHERE a IN ($1)")
    assert not is_bulk("SELECT a FROM t WHERE a = $1")


@pytest.mark.parametrize("sql", ["", "(", "SELECT", "SELECT (a FROM t", "IN (", "VALUES (", "INSERT INTO t (", "'open"])
def test_a_broken_statement_is_folded_too(sql: str) -> None:
    assert isinstance(line_of(sql), str)
    assert isinstance(shape_of(sql), str)
