"""A service that counts tokens all day does not grow by what it was asked."""

from __future__ import annotations

import subprocess
import sys

MANY = """
import ctypes, psutil, secrets
from concurrent.futures import ThreadPoolExecutor
from course_lib.llm.offline.embedding_model import load_model

model, process = load_model(), psutil.Process()
questions = [" ".join(secrets.token_hex(2) for _ in range(24)) for _ in range(6_000)]
before = process.memory_info().rss
with ThreadPoolExecutor(2) as threads:
    counted = list(threads.map(model.count_tokens, questions))
print((process.memory_info().rss - before) / 2**20, min(counted))
"""


def test_questions_are_not_kept() -> None:
    """Kept, they were 39 MB."""
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True)
    grown, tokens = map(float, done.stdout.split())
    assert tokens > 20
    assert grown < 16
