"""Secrets taken out of what a person will read: of addresses, and of text in which an address or a key may stand."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

MASK = "***"
LONGEST = 60
"""Characters of a stranger's text that a sentence repeats."""

_WORD = r"(?:pass(?:word|wd|file|phrase)|pwd|secret|token|api[-_]?key|credential|signature|(?<![a-z])key(?![a-z]))"
SECRET_NAME = re.compile(_WORD, re.I)

_IN_TEXT = [
    (re.compile(r"([a-z][a-z0-9+.\-]*://)[^\s'\"<>]*@", re.I), rf"\1{MASK}@"),
    (re.compile(rf"({_WORD}\w*[\"']?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)", re.I), rf"\1{MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=\-]+", re.I), rf"\1 {MASK}"),
    (re.compile(r"\bsk-[\w*\-]+"), f"sk-{MASK}"),
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
    for pattern, replacement in _IN_TEXT:
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
