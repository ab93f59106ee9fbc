"""Secrets taken out of what a person will read: of addresses, and of text in which an address or a key may stand."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

MASK = "***"
LONGEST = 60
"""Characters of a stranger's text that a sentence repeats."""

_WORD = r"(?:pass(?:word|wd|file|phrase)|pwd|secret|token|api[-_]?key|credential|signature|(?<![a-z])key(?![a-z]))"
SECRET_NAME = re.compile(_WORD, re.I)

_ACCOUNT = (re.compile(r"([a-z][a-z0-9+.\-]*://)[^\s'\"<>]*@", re.I), rf"\1{MASK}@")
_KEY = (re.compile(r"\bsk-[\w*\-]+"), f"sk-{MASK}")


_BLANKS = r"(?:\s|\x1b\[[\d;]*m)*"  # colours of code too


def _named(word: str) -> tuple[re.Pattern[str], str]:
    name = rf"{word}\w*[\"']?{_BLANKS}[=:]{_BLANKS}"
    return re.compile(rf"({name})('[^']*'|\"[^\"]*\"|[^\s&;,'\"\x1b]+)", re.I), rf"\1{MASK}"


_IN_TEXT = [_ACCOUNT, _named(_WORD), (re.compile(r"\b(bearer|basic)\s+[\w.~+/=\-]+", re.I), rf"\1 {MASK}"), _KEY]
_IN_CODE = [
    _ACCOUNT,
    _named(r"(?:password|passwd|api[-_]?key)"),
    (re.compile(r"(Bearer\s+)[^\s'\"]{8,}"), rf"\1{MASK}"),
    _KEY,
]


class SecretText(str):
    """Text that is what it says where it is used, and masked where a cell shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked(str(self)))


def is_secret(name: str) -> bool:
    """True when an option of that name holds a secret, or leads to one: ``password``, ``api_key``, ``sslpassword``."""
    return SECRET_NAME.search(name) is not None


def masked(text: str) -> str:
    """``text`` without the accounts of URLs, the values of options that sound secret, and keys. Rather too much."""
    return _without(_IN_TEXT, text)


def masked_code(text: str) -> str:
    """The same for lines of code and what is said of them, where a ``key`` sorts and ``tokens`` are counted."""
    return _without(_IN_CODE, text)


def _without(patterns: list[tuple[re.Pattern[str], str]], text: str) -> str:
    for pattern, replacement in patterns:
        text = pattern.sub(replacement, text)
    return text


def short(text: str, longest: int = LONGEST) -> str:
    """``text`` on one line of at most ``longest`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def public_address(url: str) -> str:
    """An HTTP address as one may send it to somebody: no account, no query, no key in its path."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return MASK
    if not parts.scheme or not host:
        return MASK
    where = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return short(masked(f"{parts.scheme}://{where}{parts.path}"))
