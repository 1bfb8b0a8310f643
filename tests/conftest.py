"""Fixtures: the real server, Kafka and registry, started once each and stopped whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.apicurio import Apicurio
from tests.harness.kafka import Kafka
from tests.harness.server import Server, binary

MakeServer = Callable[..., Server]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes hours; run by `make test-long`")


LONGEST = ("test_oracle_generated", "test_crash", "test_demo", "test_numbered", "test_examples")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process is left alone with one of them at the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    assert binary().exists(), f"{binary()} is not built: run `make test`"


@pytest.fixture
def make_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeServer]:
    """Starts servers: `make_server(env=…, options=[…])`."""
    servers: list[Server] = []

    def make(env: dict[str, str] | None = None, options: list[str] | None = None) -> Server:
        server = Server(tmp_path_factory.mktemp("server"), env, options)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.stop()
        print(f"--- {server.folder}\n{server.process.tail() if server.process else ''}")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server on its embedded defaults for all tests that do not mind each other."""
    server = Server(tmp_path_factory.mktemp("shared"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own for streams, groups and views."""
    text = "".join(c if c.isalnum() else "_" for c in request.node.name.lower())
    return text.removeprefix("test_")[:40].strip("_")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Apache Kafka."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def sinking(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server beside Kafka, whose sinks write often."""
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "MILLPOND_SINKS__INTERVAL": "0.5"}
    server = Server(tmp_path_factory.mktemp("sinking"), env)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """An external schema registry."""
    registry = Apicurio(tmp_path_factory.mktemp("apicurio"))
    try:
        yield registry.start()
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone."""
    return Path(__file__).resolve().parent.parent
