"""The embedded server stops when nobody uses it for a while, and only then."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from course_lib.postgres import find_server
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.watchdog import stop_when_idle, watch
from tests.postgres.places import cluster_in, has_ended, run_python, wait_until


@pytest.fixture
def cluster(used_home: Path) -> Cluster:
    cluster = cluster_in(used_home)
    cluster.ensure_running()
    return cluster


def pid_of(cluster: Cluster) -> int:
    process = cluster.process()
    assert process is not None
    return process.pid


def start_watching(cluster: Cluster, idle_seconds: float) -> threading.Thread:
    thread = threading.Thread(target=stop_when_idle, args=(cluster, pid_of(cluster), idle_seconds, 0.05), daemon=True)
    thread.start()
    return thread


def test_an_idle_server_is_stopped(cluster: Cluster) -> None:
    thread = start_watching(cluster, 0.4)
    time.sleep(0.2)
    assert cluster.process() is not None, "not before its time"
    thread.join(5)
    assert not thread.is_alive() and cluster.process() is None


def test_a_used_server_is_left_running_until_its_last_client_has_gone_for_long_enough(cluster: Cluster) -> None:
    with psycopg.connect(cluster.address().dsn):
        thread = start_watching(cluster, 0.4)
        time.sleep(1.2)
        assert thread.is_alive() and cluster.process() is not None
    left = time.monotonic()
    thread.join(5)
    assert cluster.process() is None
    assert time.monotonic() - left >= 0.3


def test_it_ends_at_once_when_the_server_ends(cluster: Cluster) -> None:
    thread = threading.Thread(target=stop_when_idle, args=(cluster, pid_of(cluster), 3600, 60), daemon=True)
    thread.start()
    time.sleep(0.1)
    cluster.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_it_leaves_a_server_alone_that_is_not_the_one_it_was_started_for(cluster: Cluster) -> None:
    earlier = pid_of(cluster)
    cluster.stop()
    cluster.ensure_running()
    stop_when_idle(cluster, earlier, 0.01, 0.01)
    assert cluster.process() is not None


def watchdogs(cluster: Cluster) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "course_lib.postgres.watchdog" in line and str(cluster.folder) in line:
            found.append(process)
    return [process for process in found if not has_ended(process)]


def test_as_a_process_of_its_own_it_stops_the_server_and_ends(cluster: Cluster) -> None:
    watch(cluster, 0.5 / 3600)
    (process,) = watchdogs(cluster)
    wait_until(lambda: cluster.process() is None, 20)
    wait_until(lambda: has_ended(process), 5)


def test_whoever_starts_the_server_starts_one_watchdog_and_whoever_finds_it_none(folder: Path) -> None:
    home = folder / "home"
    code = "import asyncio; from course_lib.postgres import find_server; asyncio.run(find_server())"
    run_python(home, code + "; asyncio.run(find_server())", COURSE_IDLE_HOURS="1")
    cluster = cluster_in(home)
    (process,) = watchdogs(cluster)
    assert process.cmdline()[-1] == "3600.0"
    cluster.stop()
    wait_until(lambda: not watchdogs(cluster), 20)


async def test_the_default_is_hours(home: Path) -> None:
    from course_lib.settings import get_settings

    assert get_settings().idle_hours >= 1
    assert (await find_server()).started


def test_a_watchdog_that_was_killed_is_replaced_at_the_next_opening(folder: Path) -> None:
    home = folder / "home"
    code = "import asyncio; from course_lib.postgres import find_server; asyncio.run(find_server())"
    run_python(home, code, COURSE_IDLE_HOURS="1")
    cluster = cluster_in(home)
    (process,) = watchdogs(cluster)
    process.kill()
    wait_until(lambda: not watchdogs(cluster))
    run_python(home, f"{code}; asyncio.run(find_server())", COURSE_IDLE_HOURS="1")
    (other,) = watchdogs(cluster)
    assert other.pid != process.pid
    cluster.stop()
    wait_until(lambda: not watchdogs(cluster), 20)


def test_many_openings_at_once_start_one_watchdog(cluster: Cluster) -> None:
    threads = [threading.Thread(target=watch, args=(cluster, 1)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(watchdogs(cluster)) == 1
