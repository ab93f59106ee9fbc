"""The stored runs of the engines: complete, and of what the bench writes today."""

from __future__ import annotations

import pytest

from course_lib.bench.installed_stores import STORES
from course_lib.data.engine_runs import TARGET, engine_run


@pytest.mark.parametrize("rows", [20_000, 100_000])
def test_a_run_has_every_engine_and_says_how_to_make_it_again(rows: int) -> None:
    run = engine_run(rows)
    assert set(run.engines) == {"pgvector", *STORES}
    assert run.command == f'make bench ARGS="--only choosing --rows {rows}"'
    assert run.date and run.machine and run.note
    for name, one in run.engines.items():
        assert run.search(name)["recall"] >= TARGET
        assert one["killed"]["added"] == 500 and one["version"] and one["settings"]


def test_the_ways_within_a_tenant() -> None:
    found = engine_run(20_000).within(0.01)
    assert {one.engine for one in found} == {"pgvector", *STORES}
    assert all(0 <= one.recall <= 1 and one.rows <= 10 and one.share == 0.01 for one in found)


def test_a_size_that_is_not_stored() -> None:
    with pytest.raises(LookupError, match="20000 and 100000"):
        engine_run(7)
