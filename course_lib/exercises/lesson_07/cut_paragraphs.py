"""7.1: a text cut into passages at its paragraphs, of which the text can be made again."""

from __future__ import annotations

from typing import Any, ClassVar

from course_lib.exercises.lesson_07.scenes.writings import (
    Cutting,
    Writing,
    a_paragraph,
    a_word,
    far_apart,
    joined,
    mixed,
)
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article

NOTHING = ("", "\n", " \t\n\u00a0\n  ")
AROUND = 12  # characters that a message shows on both sides of a place


class CutParagraphs(Exercise):
    """Pieces that can be put together again, and no border where none is needed."""

    id = "7.1"
    title = "Cut at paragraphs, lose nothing"
    answer = "cut"
    minutes = 15
    points = 2
    level = "mid"
    recipe = "empty"
    hints: ClassVar = (
        "Cut first and join afterwards: paragraphs with the white space behind them, of which each fits or does not. "
        "What is never thrown away need not be put back.",
        'Walk through the lines (`re.findall(r"[^\\n]*\\n|[^\\n]+", text)`; `splitlines` knows other line ends too). A '
        "line with ink after a blank one begins a paragraph, unless there was no ink before it.",
        "For a paragraph that is too long, make parts of a word with the white space around it, the word cut after "
        "`size` characters. Then fill pieces with parts as you fill them with paragraphs.",
    )
    why = (
        "A passage is what is embedded and what is quoted: a border in the middle of a paragraph makes two halves of "
        "a thought, of which neither is found. And since nothing is dropped, the stored passages are the document: it "
        "can be shown, exported and cut anew with another size, without the file that it came from."
    )
    follow_up = (
        "Pieces are filled from the top. Somebody adds a sentence to the first paragraph of a long document: how many "
        "pieces are new, and by which rule for borders would it be one or two?"
    )
    mistakes: ClassVar = {
        "not pieces": "`cut` returned {said}. | A list of texts, each a `str`.",
        "not lossless": "The pieces joined are another text: from character {place} on there is {found!r}, and in the "
        "text there is {given!r}. "
        "| White space between paragraphs belongs to a piece too, as it is; and no piece begins with the end of the "
        "one before.",
        "nothing to cut": "For {text!r} it returned {said!r}. "
        "| An empty text has no pieces; one of nothing but white space is one piece.",
        "blank piece": "Of {text!r}, cut with size={size}, piece number {number} is nothing but white space. "
        "| White space stays with the paragraph before it, at the top with the one after it.",
        "too long": "With size={size}, a piece had {length} characters between its first letter and its last. "
        "| A paragraph may be longer than a piece, and so may a word.",
        "paragraph cut": "With size={size}, a paragraph of {length} characters was cut between {before!r} and "
        "{after!r}. "
        "| It fits into a piece as it is, so it stays whole. Only a blank line ends a paragraph.",
        "word cut": "With size={size}, a word of {length} characters was cut between {before!r} and {after!r}. "
        "| A paragraph that is too long is cut at white space; within a word only where the word itself is too long.",
        "pieces too small": "With size={size}, two pieces next to each other have {first} and {second} characters. "
        "| Paragraphs share a piece as long as they fit.",
        "crumbs": "With size={size}, a paragraph of {length} characters became {count} pieces. "
        "| A paragraph that is too long is filled into pieces too, word after word.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        texts = [*((text, 8) for text in NOTHING), *_texts()]

        async def cut() -> list[Any]:
            return [attempt.answer(text, size) for text, size in texts]

        cut.__name__ = self.answer
        for (text, size), said in zip(texts, await attempt.call(function=cut), strict=True):
            pieces = self._pieces(attempt, said)
            if text.strip():
                self._look_at(attempt, text, pieces, size)
            else:
                attempt.expect(pieces == ([text] if text else []), "nothing to cut", text=text, said=pieces)

    def _pieces(self, attempt: Attempt, said: Any) -> list[str]:
        attempt.expect(isinstance(said, list), "not pieces", said=article(said))
        other = next((piece for piece in said if not isinstance(piece, str)), "")
        attempt.expect(other == "", "not pieces", said=f"a list with {article(other)} in it")
        pieces: list[str] = said
        return pieces

    def _look_at(self, attempt: Attempt, text: str, pieces: list[str], size: int) -> None:
        again = "".join(pieces)
        if again != text:
            place = next((at for at, (a, b) in enumerate(zip(again, text, strict=False)) if a != b), None)
            place = min(len(again), len(text)) if place is None else place
            shown = slice(place, place + AROUND)
            raise attempt.wrong("not lossless", place=place, found=again[shown], given=text[shown])
        for number, piece in enumerate(pieces, 1):
            attempt.expect(bool(piece.strip()), "blank piece", number=number, text=text[:40], size=size)
        longest = max(len(piece.strip()) for piece in pieces)
        attempt.expect(longest <= size, "too long", size=size, length=longest)
        self._look_at_borders(attempt, Cutting(Writing(text), pieces, size))

    def _look_at_borders(self, attempt: Attempt, cutting: Cutting) -> None:
        text, size = cutting.writing.text, cutting.size
        for mistake, cut in (("paragraph cut", cutting.cut_paragraphs()), ("word cut", cutting.cut_words())):
            for (start, end), border in cut:
                shown = {"before": text[max(start, border - AROUND) : border], "after": text[border:end][:AROUND]}
                attempt.expect(end - start > size, mistake, size=size, length=end - start, **shown)
        small, crumbs = cutting.too_short(), cutting.in_crumbs()
        if small:
            raise attempt.wrong("pieces too small", size=size, first=small[0], second=small[1])
        if crumbs:
            raise attempt.wrong("crumbs", size=size, length=crumbs[0], count=crumbs[1])


def _texts() -> list[tuple[str, int]]:
    """What is cut, and the size; the plainer ones first."""
    short = [a_paragraph(20 + place) for place in range(4)]
    full = a_paragraph(60)
    return [
        ("\n\n".join(short), 1000),
        (a_paragraph(59), 60),
        (f"{full}\r\n\r\n{full}\r\n", 60),
        (f"{full}\n\n{full}\n{a_paragraph(9)}", 60),  # the second one is too long, by a line
        (f"\n \n\n  {full}\n \t \n{full}" + "\n" * 200, 60),  # more blank lines than a piece is long
        *((far_apart(*lines), 20) for lines in ((0, 1, 40), (40, 1, 1), (0, 40, 1))),
        (f"one\u2028\u2028two\x0b\x0bthree\x85\x85four\n\n{full}", 60),
        (f"{a_paragraph(40)} {a_word(150)} {a_paragraph(40)}", 50),
        (a_word(90), 7),
        *((joint.join(a_word(7) for _ in range(25)), 50) for joint in ("\t", "\n", "\u2028", "\u00a0")),
        ("ab c\n\nd", 1),
        *(("ab  cde   fgh\n\n\n   ijkl", size) for size in (1, 2)),
        (" ".join(a_paragraph(5) for _ in range(200)), 100),
        *((joined([a_paragraph(5 + at % 40) for at in range(60)]), 44 + more) for more in (0, 1, 40)),
        *((mixed(size, 40), size) for size in (10, 61, 800)),
        (mixed(300, 300), 500),
    ]
