"""Files as people send them: four kinds that are read, and many that get a sentence instead."""

from __future__ import annotations

import zlib
from io import BytesIO

import pytest
from pypdf import PdfReader, PdfWriter

from course_lib.errors import CourseError
from course_lib.repositories.rag import cut, read_document, reading, reading_pdf

LINES = ["Ropes", "A rope is kept dry.", "A wet rope freezes overnight."]


def pdf(*pages: bytes, to_unicode: bytes = b"", title: str = "") -> bytes:
    """A PDF whose pages are drawn by these content streams; ``to_unicode`` maps its font's codes to characters."""
    packed = [zlib.compress(page) for page in pages]
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % (6 + 2 * n) for n in range(len(pages)))),
        font + (b" /ToUnicode 4 0 R >>" if to_unicode else b" >>"),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(to_unicode), to_unicode),
        b"<< /Title (%s) >>" % title.encode(),
    ]
    for number, page in enumerate(packed):
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font << /F 3 0 R >> >>"
            b" /Contents %d 0 R >>" % (7 + 2 * number),
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(page), page),
        ]
    out, places = BytesIO(), []
    out.write(b"%PDF-1.7\n")
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\n" % (len(objects) + 1))
    out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


def drawn(*lines: str) -> bytes:
    shown = b" T* ".join(b"(%s) Tj" % line.encode("latin-1") for line in lines)
    return b"BT /F 12 Tf 14 TL 50 700 Td " + shown + b" ET"


def with_nul() -> bytes:
    """A font that says its letter A means NUL: what a viewer shows is not what a reader of texts gets."""
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def"
        b"\n1 begincodespacerange\n<00> <FF>\nendcodespacerange\n1 beginbfchar\n<41> <0000>\nendbfchar\nendcmap end end"
    )
    return pdf(drawn("A rope"), to_unicode=cmap)


def encrypted() -> bytes:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf(drawn(*LINES)))))
    writer.encrypt("secret", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


# what is read


def test_markdown_is_taken_as_it_is() -> None:
    text = "\r\n# Ropes *and* knots ##\r\n\r\nKept dry.\r\n\t- indented\r\n"
    read = read_document(text.encode(), "notes/Über.MD")
    assert (read.title, read.text, read.kind) == ("Ropes *and* knots", text, "markdown")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_plain_text_in_utf_8_with_or_without_its_mark(mark: bytes) -> None:
    read = read_document(mark + "Seile 👩‍👩‍👧 trocken.".encode(), r"C:\texts\ropes.txt")
    assert (read.title, read.text, read.kind) == ("ropes", "Seile 👩‍👩‍👧 trocken.", "text")


HTML = """<!DOCTYPE html><html><head><title>All about
 ropes</title><style>p { color: red }</style><script>steal("cookie")</script></head>
<body onload="steal()"><nav hidden>menu</nav><h1>Ropes &amp; <i>knots</i></h1><p>Kept
   <b>dry</b>.<br>Always.<script>steal()</script><p>Unclosed<h2>Wet</h2><ul><li>one<li>two</ul>
<pre>code
   kept</pre><table><tr><td>a<td>b<tr><td>c</table><!-- comment --><template>no</template>
<img src=x onerror="steal()"><svg><text>no</text></svg><p>last"""


def test_html_is_read_as_a_browser_shows_it_and_its_scripts_are_not_kept() -> None:
    read = read_document(HTML.encode(), "ropes.html")
    assert (read.title, read.kind) == ("All about ropes", "html")
    assert read.text == (
        "# Ropes & knots\n\nKept dry.\nAlways.\n\nUnclosed\n\n## Wet\n\n- one\n- two\n\n"
        "```\ncode\n   kept\n```\n\na b\nc\n\nlast\n"
    )
    assert cut(read.text, 60)[0].startswith("# Ropes")


def test_a_nul_in_html_is_shown_as_browsers_do() -> None:
    assert read_document(b"<p>a&#0;b", "ropes.html").text == "a\ufffdb\n"


def test_a_pdf_is_read_page_by_page() -> None:
    read = read_document(pdf(drawn(*LINES), drawn("Second page."), title="Keeping ropes"), "ropes.pdf")
    assert (read.title, read.kind) == ("Keeping ropes", "pdf")
    assert read.text == "\n".join(LINES) + "\n\nSecond page."


def test_a_name_without_ending_is_read_by_its_content_type() -> None:
    assert read_document(b"# A", "upload", "text/markdown; charset=utf-8").kind == "markdown"
    assert read_document(b"# A", "a.md", "application/octet-stream").kind == "markdown"
    assert read_document(HTML.encode(), "page", "text/html").title == "All about ropes"


# what gets a sentence

REFUSED = {
    "of another kind": (b"PK\x03\x04", "ropes.docx", "of no kind that is read here"),
    "without any kind": (b"text", "ropes", "of no kind that is read here"),
    "empty": (b"", "ropes.md", "holds no text"),
    "only white space": (b" \r\n\t\n", "ropes.txt", "holds no text"),
    "html without text": (b"<html><body><script>1</script><img></body>", "ropes.html", "holds no text"),
    "a scanned pdf": (pdf(b"0 0 m 100 100 l S"), "ropes.pdf", "holds no text"),
    "a nul in a text": (b"a rope\0 is", "ropes.txt", "has a NUL after 6 characters"),
    "a nul in a pdf": (with_nul(), "ropes.pdf", "has a NUL after 0 characters"),
    "encrypted": (encrypted(), "ropes.pdf", "ropes.pdf is encrypted"),
    "a pdf cut off": (pdf(drawn(*LINES))[:200], "ropes.pdf", "broken PDF"),
    "a pdf of its first line": (b"%PDF-1.7\n", "ropes.pdf", "broken PDF"),
    "a picture named as pdf": (b"\x89PNG\r\n\x1a\n" + bytes(50), "ropes.pdf", "named as a PDF and does not hold one"),
    "a pdf named as text": (pdf(drawn(*LINES)), "ropes.txt", "named as plain text and holds a PDF"),
    "a picture named as text": (b"\x89PNG\r\n\x1a\n" + bytes(50), "ropes.md", "byte 0 does not belong there"),
    "latin-1": ("Müll".encode("latin-1"), "ropes.txt", "byte 1 does not belong there"),
    "broken utf-8": ("Seile 👩".encode()[:-1], "ropes.md", "byte 6 does not belong there"),
    "a surrogate in utf-8": (b"a \xed\xa0\xbd", "ropes.md", "byte 2 does not belong there"),
    "utf-16": ("Seile".encode("utf-16"), "ropes.txt", "is in UTF-16"),
    "utf-16 without its mark": ("Seile".encode("utf-16-le"), "ropes.txt", "has a NUL"),
    "too deep": (b"<div>" * 100_000 + b"a", "ropes.html", "within one another"),
    "a bomb of one page": (pdf(b"0 0 m " * 2_000_000), "ropes.pdf", "LARGEST_PAGE"),
    "fifty megabytes": (bytes(50_000_000), "ropes.pdf", "50,000,000 bytes, and up to 20,000,000 are taken"),
    "a million lines": (b"line\n" * 1_000_001, "ropes.txt", "up to 5,000,000 are taken"),
    "a million lines of html": (b"<br>a\n" * 1_000_000, "ropes.html", "up to 5,000,000 are taken"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_read_gets_a_sentence(what: str) -> None:
    data, name, said = REFUSED[what]
    with pytest.raises(CourseError) as caught:
        read_document(data, name)
    assert said in caught.value.sentence
    assert caught.value.mend and "\n" not in caught.value.sentence


def test_a_bomb_that_unpacks_beyond_any_page_is_stopped_while_it_unpacks() -> None:
    with pytest.raises(CourseError, match="unpacks to more than"):
        read_document(pdf(b"0 0 m " * 20_000_000), "ropes.pdf")  # 120 MB of 120 KB


def test_a_pdf_of_many_pages_ends_at_the_limit_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST_TEXT", 100)
    with pytest.raises(CourseError, match="LARGEST_TEXT"):
        read_document(pdf(*[drawn(*LINES)] * 5), "ropes.pdf")
    monkeypatch.setattr(reading_pdf, "MOST_PAGES", 4)
    with pytest.raises(CourseError, match="5 pages, and up to 4"):
        read_document(pdf(*[drawn("x")] * 5), "ropes.pdf")
    monkeypatch.setattr(reading_pdf, "MOST_SECONDS", -1.0)
    with pytest.raises(CourseError, match="longer than"):
        read_document(pdf(drawn("x")), "ropes.pdf")


def test_a_million_short_lines_are_read_and_cut() -> None:
    data = b"abc\n" * 1_000_000
    read = read_document(data, "lines.txt")
    assert "".join(cut(read.text)).encode() == data


def test_what_a_slow_parser_would_choke_on_is_read() -> None:
    for tags in ("<!--", "<![CDATA[", "<?", "</", "<p>a", "&a", "<td>a"):
        source = f"<p>Ropes.</p>{tags * (200_000 // len(tags))}"
        assert read_document(source.encode(), "ropes.html").text.startswith("Ropes.")
