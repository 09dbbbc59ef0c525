"""The fixtures of the suite."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

from onitu.plug.driver import Driver
from onitu.plug.options import Value

from .bench import Bench, bench_on, opened, reason_of_skip, skip
from .server import Fault, LocalServer, Root, Server

T = TypeVar("T")

_NUMBERS = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "onitu/testing/conformance" in item.path.as_posix():
            item.add_marker(pytest.mark.trio)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and (reason := reason_of_skip()):
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {reason}")
    return report


def _named(config: pytest.Config, option: str, base: type[T], default: type[T] | None = None) -> type[T]:
    where = str(config.getoption(option))
    if not where and default is not None:
        return default
    module, _, name = where.partition(":")
    if not (module and name):
        raise pytest.UsageError(f"{option} MODULE:CLASS is needed, as in {option} onitu.drivers.local:LocalDriver")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise pytest.UsageError(f"{option} {where} is no {base.__name__}")
    return found


@pytest.fixture(scope="session")
def kind(pytestconfig: pytest.Config) -> type[Driver]:
    """The driver's class."""
    return _named(pytestconfig, "--driver", Driver)  # type: ignore[type-abstract]  # a class that implements it


@pytest.fixture(scope="session")
def largest(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--largest"))


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, for all tests."""
    made = _named(pytestconfig, "--server", Server, LocalServer)  # type: ignore[type-abstract]  # likewise
    with made(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def root(server: Server) -> Root:
    """An empty root."""
    return server.empty(f"root{next(_NUMBERS)}")


@pytest.fixture
async def bench(kind: type[Driver], root: Root, tmp_path: Path) -> AsyncIterator[Bench]:
    """A driver on an empty root that is a replica."""
    async with bench_on(kind, root, tmp_path / "workspace") as made:
        yield made


@attrs.frozen
class Faulty:
    """A server that can have faults, and the driver that meets them."""

    server: Server
    kind: type[Driver]
    root: Root
    place: Path

    @contextlib.contextmanager
    def having(self, fault: Fault) -> Iterator[Mapping[str, Value]]:
        """Have a fault; the options of a driver that meets it."""
        if fault not in self.server.faults:
            skip(f"{type(self.server).__name__} cannot have it that {fault.value}")
        with self.server.fault(fault, self.root) as options:
            yield options

    @contextlib.asynccontextmanager
    async def driver(self, options: Mapping[str, Value] | None = None) -> AsyncIterator[Driver]:
        """A driver that is not identified yet."""
        async with opened(self.kind, self.root, self.place, options) as driver:
            yield driver

    @contextlib.asynccontextmanager
    async def bench(self) -> AsyncIterator[Bench]:
        async with bench_on(self.kind, self.root, self.place) as made:
            yield made


@pytest.fixture
def faulty(server: Server, kind: type[Driver], root: Root, tmp_path: Path) -> Faulty:
    return Faulty(server, kind, root, tmp_path / "workspace")
