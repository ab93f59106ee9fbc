from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
import uvicorn
from shop.api import app
from shop.engines import async_engine, engine
from shop.models import Base, Customer, Order
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema, DropSchema

pytest_plugins = ["course_lib.instruments.pytest_plugin"]


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    with engine.begin() as connection:
        connection.execute(CreateSchema("shop"))
        Base.metadata.create_all(connection)
    yield
    with engine.begin() as connection:
        connection.execute(DropSchema("shop", cascade=True))


@pytest.fixture
def ordered() -> Callable[[int], None]:
    """Have so many orders, each of a customer of its own."""

    def have(count: int) -> None:
        with Session(engine) as session:
            session.query(Order).delete()
            session.query(Customer).delete()
            session.add_all(Order(id=n, customer=Customer(name=f"customer {n}")) for n in range(1, count + 1))
            session.commit()

    return have


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """The app in this process, without a server."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client
    await async_engine.dispose()


@pytest.fixture
def server() -> Iterator[httpx.Client]:
    """The app under uvicorn, in a thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    uvicorn_server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not uvicorn_server.started:
        time.sleep(0.01)
    with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
        yield client
    uvicorn_server.should_exit = True
    thread.join()
