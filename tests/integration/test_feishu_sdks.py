"""The two official SDKs hold the conversation with the emulator: two readings of the protocol that are not ours.

They are installed once, pinned, into a cache outside of the repository: `REGROW_TEST_CACHE`, else `regrow-tests` under
`XDG_CACHE_HOME` or `~/.cache`. Where one cannot be had the test is skipped by name, but not where `CI` is true.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

import pytest

from regrow.testing.feishu import FeishuEmulator, Settings
from regrow.testing.feishu.conversation import CARD, hold

SDKS = Path(__file__).parent / "sdks"
INSTALL_S = 600
CONNECT_S = 90.0
STOP_S = 10.0


def missing(reason: str) -> NoReturn:
    """Skip, or fail where nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def cached(pin: Path, install: Callable[[Path], None]) -> Path:
    """The directory made by `install` for this pin, made once; runs at the same time wait for one another."""
    base = os.environ.get("REGROW_TEST_CACHE")
    cache = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else (Path(cache) if cache else Path.home() / ".cache") / "regrow-tests"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"{pin.stem}-{version}-{hashlib.sha256(pin.read_bytes()).hexdigest()[:12]}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = root / name
        if not (directory / "complete").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            install(directory)
            (directory / "complete").touch()
    return directory


def run(*argv: str, cwd: Path) -> None:
    """Run an installer; skip or fail with the end of what it said."""
    try:
        subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.CalledProcessError as error:
        missing(f"{argv[0]} could not install the SDK: {error.stderr[-500:]}")


@pytest.fixture(scope="session")
def python_sdk() -> list[str]:
    """The argv of the bot on `lark-oapi`."""
    pin = SDKS / "requirements.txt"

    def install(directory: Path) -> None:
        run(sys.executable, "-m", "venv", str(directory / "env"), cwd=directory)
        python = str(directory / "env/bin/python")
        run(python, "-m", "pip", "install", "--quiet", "--requirement", str(pin), cwd=directory)

    return [str(cached(pin, install) / "env/bin/python"), str(SDKS / "bot.py")]


@pytest.fixture(scope="session")
def node_sdk() -> tuple[list[str], Path]:
    """The argv of the bot on `@larksuiteoapi/node-sdk`, and where its modules are."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing("node and npm are needed for the official Node SDK")
    pin = SDKS / "package.json"

    def install(directory: Path) -> None:
        shutil.copy(pin, directory)
        run(npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", cwd=directory)

    return [node, str(SDKS / "bot.js")], cached(pin, install) / "node_modules"


@contextlib.asynccontextmanager
async def bot(feishu: FeishuEmulator, argv: list[str], log: Path, **more: str) -> AsyncIterator[None]:
    """A bot in a process of its own, ended with its group."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(log.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "BASE_URL": feishu.base_url,
        "APP_ID": feishu.app.app_id,
        "APP_SECRET": feishu.app.secret,
        "CARD": json.dumps(CARD),
        **more,
    }
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *argv, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        await feishu.connected(timeout=CONNECT_S)
        yield
    except BaseException:
        print(log.read_text(errors="replace")[-5000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        async with asyncio.timeout(STOP_S):
            await process.wait()


async def test_the_python_sdk_holds_the_conversation(python_sdk: list[str], tmp_path: Path) -> None:
    async with FeishuEmulator() as feishu, bot(feishu, python_sdk, tmp_path / "bot.log"):
        report = await hold(feishu, patience=30)
    assert report.answers == 2, "the SDK does not remember what it answered"
    assert report.connections == 2


async def test_the_node_sdk_holds_the_conversation(node_sdk: tuple[list[str], Path], tmp_path: Path) -> None:
    argv, modules = node_sdk
    settings = Settings.quick()
    settings.log_id_bits = 53
    async with FeishuEmulator(settings) as feishu, bot(feishu, argv, tmp_path / "bot.log", NODE_PATH=str(modules)):
        report = await hold(feishu, patience=30)
    assert report.answers == 2, "the SDK does not remember what it answered"
    assert report.connections == 2


async def test_the_node_sdk_rounds_long_log_ids(node_sdk: tuple[list[str], Path], tmp_path: Path) -> None:
    argv, modules = node_sdk
    async with FeishuEmulator() as feishu, bot(feishu, argv, tmp_path / "bot.log", NODE_PATH=str(modules)):
        said = await feishu.user("Alice").say(feishu.user("Alice").private(), "hello")
        (delivery,) = await feishu.delivered(said)
        changes = [entry.what["why"] for entry in feishu.journal.bad_frames]
    assert delivery.attempts == ["200"], "the platform goes by the message_id of the frame"
    assert changes, "then 64 bits can be the rule for every peer"
    assert all("changed log_id" in why for why in changes)
