"""Cut without loss, within a size, at the best places there are, and the same again where nothing was edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wcwidth import iter_graphemes

import course_lib
from course_lib.errors import CourseError
from course_lib.repositories.rag import cut

FAMILY = "👩‍👩‍👧"
AWKWARD = [
    "\n", "\r\n", "\r", "\n\n", "\t", " ", "  \n", "\u2028", "\u00a0", "# Heading\n", "## ", "#hash", "```\n", "~~~\n",
    "    code\n", "| a | b |\n|---|---|\n", "- item\n", "word", "Sentence. ", "Wait... what?! ", "“Quoted.” ",
    "終わり。次", FAMILY, "🇩🇪", "e\u0301", " \u0301", "\u200d", "x" * 90, "=" * 30, "\\", "\x0c",
    "A longer sentence with several words in it, and a comma. ",
]  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(AWKWARD), max_size=60).map("".join),
    st.text(max_size=300),
    st.tuples(st.sampled_from(AWKWARD), st.integers(1, 300)).map(lambda pair: pair[0] * pair[1]),
)


def storable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@settings(max_examples=400, deadline=None)
@given(texts.filter(storable), st.integers(1, 120))
@example("0 \u0300", 1)
def test_the_pieces_are_the_text_each_within_the_size_and_none_blank(text: str, size: int) -> None:
    pieces = cut(text, size)
    assert "".join(pieces) == text
    assert cut(text, size) == pieces
    assert all(len(piece.strip()) <= size for piece in pieces)
    if text.strip():
        assert all(piece.strip() for piece in pieces)
    else:
        assert pieces == [text] * bool(text)


@settings(max_examples=300, deadline=None)
@given(texts.filter(storable), st.integers(1, 60))
def test_no_letter_is_cut_that_fits(text: str, size: int) -> None:
    ends, place = {0}, 0
    letters = list(iter_graphemes(text))
    for letter in letters:
        place += len(letter)
        ends.add(place)
    if max(map(len, letters), default=0) > size:
        return
    place = 0
    for piece in cut(text, size):
        place += len(piece)
        assert place in ends


@pytest.mark.parametrize("text", ["", " ", "\n\n\t", "a", FAMILY])
def test_what_fits_is_one_piece(text: str) -> None:
    assert cut(text) == ([text] if text else [])


def test_size_one() -> None:
    assert cut("a b", 1) == ["a ", "b"]
    assert "".join(cut(FAMILY, 1)) == FAMILY


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None, "800"])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(CourseError, match="size is how many characters"):
        cut("text", size)  # type: ignore[arg-type]


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(CourseError, match="half a surrogate pair"):
        cut("a\ud83d")


def test_a_heading_begins_a_piece_and_never_ends_one() -> None:
    text = "Before.\n\n# Ropes\n\n## Dry\nKept dry.\n\n## Wet\n\nDried first.\n"
    assert cut(text) == ["Before.\n\n", "# Ropes\n\n## Dry\nKept dry.\n\n", "## Wet\n\nDried first.\n"]
    long = "# Ropes\n\n" + "A rope is kept dry. " * 60
    assert cut(long, 200)[0].startswith("# Ropes\n\nA rope")


def test_code_is_no_heading_and_stays_whole_where_it_fits() -> None:
    code = "```python\n# no heading\n\nrun()\n```\n"
    pieces = cut(f"{'Words before it. ' * 8}\n\n{code}\n{'Words after it. ' * 8}\n", 160)
    assert any(code in piece for piece in pieces)


def test_a_paragraph_that_is_too_long_is_cut_at_sentences_then_lines_then_words() -> None:
    sentences = [f"This is sentence number {number} of the paragraph. " for number in range(40)]
    assert all(piece.endswith(". ") for piece in cut("".join(sentences), 200))
    rows = "".join(f"| {number} | value |\n" for number in range(100))
    assert all(piece.endswith("|\n") for piece in cut(rows, 120))
    words = "word " * 300
    assert all(piece.endswith("word ") for piece in cut(words, 100))


# what is embedded again after an edit


@pytest.fixture(scope="module")
def manual() -> str:
    """57,000 characters of the course's own corpus."""
    folder = Path(course_lib.__file__).parent / "data" / "corpus"
    text = "\n\n".join(path.read_text() for path in sorted(folder.rglob("*.md")))
    assert len(text) >= 57_000
    return text[:57_000]


def fixed(text: str) -> list[str]:
    """The usual way: 800 characters, of which 100 are the end of the piece before."""
    return [text[start : start + 800] for start in range(0, len(text), 700)]


def bought_again(cutting: Callable[[str], list[str]], text: str, place: int, added: str) -> tuple[int, int]:
    known, pieces = set(cutting(text)), cutting(text[:place] + added + text[place:])
    return sum(piece not in known for piece in pieces), len(pieces)


def test_a_sentence_more_near_the_top_costs_one_piece_and_not_all(manual: str) -> None:
    place = manual.index(". ", 300) + 2
    again, pieces = bought_again(fixed, manual, place, "One sentence more stands here. ")
    assert again > 0.9 * pieces
    again, pieces = bought_again(cut, manual, place, "One sentence more stands here. ")
    assert again <= 2 and pieces > 70


def test_a_paragraph_more_does_not_move_every_border_after_it() -> None:
    """Paragraphs of one length, no headings: filled up two by two, they would never fall into step again."""
    paragraphs = [f"{number:05} " + "paragraph of a fixed length " * 13 for number in range(150)]
    text = "\n\n".join(paragraphs)
    filled = ["\n\n".join(paragraphs[place : place + 2]) for place in range(0, 150, 2)]
    more = ["A paragraph more.", *paragraphs]
    moved = ["\n\n".join(more[place : place + 2]) for place in range(0, 151, 2)]
    assert len(set(moved) - set(filled)) > 70
    assert bought_again(cut, text, 0, "A paragraph more.\n\n")[0] <= 12


def test_in_a_text_of_one_line_or_one_word_borders_are_met_again_too(manual: str) -> None:
    for text in (" ".join(manual.split()), "".join(manual.split())):
        worst = max(bought_again(cut, text, place, "Inserted")[0] for place in range(100, 3000, 290))
        assert worst <= 15


@pytest.mark.parametrize(
    "text",
    ["a" + " " * 300_000 + "b", "." * 300_000, '."' * 150_000, "ab" * 150_000, "\n" * 300_000 + "a", "# a\n" * 75_000,
     "```\n" * 75_000, "  \n" * 100_000 + "a", "a" + "\u0301" * 300_000],
    ids=["spaces", "dots", "quotes", "a word", "lines", "headings", "fences", "blank lines", "accents"],
)  # fmt: skip
def test_what_a_slow_pattern_would_choke_on(text: str) -> None:
    """With anything quadratic in it, 300,000 characters would take many minutes."""
    assert "".join(cut(text)) == text
