"""The harvest of docstrings and code: the same chunks everywhere, nothing executed, and a cache that may break."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

import numpy as np
import pytest

from course_lib.data import harvest as module
from course_lib.data.docstrings import MAX_CHARS, MIN_CHARS, source_chunks, split_docstring
from course_lib.data.functions import LONGEST
from course_lib.data.functions import MIN_CHARS as MIN_CODE
from course_lib.data.harvest import HarvestedChunk, harvest, harvest_embedded, missing_packages
from course_lib.settings import get_settings

REAL = ("attrs", "click")
PROSE = "A session holds the objects of one unit of work and sends their changes to the database when it is flushed. "
DOCSTRING = f'"""{PROSE * 3}"""\n'

WritePackage = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty COURSE_HOME for each test."""
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture
def write_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WritePackage:
    """Writes files into a folder on the path: ``write_package({"shop/__init__.py": "..."})``."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def write(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return site

    return write


def documented(word: str) -> str:
    """A module whose docstring no other has."""
    return f'"""{word}: {PROSE * 3}"""\n'


def cache_files(home: Path) -> list[Path]:
    return list((home / "harvest").iterdir())


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(file: Path) -> bytes:
        raise AssertionError(f"{file} was read")

    monkeypatch.setattr(module, "_read_source", read)


def harvest_in_a_process(hash_seed: str, home: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import dataclasses, json; from course_lib.data.harvest import harvest; "
        f"print(json.dumps([dataclasses.astuple(chunk) for chunk in harvest(packages={REAL!r})]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "COURSE_HOME": str(home), "PYTHONWARNINGS": "always"}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)


def test_two_processes_with_different_hash_seeds_harvest_the_same_list(tmp_path: Path) -> None:
    first, second = (harvest_in_a_process(seed, tmp_path / seed) for seed in ("1", "2"))
    assert first.stdout == second.stdout
    assert len(json.loads(first.stdout)) > 200
    assert first.stderr == ""


def test_nothing_is_imported(write_package: WritePackage, tmp_path: Path) -> None:
    trap = DOCSTRING + f"open({str(tmp_path / 'sprung')!r}, 'w')\n"
    write_package({"trap/__init__.py": trap, "trap/inner/__init__.py": documented("inner") + trap})
    chunks = harvest(packages=["trap", "trap.inner"])
    assert {chunk.module for chunk in chunks} == {"trap", "trap.inner"}
    assert not (tmp_path / "sprung").exists()
    assert not {"trap", "trap.inner"} & sys.modules.keys()


def test_chunks_come_in_the_order_of_packages_modules_and_lines(write_package: WritePackage) -> None:
    body = f"""
try:
    def ask():
        '''ask: {PROSE * 2}'''
except ImportError:
    class Basket:
        '''Basket: {PROSE * 2}'''
        @property
        def total(self):
            '''total: {PROSE * 2}'''
        @total.setter
        def total(self, value):
            '''setter: {PROSE * 2}'''
"""
    write_package({"shop/__init__.py": documented("shop") + body, "shop/a.py": documented("a"), "bank.py": DOCSTRING})
    assert [(c.package, c.module, c.qualname, c.chunk_index) for c in harvest(packages=["shop", "bank"])] == [
        ("shop", "shop", "", 0),
        ("shop", "shop", "ask", 0),
        ("shop", "shop", "Basket", 0),
        ("shop", "shop", "Basket.total", 0),
        ("shop", "shop", "Basket.total", 1),
        ("shop", "shop.a", "", 0),
        ("bank", "bank", "", 0),
    ]


def test_a_namespace_package_is_harvested_from_all_its_folders(
    write_package: WritePackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package({"space/one.py": documented("one")})
    other = tmp_path / "other" / "space"
    other.mkdir(parents=True)
    (other / "two.py").write_text(documented("two"))
    monkeypatch.syspath_prepend(other.parent)
    assert [chunk.module for chunk in harvest(packages=["space"])] == ["space.one", "space.two"]


def test_an_editable_install_is_harvested_from_its_sources_and_again_when_they_change(
    write_package: WritePackage,
) -> None:
    info = "my_shop-1.0.dist-info"
    site = write_package(
        {
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: my-shop\nVersion: 1.0\n",
            f"{info}/RECORD": f"__editable__.my_shop.pth,,\n{info}/RECORD,,\n",
            f"{info}/direct_url.json": '{"url": "file:///src", "dir_info": {"editable": true}}',
            "my_shop/__init__.py": documented("before"),
        }
    )
    assert [chunk.content[:6] for chunk in harvest(packages=["my-shop"])] == ["before"]
    (site / "my_shop/__init__.py").write_text(documented("afterwards"))
    assert [chunk.content[:10] for chunk in harvest(packages=["my-shop"])] == ["afterwards"]


def test_a_wheel_is_harvested_from_the_files_it_recorded(write_package: WritePackage) -> None:
    info = "wheelie-2.0.dist-info"
    write_package(
        {
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: wheelie\nVersion: 2.0\n",
            f"{info}/RECORD": f"rolling/__init__.py,,\nrolling/gone.py,,\n../../bin/roll.py,,\n{info}/RECORD,,\n\n",
            "rolling/__init__.py": documented("recorded"),
            "rolling/stray.py": documented("stray"),
        }
    )
    assert [chunk.module for chunk in harvest(packages=["Wheelie"])] == ["rolling"]


def test_the_second_call_reads_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = harvest(packages=REAL)
    forbid_reading(monkeypatch)
    assert harvest(packages=REAL) == chunks


def test_another_version_of_a_package_is_harvested_again(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    harvest(packages=["attrs"])
    monkeypatch.setattr(PathDistribution, "version", "0.0.1")
    harvest(packages=["attrs"])
    assert len(cache_files(home)) == 2


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "garbled", "text", "other rows"])
def test_a_damaged_cache_is_rebuilt(damage: str, home: Path) -> None:
    chunks = harvest(packages=["attrs"])
    [cache] = cache_files(home)
    intact = cache.read_bytes()
    middle = len(intact) // 2
    damages = {
        "empty": b"",
        "truncated": intact[:middle],
        "flipped": intact[:middle] + bytes([intact[middle] ^ 0xFF]) + intact[middle + 1 :],
        "garbled": intact[:10] + b"\xff" + intact[11:],
        "text": b"[]",
        "other rows": gzip.compress(b"[[1]]"),
    }
    cache.write_bytes(damages[damage])
    assert harvest(packages=["attrs"]) == chunks
    assert cache.read_bytes() == intact


def test_a_home_that_cannot_be_written_only_costs_the_cache(home: Path) -> None:
    home.write_text("a file where the folder should be")
    assert harvest(packages=["attrs"]) == harvest(packages=["attrs"]) != []


def test_a_write_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise PermissionError("another process holds the file open")

    monkeypatch.setattr(Path, "replace", fail)
    assert harvest(packages=["attrs"])
    assert cache_files(home) == []


def test_chunks_keep_their_bounds_and_never_repeat() -> None:
    chunks = harvest(packages=REAL)
    assert all(MIN_CHARS <= len(chunk.content) <= MAX_CHARS for chunk in chunks)
    assert len({chunk.content for chunk in chunks}) == len(chunks)
    assert len({(chunk.package, chunk.module, chunk.qualname, chunk.chunk_index) for chunk in chunks}) == len(chunks)


def test_the_same_text_in_two_modules_is_one_chunk(write_package: WritePackage) -> None:
    write_package({"shop/__init__.py": DOCSTRING, "shop/copy.py": DOCSTRING})
    assert [chunk.module for chunk in harvest(packages=["shop"])] == ["shop"]


def test_any_prose_is_cut_within_bounds_without_losing_a_word() -> None:
    generator = random.Random(7)
    for _ in range(300):
        words = [["word" * generator.randint(1, 4) for _ in range(generator.randint(1, 300))] for _ in range(12)]
        joint = generator.choice([" ", "\n", "\n    "])
        text = "\n\n".join(joint.join(paragraph) for paragraph in words)
        chunks = split_docstring(text)
        assert all(MIN_CHARS <= len(chunk) <= MAX_CHARS for chunk in chunks)
        assert " ".join(chunks).split() == text.split()


def test_a_long_docstring_is_cut_between_paragraphs() -> None:
    paragraphs = [f"Part {number}. {PROSE * 3}".strip() for number in range(9)]
    chunks = split_docstring("\n\n".join(paragraphs))
    assert len(chunks) > 3
    assert [paragraph for chunk in chunks for paragraph in chunk.split("\n\n")] == paragraphs


def test_short_paragraphs_share_a_chunk() -> None:
    text = "\n\n".join([PROSE.strip() * 2] * 3)
    assert split_docstring(text) == [text]


def test_text_is_clean() -> None:
    raw = f"Sum\x00mary.\x1b\n\n\n   \n        {PROSE}\ud800\r\n        \xa0 {PROSE}\n        "
    assert split_docstring(raw) == [f"Summary.\n\n{PROSE.strip()}\n  {PROSE.strip()}"]


@pytest.mark.parametrize(
    "noise",
    [
        "Examples\n\n" + ">>> from shop import basket\n>>> basket.total()\n42\n" * 9,
        "| 17.5 | 18.25 | 19.125 | 20.0625 |\n" * 9,
        "Too short to be found by its meaning.",
    ],
    ids=["doctest", "table", "tiny"],
)
def test_noise_is_left_out(noise: str) -> None:
    assert split_docstring(noise) == []


def test_what_cannot_be_parsed_is_skipped_and_the_rest_kept(write_package: WritePackage) -> None:
    write_package(
        {
            "shop/__init__.py": documented("good"),
            "shop/syntax.py": DOCSTRING + "def broken(:\n",
            "shop/null.py": DOCSTRING + "\0",
            "shop/encoding.py": b"# coding: no-such-encoding\n" + DOCSTRING.encode(),
            "shop/bytes.py": documented("caf\xe9").encode("latin-1"),
            "shop/latin.py": b"# coding: latin-1\n" + documented("caf\xe9").encode("latin-1"),
            "shop/deep.py": DOCSTRING + "x = " + "-" * 100_000 + "1\n",
            "shop/chain.py": DOCSTRING + "x = 1" + " + 1" * 100_000 + "\n",
            "shop/generated.py": documented("huge") + "x = 1\n" * 400_000,
            "shop/tests/test_shop.py": documented("test"),
            "shop/not-a-module.py": documented("script"),
        }
    )
    assert [chunk.module for chunk in harvest(packages=["shop"])] == ["shop", "shop.latin"]


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege there")
def test_links_that_form_a_loop_are_not_followed(write_package: WritePackage) -> None:
    site = write_package({"shop/__init__.py": documented("shop")})
    for name in ("again", "and_again"):  # two of them: whoever followed would not come back
        (site / "shop" / name).symlink_to(site / "shop", target_is_directory=True)
    (site / "shop" / "itself.py").symlink_to(site / "shop" / "itself.py")
    os.mkfifo(site / "shop" / "pipe.py")
    assert [chunk.module for chunk in harvest(packages=["shop"])] == ["shop"]


def test_warnings_about_other_peoples_code_are_not_shown() -> None:
    source = documented(r"\d").encode()
    with pytest.warns((SyntaxWarning, DeprecationWarning)):
        assert list(source_chunks(source))


def test_a_harvest_is_silent(write_package: WritePackage, capfd: pytest.CaptureFixture[str]) -> None:
    write_package({"shop.py": documented(r"\d")})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert harvest(packages=["shop"])
    assert capfd.readouterr() == ("", "")


def test_packages_that_are_not_installed_are_skipped_and_named() -> None:
    packages = ["no-such-package", "", "../attrs", "no_such.inner", "attrs"]
    assert harvest(packages=packages) == harvest(packages=["attrs"])
    assert missing_packages(packages) == packages[:-1]


def test_every_default_package_is_installed_with_the_course() -> None:
    assert missing_packages() == []


def test_a_limit_spreads_over_the_whole_list() -> None:
    chunks = harvest(packages=REAL)
    some = harvest(20, packages=REAL)
    positions = [chunks.index(chunk) for chunk in some]
    assert len(some) == 20
    assert positions == sorted(positions)
    assert {chunk.package for chunk in some} == set(REAL)
    assert harvest(10**6, packages=REAL) == chunks
    assert harvest(0, packages=REAL) == []
    with pytest.raises(ValueError, match="-1"):
        harvest(-1, packages=REAL)


def test_one_package_may_be_named_without_a_list() -> None:
    chunks = harvest(packages="attrs")
    assert isinstance(chunks[0], HarvestedChunk)
    assert chunks == harvest(packages=["attrs"])


FUNCTION = """
class Basket:
    @property
    def total(self, discount: float = 0.0) -> float:
        '''What is to be paid.'''
        prices = [item.price * item.count for item in self.items]
        return sum(prices) * (1 - discount)

    def short(self):
        return 1
"""


def test_with_code_functions_follow_their_modules_docstrings(write_package: WritePackage) -> None:
    write_package({"shop/__init__.py": documented("shop") + FUNCTION, "shop/a.py": FUNCTION.replace("total", "sum_")})
    chunks = harvest(packages=["shop"], code=True)
    assert [(c.module, c.qualname) for c in chunks] == [
        ("shop", ""),
        ("shop", "Basket.total"),
        ("shop.a", "Basket.sum_"),
    ]
    assert chunks[1].content.splitlines() == [
        "def total(self, discount: float = 0.0) -> float:",
        "    prices = [item.price * item.count for item in self.items]",
        "    return sum(prices) * (1 - discount)",
    ]
    assert harvest(packages=["shop"]) == chunks[:1]


def test_code_is_cut_within_bounds_and_loses_no_line(write_package: WritePackage) -> None:
    lines = [f"    value_{number} = {'x' * (number * 37 % 190)!r}" for number in range(60)]
    long = "    last = " + repr("y" * 2_000)
    write_package({"shop.py": "def fill():\n" + "\n".join([*lines, long]) + "\n"})
    chunks = harvest(packages=["shop"], code=True)
    assert all(MIN_CODE <= len(chunk.content) <= LONGEST + MIN_CODE for chunk in chunks)
    assert {line.strip() for line in lines} <= {line.strip() for c in chunks for line in c.content.splitlines()}
    assert sum(chunk.content.count("y") for chunk in chunks) == 2_000


def test_files_in_other_encodings_and_line_ends_keep_their_code(write_package: WritePackage) -> None:
    body = "def greet():\r\n    caf\xe9 = 1\r\n" + "".join(f"    value_{n} = caf\xe9 + {n}\r\n" for n in range(9))
    write_package({"shop.py": f"# coding: latin-1\r\n{body}".encode("latin-1")})
    [chunk] = harvest(packages=["shop"], code=True)
    assert chunk.content.startswith("def greet():\n    caf\xe9 = 1\n")


async def test_vectors_are_cached_and_a_damaged_cache_is_rebuilt(home: Path) -> None:
    chunks, vectors = await harvest_embedded(40, packages=REAL, code=True)
    assert chunks == harvest(40, packages=REAL, code=True)
    assert vectors.shape == (40, 256)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    [cache] = [file for file in cache_files(home) if file.suffix == ".npz"]
    intact = cache.read_bytes()
    middle = len(intact) // 2
    for damage in (b"", intact[:middle], intact[:middle] + bytes([intact[middle] ^ 0xFF]) + intact[middle + 1 :]):
        cache.write_bytes(damage)
        assert np.array_equal((await harvest_embedded(40, packages=REAL, code=True))[1], vectors)
        assert cache.read_bytes() == intact


async def test_vectors_that_are_cached_are_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, vectors = await harvest_embedded(5, packages=REAL)

    async def embed(texts: object) -> None:
        raise AssertionError("the model was asked again")

    monkeypatch.setattr("course_lib.llm.embed.embed_texts", embed)
    assert np.array_equal((await harvest_embedded(5, packages=REAL))[1], vectors)
