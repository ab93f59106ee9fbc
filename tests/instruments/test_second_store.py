"""The second store: what it keeps, when it fails, and what it finds."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from course_lib.instruments import SecondStore, StoreFailed

ONE, TWO = uuid4(), uuid4()


async def test_it_adds_replaces_and_removes_by_document(tmp_path: Path) -> None:
    with SecondStore(tmp_path / "store") as store:
        await store.upsert(ONE, [(0, [1.0, 0.0]), (5, [0.0, 1.0])])
        await store.upsert(ONE, [(0, [0.5, 0.5])])
        await store.upsert(TWO, [(0, np.array([1, 1], dtype=np.float64))])
        held = await store.passages()
        assert held[ONE] == {0: np.float32([0.5, 0.5]).tobytes(), 5: np.float32([0, 1]).tobytes()}
        await store.delete(ONE)
        await store.delete(ONE)
        assert await store.documents() == {TWO}


async def test_another_client_of_the_same_file_sees_it(tmp_path: Path) -> None:
    with SecondStore(tmp_path / "store") as store, SecondStore(tmp_path / "store") as other:
        await store.upsert(ONE, [(0, [1.0])])
        assert await other.documents() == {ONE}


async def test_it_fails_before_or_after_a_call_is_applied(tmp_path: Path) -> None:
    async def lost(what: str, document: UUID, applied: bool) -> None:
        if applied == (document == TWO):
            raise StoreFailed

    with SecondStore(tmp_path / "store", lost) as store:
        for id in (ONE, TWO):
            with pytest.raises(StoreFailed):
                await store.upsert(id, [(0, [1.0])])
        assert await store.documents() == {TWO}


async def test_the_nearest_come_first(tmp_path: Path) -> None:
    with SecondStore(tmp_path / "store") as store:
        assert await store.search([1.0, 0.0]) == []
        await store.upsert(ONE, [(0, [0.0, 1.0]), (1, [1.0, 0.0])])
        await store.upsert(TWO, [(7, [0.7, 0.7])])
        assert await store.search([1.0, 0.0], k=2) == [(ONE, 1), (TWO, 7)]


async def test_what_is_no_vector_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with SecondStore(tmp_path / "store") as store:
        with pytest.raises(ValueError, match="row of numbers"):
            await store.upsert(ONE, [(0, [1.0]), (1, [[1.0]])])  # type: ignore[list-item]
        assert await store.documents() == set()
