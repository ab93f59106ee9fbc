"""Tens of thousands of real text chunks, cut from the docstrings and functions of packages installed with the course.

Nothing is redistributed, downloaded, imported or executed: the files are read and parsed, and the chunks cached.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from course_lib.data.docstrings import source_chunks
from course_lib.llm.names import embedding_space
from course_lib.settings import get_settings

# Everything here is pinned in requirements.lock on every platform; the standard library differs by Python version.
# fmt: off
PACKAGES: tuple[str, ...] = (
    "alembic", "anyio", "arrow", "asyncpg", "attrs", "babel", "beautifulsoup4", "click", "coverage", "fastapi",
    "filelock", "fonttools", "fsspec", "httpx", "httpx2", "huggingface-hub", "ipykernel", "ipython", "jedi", "jinja2",
    "jupyter-client", "jupyter-server", "lark", "mako", "matplotlib", "nbconvert", "nbformat", "numpy",
    "openai", "opentelemetry-api", "packaging", "pillow", "platformdirs", "prompt-toolkit", "psycopg",
    "pydantic", "pydantic-core", "pydantic-settings", "pygments", "pyparsing", "pytest", "python-dateutil", "pyzmq",
    "requests", "rich", "sqlalchemy", "tinycss2", "tornado", "traitlets", "typer", "typing-extensions", "urllib3",
    "wcwidth",
)
# fmt: on
"""The distributions harvested by default: about 19,000 chunks of docstrings, and 66,000 more of functions."""

# To be raised whenever other chunks would come out of the same packages.
_FORMAT = 1
# Tests document themselves, and a vendored copy documents another package.
_SKIPPED_FOLDERS = frozenset({"tests", "test", "_vendor", "_vendored"})
# Above it there are only generated tables and parsers, slower to parse than a whole package.
_MAX_SOURCE_BYTES = 2_000_000


@dataclass(frozen=True)
class HarvestedChunk:
    """A piece of one docstring or function. ``chunk_index`` counts from 0 within (package, module, qualname).

    ``qualname`` is empty for the module's own docstring.
    """

    package: str
    module: str
    qualname: str
    chunk_index: int
    content: str


@dataclass(frozen=True)
class _Installed:
    """A package that was found: a wheel, or else roots, each a file or folder after the path it is imported from."""

    name: str
    version: str
    wheel: Distribution | None
    roots: tuple[tuple[Path, Path], ...]


def harvest(
    limit: int | None = None, packages: Sequence[str] | None = None, code: bool = False
) -> list[HarvestedChunk]:
    """Chunks of ``packages`` (distribution or import names), in the order of packages, modules and lines.

    Packages that are not installed are skipped; ``missing_packages`` names them. The first call takes half a
    minute, later ones read the cache.

    Args:
        limit: that many chunks, spread evenly over the whole list.
        code: after a module's docstrings, the signatures and bodies of its functions too.

    Raises:
        ValueError: ``limit`` is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit counts chunks, so it cannot be {limit}")
    installed = [found for name in _names(packages) if (found := _find(name))]
    cache = _folder() / f"{_cache_key(installed, code)}.json.gz"
    chunks = _read_cache(cache)
    if chunks is None:
        chunks = _read_packages(installed, code)
        content = json.dumps([astuple(chunk) for chunk in chunks]).encode()
        _write_cache(cache, gzip.compress(content, compresslevel=6, mtime=0))
    if limit is None or limit >= len(chunks):
        return chunks
    return [chunks[index * len(chunks) // limit] for index in range(limit)]


async def harvest_embedded(
    limit: int | None = None, packages: Sequence[str] | None = None, code: bool = False
) -> tuple[list[HarvestedChunk], NDArray[np.float32]]:
    """The chunks of ``harvest`` and their vectors, shape (chunks, 256), float32.

    The vectors are the embedding model's of this process. The first call embeds, later ones read the cache. A real
    server's model would be paid for every chunk.
    """
    from course_lib.llm import embed_texts  # brings the SDK and the model

    chunks = harvest(limit, packages, code)
    texts = [chunk.content for chunk in chunks]
    key = sha256(json.dumps([embedding_space(), texts]).encode()).hexdigest()[:16]
    cache = _folder() / f"{key}.npz"
    vectors = _read_vectors(cache, len(chunks))
    if vectors is None:
        vectors = await embed_texts(texts)
        packed = io.BytesIO()
        np.savez(packed, vectors=vectors)
        _write_cache(cache, packed.getvalue())
    return chunks, vectors


def missing_packages(packages: Sequence[str] | None = None) -> list[str]:
    """Those of ``packages``, or of the default ones, that ``harvest`` skips because they are not installed."""
    return [name for name in _names(packages) if _find(name) is None]


def _names(packages: Sequence[str] | None) -> list[str]:
    if packages is None:
        return list(PACKAGES)
    return list(dict.fromkeys([packages] if isinstance(packages, str) else packages))


def _read_packages(installed: Iterable[_Installed], code: bool) -> list[HarvestedChunk]:
    """In one process: spawned workers would need a guarded ``__main__``, which a learner's script may not have."""
    chunks: list[HarvestedChunk] = []
    seen: set[str] = set()
    counts: Counter[tuple[str, str, str]] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes are not the learner's concern
        for package in installed:
            for module, file in sorted(_files(package)):
                for qualname, content in source_chunks(_read_source(file), code):
                    if content not in seen:
                        seen.add(content)
                        place = (package.name, module, qualname)
                        chunks.append(HarvestedChunk(*place, counts[place], content))
                        counts[place] += 1
    return chunks


def _read_source(file: Path) -> bytes:
    """Empty for what is too large, unreadable or not a regular file: reading a pipe would never end."""
    try:
        if file.is_file() and file.stat().st_size <= _MAX_SOURCE_BYTES:
            return file.read_bytes()
    except OSError:
        pass
    return b""


def _find(name: str) -> _Installed | None:
    """A wheel is known by its version; an editable install or a bare folder by the state of its files."""
    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError):
        found = None
    if found and found.read_text("RECORD") and not _is_editable(found):
        return _Installed(name, found.version, found, ())
    top_level = found.read_text("top_level.txt") if found else None
    modules = top_level.split() if top_level else [name.replace("-", "_") if found else name]
    package = _Installed(name, "", None, tuple(sorted({root for module in modules for root in _locate(module)})))
    state = _state(package)
    return replace(package, version=state) if state else None


def _is_editable(found: Distribution) -> bool:
    # https://packaging.python.org/en/latest/specifications/direct-url-data-structure/
    return bool(re.search(r'"editable":\s*true', found.read_text("direct_url.json") or ""))


def _locate(module: str) -> Iterator[tuple[Path, Path]]:
    """Roots of a module. Only its top level is asked for: finding ``a.b`` would import ``a``."""
    top, *inner = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return
    if spec is None:
        return
    for folder in map(Path, spec.submodule_search_locations or ()):  # a namespace package has several
        yield folder.parent, folder.joinpath(*inner)
    if spec.submodule_search_locations is None and not inner and spec.origin:
        yield Path(spec.origin).parent, Path(spec.origin)


def _files(package: _Installed) -> Iterator[tuple[str, Path]]:
    """Module name and path of every Python file of the package, tests and vendored copies left out."""
    if package.wheel:
        for row in csv.reader((package.wheel.read_text("RECORD") or "").splitlines()):
            path = PurePosixPath(row[0] if row else "")
            if _is_module(path):
                yield _module_name(path), Path(str(package.wheel.locate_file(path)))
    for above, root in package.roots:
        for file in [root] if root.is_file() else _walk(root):
            path = PurePosixPath(file.relative_to(above).as_posix())
            if _is_module(path):
                yield _module_name(path), file


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, files in os.walk(folder):  # links to folders are not followed: they may form a loop
        yield from (Path(parent, file) for file in files)


def _is_module(path: PurePosixPath) -> bool:
    """False for scripts and data as well: what stands outside the package, or could not be imported by its name."""
    if path.suffix != ".py" or not _SKIPPED_FOLDERS.isdisjoint(path.parts):
        return False
    return all(part.isidentifier() for part in path.with_suffix("").parts)


def _module_name(path: PurePosixPath) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _state(package: _Installed) -> str:
    """A hash of the names, sizes and times of a package's files; empty where there are none."""
    digest = sha256()
    found = False
    for module, file in sorted(_files(package)):
        if file.is_file():
            found, status = True, file.stat()
            digest.update(f"{module} {file} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogatepass"))
    return digest.hexdigest() if found else ""


def _folder() -> Path:
    return get_settings().home / "harvest"


def _cache_key(installed: Iterable[_Installed], code: bool) -> str:
    # A newer Python parses files that an older one skips.
    parts = [_FORMAT, code, sys.version_info[:2], [(package.name, package.version) for package in installed]]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _read_cache(cache: Path) -> list[HarvestedChunk] | None:
    """None where there is no cache, or a damaged one."""
    try:
        rows = json.loads(gzip.decompress(cache.read_bytes()))
        return [HarvestedChunk(*row) for row in rows]
    except (OSError, EOFError, zlib.error, ValueError, TypeError):
        return None


def _read_vectors(cache: Path, count: int) -> NDArray[np.float32] | None:
    """None where there is no cache, or a damaged one: an .npz is a zip, and holds a checksum of what is in it."""
    try:
        with np.load(cache) as packed:
            vectors: NDArray[np.float32] = packed["vectors"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error):
        return None
    return vectors if len(vectors) == count else None


def _write_cache(cache: Path, content: bytes) -> None:
    """Written beside its place and moved there whole; without the right or the room to write, left undone."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache.parent, suffix=".part", delete=False) as part:
            unfinished = Path(part.name)
        try:
            unfinished.write_bytes(content)
            unfinished.replace(cache)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError:
        pass  # the next call makes it again: slower, and the same
