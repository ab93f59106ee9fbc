"""WordLlama's token vectors and tokenizer, read straight from its wheel.

The package is not imported: that would set up logging for the whole process, load an HTTP library and
look for the tokenizer in the wrong folder. Its model is a table of 32,000 token vectors; a text's vector
is the mean of its tokens' vectors, which is what ``WordLlama.embed`` computes, bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from course_lib.errors import CourseError

Vectors = NDArray[np.float32]

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


@dataclass(frozen=True)
class EmbeddingModel:
    """Token vectors of shape (32000, 256), float32, and the tokenizer that numbers the tokens."""

    token_vectors: Vectors
    tokenizer: Tokenizer

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each text's tokens; none for an empty text."""
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def count_tokens(self, text: str) -> int:
        """Length of the text in tokens, as in ``usage``."""
        return len(self.token_ids([text])[0])

    def pieces(self, text: str) -> list[str]:
        """The text cut at its tokens' ends; joined they are the text again."""
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        cuts = sorted({0, len(text), *(end for _, end in offsets)})
        return [text[start:end] for start, end in pairwise(cuts)]

    def embed(self, texts: Sequence[str], dimensions: int = 256) -> Vectors:
        """Unit vectors of shape (len(texts), dimensions); a text without tokens raises ValueError."""
        return self.embed_ids(self.token_ids(texts), dimensions)

    def embed_ids(self, texts: Sequence[Sequence[int]], dimensions: int = 256) -> Vectors:
        """``embed`` for texts that are token numbers already."""
        pooled = np.empty((len(texts), self.token_vectors.shape[1]), dtype=np.float32)
        for row, ids in enumerate(texts):
            if not ids:
                raise ValueError("a text without tokens has no vector")
            total = np.take(self.token_vectors, ids, axis=0).sum(axis=0, dtype=np.float32)
            pooled[row] = total / np.float32(len(ids))
        shortened = pooled[:, :dimensions]
        lengths: Vectors = np.linalg.norm(shortened, axis=1, keepdims=True)
        return np.ascontiguousarray(shortened / lengths)


_loading = threading.Lock()


def load_model() -> EmbeddingModel:
    """The model, loaded at the first call and kept. Raises CourseError when its files are missing."""
    with _loading:
        return _load()


def model_is_loaded() -> bool:
    """Whether ``load_model`` will return at once."""
    return _load.cache_info().currsize > 0


@cache
def _load() -> EmbeddingModel:
    spec = find_spec("wordllama")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / WEIGHTS).exists() or not (folder / TOKENIZER).exists():
        raise CourseError(
            "The offline embedding model, which comes with the package wordllama 0.4, is not installed.",
            "uv sync",
        )
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    # it splits no words off, so it would keep ten thousand whole questions, again for each thread, and hardly meet one
    tokenizer.model._resize_cache(0)
    stored = load_file(folder / WEIGHTS)["embedding.weight"]
    return EmbeddingModel(np.ascontiguousarray(stored.astype(np.float32)), tokenizer)
