"""Verdicts, hints and solutions in a terminal: wrapped to its width, code in colours; elsewhere the bare lines."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

WIDEST = 100  # columns; longer lines are hard to read
BLOCK = re.compile(r"```python\n(.*?)\n```\n*", re.DOTALL)


def show(headline: str, paragraphs: Iterable[tuple[str, str]]) -> None:
    """Print a headline and, indented below it, paragraphs of (label, text); code in them stands between backticks."""
    console = _console()
    console.print(Text(headline, "bold"), soft_wrap=not console.is_terminal)
    for label, text in paragraphs:
        for line in text.splitlines():
            _print(console, Text.assemble((f"{label}: " if label else "", "italic"), _styled(line)), indent=2)
            label = ""
    console.print()


def show_text(markdown: str) -> None:
    """Print what a notebook shows as Markdown: paragraphs, and blocks of Python."""
    console = _console()
    for number, part in enumerate(BLOCK.split(markdown)):
        if number % 2 and console.is_terminal:
            console.print(Syntax(part, "python", theme="monokai", word_wrap=True, padding=(1, 0)))
        elif number % 2:
            console.print(Text(part), soft_wrap=True)
        for line in [] if number % 2 else part.splitlines():
            _print(console, _styled(line))


def _console() -> Console:
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST)
    return console


def _print(console: Console, text: Text, indent: int = 0) -> None:
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent), expand=False))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)


def _styled(line: str) -> Text:
    """Every second part is code."""
    parts = line.split("`")
    return Text.assemble(*((part, "cyan" if number % 2 else "") for number, part in enumerate(parts)))
