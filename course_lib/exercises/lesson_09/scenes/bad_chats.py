"""What is wrong with the chats that 9.6 tries, apart from them: whoever lists exercises needs no Hypothesis."""

from __future__ import annotations

HOW = {
    "count": "numbers a message by how many there are",
    "strip": "strips whitespace from both ends of a text",
    "lower": "stores a text in small letters",
    "empty": "stores no text that is empty",
    "same": "stores no text that is in the chat already",
    "twice": "drops a message that differs from the one before it in nothing but case",
    "time": "orders by time, which messages of one transaction share",
    "by text": "forgets every message with the same text",
    "first": "forgets the first message, whatever place it is asked for",
    "rest": "forgets what comes after the message too",
    "short": "raises `IndexError` for the place of its last message",
    "beyond": "forgets its last message when it is asked for a place where there is none",
    "silent": "raises nothing when it is asked for a place where there is none",
}
"""What each mutant does, in words."""
NEED_FORGETTING = {"count", "by text", "first", "rest", "short", "beyond", "silent"}
NEED_NOTHING_THERE = {"beyond", "silent"}
