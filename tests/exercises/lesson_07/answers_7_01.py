"""Answers to 7.1, a text cut at its paragraphs."""

from __future__ import annotations

import re
import textwrap

from course_lib.repositories.rag.cutting import cut as cut_of_the_course
from tests.exercises.written import Answers

ANSWERS = Answers("7.1")


@ANSWERS.right
def by_places(text, size):
    if not text or text.isspace():
        return [text] * bool(text)
    pieces, start = [], 0
    first = re.search(r"\S", text).start()
    while start < len(text):
        lead = max(start, first) if start == 0 else start + len(text[start:]) - len(text[start:].lstrip())
        if len(text[start:].strip()) <= size:
            pieces.append(text[start:])
            break
        end = paragraph_end(text, lead, size) or word_end(text, lead, size)
        pieces.append(text[start:end])
        start = end
    return pieces


def paragraph_end(text, lead, size):
    """After the last gap that lets the ink before it fit."""
    last = None
    for gap in re.finditer(r"\s*\n[^\S\n]*\n\s*", text[lead : lead + size + 400]):
        if gap.start() <= size:
            last = lead + gap.end()
    return last


def word_end(text, lead, size):
    window = text[lead : lead + size + 1]
    spaces = [match.start() for match in re.finditer(r"\s+", window)]
    return lead + (spaces[-1] if spaces else size)


@ANSWERS.right
def with_a_generator(text, size):
    return list(filled(parts_of(text, size), size)) if text.strip() else [text][: len(text)]


def parts_of(text, size):
    lead = len(text) - len(text.lstrip())
    start = 0
    for gap in [*re.finditer(r"\n(?:[^\S\n]*\n)+", text[lead:].rstrip()), None]:
        end = lead + gap.end() if gap else len(text)
        if len(text[start:end].strip()) <= size:
            yield text[start:end]
        else:
            for word in re.findall(r"\s*\S+\s*", text[start:end]):
                ink = len(word) - len(word.lstrip())
                while len(word.strip()) > size:
                    yield word[: ink + size]
                    word, ink = word[ink + size :], 0
                yield word
        start = end


def filled(parts, size):
    piece = next(parts)
    for part in parts:
        if len((piece + part).strip()) <= size:
            piece += part
        else:
            yield piece
            piece = part
    yield piece


@ANSWERS.wrong("pieces too small")
def measured_with_its_blank_lines(text, size):
    """Which fill a piece as letters do."""
    if not text.strip():
        return [text][: len(text)]
    pieces = [""]
    for part in parts_of(text, size):
        if pieces[-1].strip() and len(pieces[-1] + part) > size:
            pieces.append("")
        pieces[-1] += part
    return pieces


@ANSWERS.right
def as_the_course_does(text, size):
    return cut_of_the_course(text, size)


@ANSWERS.wrong("not pieces")
def yields(text, size):
    yield from with_a_generator(text, size)


@ANSWERS.wrong("not pieces")
def pairs(text, size):
    return list(enumerate(with_a_generator(text, size)))


@ANSWERS.wrong("not pieces")
def says_nothing(text, size):
    with_a_generator(text, size)


@ANSWERS.wrong("not lossless")
def splits_and_forgets(text, size):
    if not text.strip():
        return [text] if text else []
    pieces = []
    for paragraph in re.split(r"\n\s*\n", text):
        if pieces and len(pieces[-1]) + len(paragraph) + 2 <= size:
            pieces[-1] += "\n\n" + paragraph
        else:
            pieces.append(paragraph)
    return pieces


@ANSWERS.wrong("not lossless")
def with_overlap(text, size):
    pieces = with_a_generator(text, size)
    return [piece if at == 0 else pieces[at - 1][-10:] + piece for at, piece in enumerate(pieces)]


@ANSWERS.wrong("not lossless")
def wraps(text, size):
    return textwrap.wrap(text, size) if text.strip() else [text] if text else []


@ANSWERS.wrong("nothing to cut")
def one_empty_piece(text, size):
    return with_a_generator(text, size) or [""]


@ANSWERS.wrong("nothing to cut")
def white_space_is_nothing(text, size):
    return with_a_generator(text, size) if text.strip() else []


@ANSWERS.wrong("blank piece")
def blank_lines_are_paragraphs(text, size):
    if not text.strip():
        return [text] if text else []
    return [part for part in re.split(r"(\n\s*\n)", text) if part]


@ANSWERS.wrong("too long")
def paragraphs_as_they_are(text, size):
    parts = re.split(r"(?<=\n\n)", text)
    return list(filled(iter(parts), size)) if text.strip() else [text] if text else []


@ANSWERS.wrong("too long")
def words_as_they_are(text, size):
    if not text.strip():
        return [text] if text else []
    parts = []
    for paragraph in parts_of(text, 10**9):
        short = len(paragraph.strip()) <= size
        parts += [paragraph] if short else re.findall(r"\s*\S+\s*", paragraph)
    return list(filled(iter(parts), size))


@ANSWERS.wrong("paragraph cut")
def every_size_characters(text, size):
    if not text.strip():
        return [text] if text else []
    return [text[at : at + size] for at in range(0, len(text), size)]


@ANSWERS.wrong("paragraph cut")
def filled_with_words(text, size):
    if not text.strip():
        return [text] if text else []
    return list(filled(iter(re.findall(rf"\s*\S{{1,{size}}}\s*", text)), size))


@ANSWERS.wrong("paragraph cut")
def by_splitlines(text, size):
    if not text.strip():
        return [text] if text else []
    paragraphs, after_blank = [""], False
    for line in text.splitlines(keepends=True):
        if line.strip() and after_blank and paragraphs[-1].strip():
            paragraphs.append("")
        paragraphs[-1] += line
        after_blank = not line.strip()
    parts = [part for one in paragraphs for part in parts_of(one, size)]
    return list(filled(iter(parts), size))


@ANSWERS.wrong("paragraph cut")
def one_less(text, size):
    return with_a_generator(text, max(1, size - 1))


@ANSWERS.wrong("word cut")
def long_ones_anywhere(text, size):
    if not text.strip():
        return [text] if text else []
    parts = []
    for paragraph in parts_of(text, 10**9):
        lead = len(paragraph) - len(paragraph.lstrip())
        ends = [*range(lead + size, len(paragraph.rstrip()), size), len(paragraph)]
        parts += [paragraph[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return list(filled((part for part in parts if part), size))


@ANSWERS.wrong("word cut")
def long_ones_at_spaces(text, size):
    if not text.strip():
        return [text] if text else []
    parts = []
    for paragraph in parts_of(text, 10**9):
        fits = len(paragraph.strip()) <= size
        parts += [paragraph] if fits else re.findall(rf"\s*[^ ]{{1,{size}}} *", paragraph)
    return list(filled(iter(parts), size))


@ANSWERS.wrong("pieces too small")
def a_piece_for_each(text, size):
    if not text.strip():
        return [text] if text else []
    return list(parts_of(text, 10**9)) if len(text) < 2 * size else with_a_generator(text, size)


@ANSWERS.wrong("crumbs")
def a_piece_for_each_word(text, size):
    if not text.strip():
        return [text] if text else []
    pieces = [""]
    for part in parts_of(text, 10**9):
        if len(part.strip()) > size:
            pieces += [*parts_of(part, size), ""]
        elif len((pieces[-1] + part).strip()) <= size:
            pieces[-1] += part
        else:
            pieces.append(part)
    return [piece for piece in pieces if piece]
