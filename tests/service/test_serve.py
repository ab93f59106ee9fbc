"""``course serve``: for whoever has its address, once; its worker works; Ctrl-C drains and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import httpx2
import psutil
import pytest

from course_lib.settings import get_settings
from tests.browser import browser, complaints_of, faint, needs_chromium, requests_elsewhere
from tests.postgres.places import start_python, wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
SERVE = "import sys; from course_lib.cli import main; sys.argv[1:] = ['serve', '--port', '8300']; main()"
WITHOUT = ["/", "/people.json", "/page.js", "/livez", "/openapi.json", "/account", "/xray", "/nowhere", "/?token=",
           "/?token=%00"]  # fmt: skip
ADA = {"Authorization": "Bearer ada-demonstration-key"}


def next_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line):
            return found[0]
    raise AssertionError(process.stderr.read() if process.stderr else "no address")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process and the addresses that it has printed; the last one is good."""
    process = start_python(get_settings().home, SERVE)
    try:
        yield process, [next_address(process)]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
        assert "its database is dropped" in out
        assert err == ""


@pytest.fixture(scope="module")
def client(served: tuple[subprocess.Popen[str], list[str]]) -> Iterator[httpx2.Client]:
    """What has opened the address, and keeps the cookie."""
    process, (address,) = served
    with httpx2.Client(base_url=address.partition("?")[0], trust_env=False, timeout=30) as client:
        answer = client.get(address)
        assert answer.status_code == 303
        assert answer.headers["location"] == "./"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie and "path" not in cookie
        assert client.get("livez").status_code == 200, "it is let in by its cookie now"
        again = httpx2.get(address, trust_env=False)
        assert again.status_code == 401, "the token was good for one time"
        served[1].append(next_address(process))
        assert served[1][-1] != address, "and there is another"
        yield client


@pytest.mark.parametrize("path", WITHOUT)
def test_without_the_address_nothing_answers(path: str, client: httpx2.Client) -> None:
    answer = httpx2.get(str(client.base_url).rstrip("/") + path, headers=ADA, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:problem:not-let-in"
    wrong = {"Cookie": f"course-serve-{client.base_url.port}=guessed"}
    assert httpx2.get(str(client.base_url), headers=wrong, trust_env=False).status_code == 401


def test_the_page_may_be_any_of_the_seeded_users(client: httpx2.Client) -> None:
    assert "<title>Ask your documents</title>" in client.get("").text
    people = client.get("people.json").json()
    assert len(people) == 8 and all(person["about"] and person["example"] for person in people)
    for person in people:
        answer = client.get("account", headers={"Authorization": f"Bearer {person['key']}"})
        assert answer.json()["name"] == person["name"]
        assert answer.headers["x-request-id"]


def test_a_document_is_sent_read_and_answers(client: httpx2.Client) -> None:
    text = "The lamp room is cleaned on the second Thursday of the month."
    sent = client.post("documents", json={"title": "Cleaning", "text": text}, headers=ADA).json()
    deadline = time.monotonic() + 60  # the worker may still be loading
    while client.get(f"jobs/{sent['job']['id']}", headers=ADA).json()["status"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    asked = {"question": "When is the lamp room cleaned?", "document_ids": [sent["document"]["id"]]}
    answered = client.post("questions", json=asked, headers=ADA).json()
    assert "second Thursday" in answered["text"]


@needs_chromium
def test_a_person_opens_the_address_asks_and_reads_in_the_light_as_in_the_dark(
    served: tuple[subprocess.Popen[str], list[str]], client: httpx2.Client
) -> None:
    with browser() as page:
        said, asked = complaints_of(page), requests_elsewhere(page, str(client.base_url))
        page.goto(served[1][-1])
        page.locator("#documents li").first.wait_for()
        page.locator("#question").fill("What does E-417 mean and what do I do first?")
        page.keyboard.press("Enter")
        page.locator(".sources button").first.wait_for()
        page.locator("#statements").get_by_text("RagRepository.search_both").first.wait_for()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert faint(page, "body") == []
        assert (said, asked) == ([], [])


def test_when_it_is_killed_its_worker_ends_too() -> None:
    process = start_python(get_settings().home, SERVE)
    next_address(process)
    wait_until(lambda: psutil.Process(process.pid).children())
    workers = [child for child in psutil.Process(process.pid).children() if "worker" in child.cmdline()]
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=90)
    assert workers and not alive
