"""For the whole run: nobody's home is touched, and with CI=true nothing is skipped."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from regrow.testing.postgres import Server

# How long an example takes is the machine's business: no test has a bound on time.
hypothesis.settings.register_profile("regrow", deadline=None)
hypothesis.settings.load_profile("regrow")

HOMES = ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
skipped: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a home of its own; root's state and sockets are there too, and not the system's."""
    # A run in the background of a shell is started with Ctrl-C ignored, and would hand that on to all it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    home = Path(tempfile.mkdtemp(prefix="regrow-home-"))
    for name in HOMES:
        os.environ[name] = str(home if name == "HOME" else home / name.lower())
    for name in [name for name in os.environ if name.startswith(("REGROW_", "GIT_"))]:
        del os.environ[name]
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process has set for its log lines."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", choices=("sqlite", "postgres"), default="sqlite", help="where whole worlds keep theirs")


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes the address of a new store as `World` takes it; "" is a file of the world's own."""
    if request.config.getoption("--store") == "sqlite":
        return str
    server: Server = request.getfixturevalue("postgres")
    return server.database


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, started when the first test asks for it."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """An expected failure counts as skipped too: it is a test that says nothing."""
    if skipped and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if skipped and os.environ.get("CI") == "true":
        terminalreporter.section("cannot pass: in CI nothing may be skipped", red=True)
        for test in skipped:
            terminalreporter.line(test)
