"""What tests in a browser measure: letters that are too faint are found, and those that are not are left alone."""

from __future__ import annotations

import pytest

from tests.browser import browser, contrast, faint, needs_chromium

PAGE = """<body style="background: #fff; color: #000">
<p>black</p><p style="color: #767676">just</p><p style="color: #777">grey</p>
<div style="background: rgba(0, 0, 0, 0.8)"><p>hidden</p><p style="color: #fff">white</p></div>
<p style="color: rgba(0, 0, 0, 0.4)">thin</p><p style="display: none; color: #fff">not there</p></body>"""


def test_contrast_is_that_of_the_recommendation() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((255, 255, 255), (255, 255, 255)) == pytest.approx(1)
    assert contrast((0x77,) * 3, (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@needs_chromium
def test_what_is_too_faint_is_found() -> None:
    with browser() as page:
        page.set_content(PAGE)
        assert [text for text, _ in faint(page, "body")] == ["grey", "hidden", "thin"]
