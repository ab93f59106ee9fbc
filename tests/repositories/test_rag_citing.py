"""Citations: only what was given becomes a source, and only what stands in it is a quotation."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.repositories.rag import Source, check_citations
from course_lib.repositories.rag.citing import without_citations
from tests.repositories.passages import passage

GIVEN = {
    1: passage('The ferry\n  leaves at nine. "Never late," says Ines, "but once." It rows.'),
    2: passage("Dogs travel free, prams do not."),
}


def found(text: str) -> tuple[list[tuple[int, str | None]], list[int], list[str]]:
    cited = check_citations(text, GIVEN)
    return [(source.number, source.quotation) for source in cited.sources], cited.unknown, cited.invented


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ('"The ferry leaves at nine." [1]', [(1, "The ferry leaves at nine.")]),
        ('"leaves\tat\n nine" [1]', [(1, "leaves at nine")]),
        ("\u201cDogs travel free\u201d [2]", [(2, "Dogs travel free")]),
        ("\u00abDogs travel free\u00bb[2].", [(2, "Dogs travel free")]),
        ('They say "Dogs travel free." [2]', [(2, "Dogs travel free")]),
        ('It says "Dogs travel free", [2] and so on.', [(2, "Dogs travel free")]),
        ('""Never late," says Ines, "but once."" [1]', [(1, '"Never late," says Ines, "but once."')]),
        ('Not "late" but "Dogs travel free" [2]', [(2, "Dogs travel free")]),
        ("Dogs travel free [2].", [(2, None)]),
        ('"Dogs travel free" [2] and "at nine" [1]', [(2, "Dogs travel free"), (1, "at nine")]),
        ('"Dogs travel free" [2], "prams do not" [2]', [(2, "Dogs travel free"), (2, "prams do not")]),
        ('Dogs [2] "Dogs travel free" [2] dogs [2]', [(2, "Dogs travel free")]),
        ('"at nine" [1, 2]', [(1, "at nine"), (2, None)]),
        ('"at nine" [2][1]', [(2, None), (1, "at nine")]),
        ("No source at all.", []),
        ('"" [1]', [(1, None)]),
    ],
)
def test_what_is_cited_and_given_is_a_source(text: str, sources: list[Any]) -> None:
    assert found(text) == (sources, [], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dogs fly [9].", ([], [9], [])),
        ("Dogs fly [9] and swim [0], [1].", ([(1, None)], [9, 0], [])),
        ('"Dogs fly." [2]', ([(2, None)], [], ["Dogs fly."])),
        ('"Dogs travel free" [1]', ([(1, None)], [], ["Dogs travel free"])),
        ('"dogs TRAVEL free" [2]', ([(2, None)], [], ["dogs TRAVEL free"])),
        ('"Dogs travel prams" [2]', ([(2, None)], [], ["Dogs travel prams"])),
        ('"Dogs fly." [9]', ([], [9], ["Dogs fly."])),
        ('"Dogs fly." [2] "Dogs fly." [2] "Dogs travel free" [2]', ([(2, "Dogs travel free")], [], ["Dogs fly."])),
        ("In [20240101] nothing, in [99999999999999999999] neither.", ([], [], [])),
    ],
)
def test_what_was_not_given_or_nobody_wrote_is_told_and_no_source(text: str, expected: Any) -> None:
    assert found(text) == expected


@given(st.text(alphabet='"[]0123456789, \n.Dogs travelfree\u201c\u201d', max_size=80))
def test_whatever_a_model_says_its_sources_were_given_and_its_quotations_stand_there(text: str) -> None:
    cited = check_citations(text, GIVEN)
    for source in cited.sources:
        assert GIVEN[source.number] is source.passage
        assert source.quotation is None or source.quotation in " ".join(source.passage.content.split())
    assert not set(cited.unknown) & set(GIVEN)


MONSTERS = ['"' * 50_000 + "[1]", "[1]" * 20_000, "[" * 50_000, "[1 ," * 20_000, '"a" [1] ' * 5_000]


@pytest.mark.parametrize("number", range(len(MONSTERS)))
def test_a_monstrous_answer_is_read_in_bounded_time(number: int) -> None:
    started = time.process_time()
    check_citations(MONSTERS[number], GIVEN)
    assert time.process_time() - started < 5


def test_a_source_is_kept_as_the_messages_meta_has_it() -> None:
    given_one = GIVEN[2]
    place = {"document_id": str(given_one.document_id), "chunk_index": 0, "title": "Rules", "number": 2}
    assert Source(2, given_one).as_meta() == place
    assert Source(2, given_one, "Dogs").as_meta() == place | {"quotation": "Dogs"}


def test_citations_can_be_taken_out() -> None:
    assert without_citations('"Dogs" [2], a [1, 3] b[4] [c]') == '"Dogs", a b [c]'
