"""Messages from the process that judges: lines of JSON, each with its number and a seal that takes a secret to make.

What else a cell writes to the same place is not a message.
"""

from __future__ import annotations

import hmac
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, BinaryIO

SEAL = 64  # hexadecimal digits of SHA-256
LONGEST = 1_000_000  # bytes of a line


@dataclass(frozen=True)
class Message:
    """What is told: its kind, and plain values."""

    kind: str
    values: dict[str, Any]


def writer(channel: int, secret: bytes) -> Callable[..., None]:
    """A function that writes messages to the file of that number: ``say("ran", number=3)``.

    A fork of this process says nothing.
    """
    blank = hmac.new(secret, digestmod="sha256")
    dumps, write, getpid = json.dumps, os.write, os.getpid
    lock, own, number = threading.Lock(), os.getpid(), 0

    def say(kind: str, **values: Any) -> None:
        nonlocal number
        if getpid() != own:
            return
        with lock:
            text = dumps([number, kind, values]).encode()
            number += 1
            seal = blank.copy()
            seal.update(text)
            line = b"\n" + seal.hexdigest().encode() + text + b"\n"  # whatever was written before it ends there
            while line:
                line = line[write(channel, line) :]

    return say


def listen(stream: BinaryIO, secret: bytes) -> SimpleQueue[Message | None]:
    """The messages that arrive on ``stream``, and None when it has ended."""
    heard: SimpleQueue[Message | None] = SimpleQueue()
    threading.Thread(target=_read, args=(stream, secret, heard), daemon=True).start()
    return heard


def _read(stream: BinaryIO, secret: bytes, heard: SimpleQueue[Message | None]) -> None:
    number = 0
    try:
        while line := stream.readline(LONGEST):
            text = line[SEAL:].rstrip(b"\n")
            seal = hmac.new(secret, text, "sha256").hexdigest().encode()
            if not hmac.compare_digest(seal, line[:SEAL]):
                continue
            count, kind, values = json.loads(text)
            if count == number:  # else it is one that was said before
                number += 1
                heard.put(Message(kind, values))
    except (OSError, ValueError):  # closed, since its process was ended
        pass
    finally:
        heard.put(None)
