"""Which client one gets, and what having it costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import traceback
from base64 import b64encode
from pathlib import Path

import openai
import pytest

import course_lib.llm as llm
from course_lib.llm import openai_client, openai_client_sync
from course_lib.settings import get_settings
from tests.llm.conftest import CompatibleServer

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, without a key and without the developer's .env."""
    preamble = "from course_lib.settings import Settings\nSettings.model_config['env_file'] = None\n"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "COURSE_"))}
    return subprocess.run(
        [sys.executable, *options, "-c", preamble + code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def test_importing_the_room_loads_no_sdk_no_numpy_and_no_model() -> None:
    code = (
        "import sys, time; before = set(sys.modules); t = time.perf_counter()\n"
        "import course_lib.llm\n"
        "print(time.perf_counter() - t, sorted(set(sys.modules) - before))"
    )
    seconds, _, names = run_python(code).stdout.partition(" ")
    assert float(seconds) < 0.05
    assert not {"openai", "httpx2", "numpy", "wordllama", "tokenizers"} & set(eval(names))


def test_offline_no_socket_is_connected_and_nothing_is_written_to_stderr() -> None:
    code = """
import asyncio, logging, sys
events = []
sys.addaudithook(lambda name, args: events.append(name) if name.startswith("socket.") else None)
from course_lib.llm import *
rag = "[1] The ferry leaves at nine."
async def main():
    client = openai_client()
    await client.embeddings.create(model=EMBEDDING_MODEL, input="a text", dimensions=DIMENSIONS)
    await client.responses.create(model=CHAT_MODEL, instructions=rag, input="When does the ferry leave?")
    messages = [{"role": "user", "content": "hello"}]
    async for _ in await client.chat.completions.create(model=CHAT_MODEL, messages=messages, stream=True):
        pass
    await embed_texts(["one", "two"])
asyncio.run(main())
openai_client_sync().embeddings.create(model=EMBEDDING_MODEL, input="a text")
reaching_out = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto"}
print(sorted(reaching_out & set(events)), logging.getLogger().handlers, "wordllama" in sys.modules)
"""
    finished = run_python(code, "-W", "error")
    assert finished.stdout.strip() == "[] [] False"
    assert finished.stderr == ""


def test_the_audit_of_sockets_would_notice_a_connection() -> None:
    code = """
import socket, sys
events = []
sys.addaudithook(lambda name, args: events.append(name))
with socket.socket() as listener, socket.socket() as caller:
    listener.bind(("127.0.0.1", 0)); listener.listen(); caller.connect(listener.getsockname())
print("socket.connect" in events)
"""
    assert run_python(code).stdout.strip() == "True"


def test_a_plain_client_is_built_once_and_kept() -> None:
    assert openai_client() is openai_client()
    assert isinstance(openai_client(), openai.AsyncOpenAI)
    assert isinstance(openai_client_sync(), openai.OpenAI)


def test_a_client_with_a_behaviour_is_its_own() -> None:
    assert openai_client(latency_ms=1) is not openai_client(latency_ms=1)
    assert openai_client(latency_ms=1) is not openai_client()


def test_the_kept_offline_client_serves_one_event_loop_after_another() -> None:
    async def ask() -> str:
        response = await openai_client().responses.create(model=llm.CHAT_MODEL, input="hello")
        return response.output_text

    assert asyncio.run(ask()) == asyncio.run(ask())


async def test_closing_the_kept_client_does_not_spoil_it_for_the_next_caller() -> None:
    async with openai_client() as client:
        await client.models.list()
    assert client.is_closed()
    assert (await openai_client().models.list()).data


def test_a_key_set_later_is_seen_once_the_settings_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    offline_client = openai_client()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-later")
    assert openai_client() is offline_client
    get_settings.cache_clear()
    assert openai_client() is not offline_client
    assert str(openai_client().base_url) == "https://api.openai.com/v1/"
    assert llm.EMBEDDING_MODEL == "text-embedding-3-small"


def test_an_empty_base_url_in_the_environment_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-some")
    get_settings.cache_clear()
    assert str(openai_client().base_url) == "https://api.openai.com/v1/"


async def test_an_account_and_a_query_in_the_address_are_sent_and_not_shown(
    server: CompatibleServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The account becomes the header that httpx would make of it; httpx's log and the SDK's errors have no account."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("://", "://ada:p4ss%2Fword@") + "?version=1")
    get_settings.cache_clear()
    caplog.set_level("DEBUG")
    with pytest.raises(openai.APIError) as caught:  # that server answers POST alone, and only what it knows
        await openai_client().models.list()
    assert str(openai_client().base_url) == f"{server.url}/"
    await openai_client().embeddings.create(model="any", input="a text")
    openai_client_sync().embeddings.create(model="any", input="a text")
    assert server.keys == ["Basic " + b64encode(b"ada:p4ss/word").decode()] * 2
    assert "p4ss" not in caplog.text + "".join(traceback.format_exception(caught.value))


def test_the_offline_names_are_in_force_without_a_key() -> None:
    assert (llm.EMBEDDING_MODEL, llm.CHAT_MODEL) == ("wordllama-l2-256", "offline-extractive")


def test_everything_promised_can_be_imported() -> None:
    assert [name for name in llm.__all__ if not hasattr(llm, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = llm.nonsense


async def test_an_unknown_path_is_a_404_that_lists_the_known_ones() -> None:
    with pytest.raises(openai.NotFoundError, match="POST /embeddings"):
        await openai_client().moderations.create(input="x")


async def test_the_models_are_listed() -> None:
    listed = [model.id async for model in openai_client().models.list()]
    assert listed == ["wordllama-l2-256", "offline-extractive"]
