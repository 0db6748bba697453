"""`regrow channels add feishu` and `check feishu`: the real command against the platform on the loopback, with a person
at the terminal (a pseudo terminal), and without one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from regrow.channels.feishu.api import DOMAINS
from regrow.channels.feishu.lease import lease
from regrow.cli import main
from regrow.config import load
from regrow.testing.feishu import FeishuEmulator, Settings
from regrow.testing.feishu.tokens import App

DEADLINE_S = 30.0
CONFIG = """\
# What is cared for.
[service]
name = "tiny"            # kept as it is
command = ["sleep", "1000"]

[channels]   # none yet

[daemon]
console = "127.0.0.1:{port}"
"""
FULL = "application:application:self_manage", "im:message.group_msg"


class Platform:
    """The emulator in a thread of its own, so that a test may wait for a terminal meanwhile."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.feishu = self.call(self._make())
        self.app = self.feishu.app
        self.ada = self.feishu.user("Ada")
        self.private = self.ada.private()

    @staticmethod
    async def _make() -> FeishuEmulator:
        return await FeishuEmulator(Settings.quick()).__aenter__()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_S)

    def say(self, text: str) -> Any:
        """Ada writes to the bot."""
        return self.call(self.ada.say(self.private, text))

    def press_it(self) -> Any:
        """Ada presses the button of the test message."""

        async def press() -> Any:
            card = await self.feishu.wait_for(self.private, lambda message: message.card is not None)
            return await self.ada.click(card, "It works")

        return self.call(press())

    def do(self, work: Callable[[], Any]) -> Any:
        """Do something at once in the platform's own thread."""

        async def run() -> Any:
            return work()

        return self.call(run())

    def close(self) -> None:
        """End it."""
        self.call(self.feishu.__aexit__())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()


@pytest.fixture
def platform() -> Iterator[Platform]:
    one = Platform()
    yield one
    one.close()


@pytest.fixture
def config(root: Path) -> Path:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = root / "regrow.toml"
    path.write_text(CONFIG.format(port=port))
    path.chmod(0o640)
    return path


@pytest.fixture
def secret_file(root: Path, platform: Platform) -> Path:
    path = root / "given"
    path.write_text(platform.app.secret + "\n")
    return path


def options(platform: Platform, config: Path) -> list[str]:
    return ["channels", "add", "feishu", "--config", str(config), "--base-url", platform.feishu.base_url]


def given(platform: Platform, config: Path, secret_file: Path, *more: str) -> list[str]:
    """All that is needed where nobody can be asked."""
    words = [*options(platform, config), "--app-id", platform.app.app_id, "--secret-file", str(secret_file)]
    return [*words, "--owner-open-id", platform.ada.open_id(), "--owner-name", "Ada", "--yes", *more]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def start(screen: Any, platform: Platform) -> None:
    """Answer the first questions."""
    screen.expect("App ID")
    screen.type(f"{platform.app.app_id}\n")
    screen.expect("App Secret")
    screen.type(f"{platform.app.secret}\n")
    screen.expect("Your open_id")
    screen.type("\n")


def code(screen: Any) -> str:
    screen.expect(r"\r\n    [0-9]{8}\r\n")
    return str(re.findall(r"\r\n    ([0-9]{8})\r\n", screen.seen)[-1])


def test_a_person_is_taken_by_the_hand_and_the_daemon_answers_them(
    platform: Platform, config: Path, terminal: Any, command: Any, root: Path
) -> None:
    platform.app.scopes.update(FULL)
    before = config.read_bytes()
    screen = terminal(*options(platform, config))
    start(screen, platform)
    screen.expect("✓.* permissions: all granted")
    screen.expect("✓.* connection: the long connection is open")
    number = code(screen)
    platform.say("hello?")  # not the code: it is for the daemon, later
    platform.say(f"{number[:4]} {number[4:]}")
    screen.expect("✓.* events: a message arrived")
    screen.expect("Press it")
    assert platform.press_it().shown == "toast"
    screen.expect("✓.* callbacks: the press of a button arrived")
    screen.expect("shall you own")
    screen.type("y\n")
    screen.expect("What are you called")
    screen.type("Ada Lovelace\n")
    screen.expect(re.escape('+app_secret = "file:'))
    assert config.read_bytes() == before
    screen.expect("Write this to")
    screen.type("y\n")
    screen.expect("Next: regrow up")
    assert screen.end() == 0

    assert platform.app.secret not in screen.seen
    assert platform.app.secret.encode() not in config.read_bytes()
    assert config.read_bytes().startswith(before.rstrip(b"\n") + b"\n\n[channels.feishu]\n")
    assert (root / "regrow.toml.bak").read_bytes() == before
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    stored = root / "state" / "secrets" / f"feishu-{platform.app.app_id}"
    assert (stored.read_text(), stat.S_IMODE(stored.stat().st_mode)) == (platform.app.secret, 0o600)
    section = load(config).channels
    assert section is not None and section.feishu is not None
    assert section.feishu.app_secret == f"file:{stored}"
    (ada,) = section.feishu.people
    assert (ada.id, ada.name, ada.role, ada.open_id, ada.union_id) == (
        "ada-lovelace", "Ada Lovelace", "owner", platform.ada.open_id(), platform.ada.union_id,
    )  # fmt: skip

    repository(config)
    daemon = daemon_of(config, command)
    try:
        platform.call(platform.feishu.connected(timeout=DEADLINE_S))
        asked = platform.say("状态")
        answer = platform.call(platform.feishu.wait_for(platform.private, "tiny", after=asked, timeout=DEADLINE_S))
        assert answer.from_bot
        # The daemon has the connection now: it is asked, and not robbed of its events.
        done = command.run("channels", "check", "feishu", "--config", str(config))
        assert "✓ connection: the daemon has it, so the app was looked at over HTTP only: connected" in done.stdout
        assert len(platform.feishu.gateway.of(platform.app)) == 1
        rows = {one["name"]: one for one in json.loads(command.run("doctor", "--json").stdout)}
        assert [name for name, one in rows.items() if name.startswith("feishu: ") and one["ok"]] == [
            f"feishu: {one}"
            for one in ("credentials", "bot", "version", "permissions", "events", "callbacks", "connection")
        ]
        without_scope(platform.app)
        (row,) = (
            one for one in json.loads(command.run("doctor", "--json").stdout) if one["name"] == "feishu: permissions"
        )
        assert (row["ok"], "im:message.group_at_msg:readonly" in row["mend"]) == (False, True)
    finally:
        command.run("down")  # with its service
        daemon.terminate()
        log = daemon.communicate(timeout=DEADLINE_S)[0]
    assert platform.app.secret not in log


def repository(config: Path) -> None:
    """A repository around the settings, with one commit."""
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "Begin"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.invalid", *words],
            cwd=config.parent, check=True, timeout=DEADLINE_S,
        )  # fmt: skip


def daemon_of(config: Path, command: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "regrow.daemon", "--config", str(config)],
        env=command.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_console_is_set_right_while_the_command_holds_the_connection(
    platform: Platform, config: Path, terminal: Any
) -> None:
    """The console takes "long connection" only while one is open, so the command is what makes it possible."""
    app = platform.app
    app.scopes.update(FULL)
    app.event_mode = app.callback_mode = "webhook"
    app.published = False
    with pytest.raises(PermissionError):
        platform.do(platform.feishu.use_long_connection)
    screen = terminal(*options(platform, config), "--yes", "--owner-name", "Ada")
    start(screen, platform)
    screen.expect("✗.* version: no version is published")
    screen.expect("✗.* events: events are sent to a web address")
    screen.expect("✗.* callbacks: presses of buttons are sent to a web address")
    number = code(screen)
    platform.do(platform.feishu.use_long_connection)
    platform.say(number)
    screen.expect("✓.* events")
    assert platform.press_it().shown == "toast"
    screen.expect("✓.* version: a version is published")
    screen.expect("Written")
    assert screen.end() == 0


@pytest.mark.parametrize("answer", ["own", "write"])
def test_no_is_no(answer: str, platform: Platform, config: Path, terminal: Any, root: Path) -> None:
    before = files(root)
    screen = terminal(*options(platform, config))
    start(screen, platform)
    platform.say(code(screen))
    platform.press_it()
    screen.expect("shall you own")
    screen.type("n\n" if answer == "own" else "y\n")
    if answer == "write":
        screen.expect("What are you called")
        screen.type("\n")
        screen.expect("Write this to")
        screen.type("n\n")
    screen.expect("not changed")
    assert screen.end() == 6
    assert files(root) == before


def test_ctrl_c_ends_the_waiting_and_writes_nothing(
    platform: Platform, config: Path, terminal: Any, root: Path
) -> None:
    before = files(root)
    screen = terminal(*options(platform, config))
    start(screen, platform)
    code(screen)
    os.kill(screen.process.pid, signal.SIGINT)
    assert screen.end() == 130
    assert files(root) == before


@pytest.mark.parametrize("question", ["App ID", "App Secret"])
def test_ctrl_d_is_no_answer(question: str, platform: Platform, config: Path, terminal: Any, root: Path) -> None:
    before = files(root)
    screen = terminal(*options(platform, config))
    screen.expect("App ID")
    if question == "App Secret":
        screen.type(f"{platform.app.app_id}\n")
        screen.expect(question)
    screen.type("\x04")
    assert screen.end() == 130
    assert files(root) == before


def test_the_domain_is_found_by_asking_both(
    platform: Platform, config: Path, root: Path, monkeypatch: pytest.MonkeyPatch, secret_file: Path
) -> None:
    other = Platform()
    try:
        monkeypatch.setenv("REGROW_STATE_DIR", str(root / "state"))
        monkeypatch.setitem(DOMAINS, "lark", platform.feishu.base_url)
        monkeypatch.setitem(DOMAINS, "feishu", other.feishu.base_url)
        twin = App("bot", app_id=platform.app.app_id, secret=platform.app.secret, elsewhere=True)
        other.feishu.tokens.add(twin)
        words = given(platform, config, secret_file)
        at = words.index("--base-url")
        del words[at : at + 2]
        assert main.run([*words, "--domain", "feishu"]) == 78
        assert "channels.feishu" not in config.read_text()
        assert main.run(words) == 0
    finally:
        other.close()
    section = load(config).channels
    assert section is not None and section.feishu is not None
    assert (section.feishu.domain, section.feishu.base_url) == ("lark", "")


def without_scope(app: Any) -> None:
    app.scopes.discard("im:message.group_at_msg:readonly")


def waiting_scope(app: Any) -> None:
    without_scope(app)
    app.asked.add("im:message.group_at_msg:readonly")


def without_bot(app: Any) -> None:
    app.bot = False


def unpublished(app: Any) -> None:
    app.published = False


def in_review(app: Any) -> None:
    app.reviewed = False


def events_elsewhere(app: Any) -> None:
    app.event_mode = "webhook"


def without_event(app: Any) -> None:
    app.events.clear()


def callbacks_elsewhere(app: Any) -> None:
    app.callback_mode = "webhook"


def without_callback(app: Any) -> None:
    app.callbacks.clear()


MISSING = [
    (without_scope, "permissions", "missing: im:message.group_at", "/auth?q=im:message.group_at_msg:readonly&"),
    (waiting_scope, "permissions", "not granted yet", "Version Management & Release"),
    (without_bot, "bot", "the app has no bot", "Add Features → Bot"),
    (unpublished, "version", "no version is published", "Create a version"),
    (in_review, "version", "waits for an administrator", "admin console"),
    (events_elsewhere, "events", "web address", "persistent connection"),
    (without_event, "events", "im.message.receive_v1 is not subscribed", "Add Events"),
    (callbacks_elsewhere, "callbacks", "web address", "persistent connection"),
    (without_callback, "callbacks", "card.action.trigger is not subscribed", "Add Callback"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "name", "detail", "mend"), MISSING, ids=lambda one: getattr(one, "__name__", ""))
def test_each_missing_piece_is_named_with_the_place_to_mend_it(
    spoil: Any, name: str, detail: str, mend: str, platform: Platform, config: Path, terminal: Any, root: Path
) -> None:
    platform.app.scopes.update(FULL)
    spoil(platform.app)
    before = files(root)
    screen = terminal(*options(platform, config), "--wait", "0.2", COLUMNS="400")
    start(screen, platform)
    screen.expect(f"✗.* {name}: .*{re.escape(detail)}")
    screen.expect(re.escape(mend))
    screen.expect("not changed")
    assert screen.end() == 1
    assert f"{platform.feishu.base_url}/app/{platform.app.app_id}" in screen.seen
    assert files(root) == before


@pytest.mark.parametrize(("spoil", "name", "detail", "mend"), MISSING, ids=lambda one: getattr(one, "__name__", ""))
def test_check_sees_the_same_and_changes_nothing(
    spoil: Any, name: str, detail: str, mend: str, platform: Platform, config: Path, command: Any, secret_file: Path
) -> None:
    platform.app.scopes.update(FULL)
    write(config, platform, secret_file)
    check = ["channels", "check", "feishu", "--config", str(config), "--json"]
    done = command.run(*check)
    assert {one["name"]: one["state"] for one in json.loads(done.stdout)} == dict.fromkeys(
        ["credentials", "bot", "version", "permissions", "events", "callbacks", "connection"], "ok"
    )
    assert done.returncode == 0, done
    spoil(platform.app)
    before = files(config.parent)
    done = command.run(*check)
    assert done.returncode == 1, done
    (red,) = (one for one in json.loads(done.stdout) if one["state"] == "bad" and one["name"] == name)
    assert detail in red["detail"]
    assert mend in red["mend"]
    assert files(config.parent) == before


def write(config: Path, platform: Platform, secret_file: Path) -> None:
    """Settings as a person would have written them."""
    config.write_text(
        f'{config.read_text()}\n[channels.feishu]\napp_id = "{platform.app.app_id}"\n'
        f'app_secret = "file:{secret_file}"\nbase_url = "{platform.feishu.base_url}"\n'
        f'people = [\n  {{ id = "vera", name = "Vera", role = "viewer", open_id = "ou_1" }},  # looks\n]\n'
        '\n# at the end\n[switch]\nbake = "1s"\n'
    )


def test_what_the_platform_does_not_tell_is_said_to_be_unknown(
    platform: Platform, config: Path, command: Any, secret_file: Path
) -> None:
    write(config, platform, secret_file)
    done = command.run("channels", "check", "feishu", "--config", str(config), LANG="zh_CN.UTF-8")
    assert done.returncode == 0, done
    assert "? 事件: 平台不告知事件的订阅方式" in done.stdout
    assert "? 回调: 平台不告知回调的订阅方式" in done.stdout
    assert "? 版本: " in done.stdout


def test_check_waits_for_a_code_when_it_is_asked_to(
    platform: Platform, config: Path, command: Any, terminal: Any, secret_file: Path
) -> None:
    write(config, platform, secret_file)
    words = ["channels", "check", "feishu", "--config", str(config), "--wait", "30"]
    assert command.run(*words, "--json").returncode == 64
    screen = terminal(*words)
    platform.say(code(screen))
    assert platform.press_it().shown == "toast"
    screen.expect("✓.* callbacks: the press of a button arrived")
    assert screen.end() == 0


def test_nobody_at_the_terminal(platform: Platform, config: Path, command: Any, secret_file: Path, root: Path) -> None:
    done = command.run(*given(platform, config, secret_file, "--json"))
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert (told["written"], told["config"]) == (True, str(config))
    assert told["owner"]["open_id"] == platform.ada.open_id()
    assert {one["name"] for one in told["checks"]} >= {"credentials", "connection", "message"}
    section = load(config).channels
    assert section is not None and section.feishu is not None
    assert section.feishu.people[0].open_id == platform.ada.open_id()
    assert "Regrow is connected" in platform.feishu.transcript(platform.private)
    secret = platform.app.secret
    assert secret not in done.stdout + done.stderr
    holders = {name for name, data in files(root).items() if secret.encode() in data}
    assert holders == {f"state/secrets/feishu-{platform.app.app_id}", "given"}


def test_the_secret_is_named_by_a_variable_or_piped_and_never_on_a_command_line(
    platform: Platform, config: Path, command: Any, root: Path
) -> None:
    words = given(platform, config, Path("-"))
    done = command.run(*words, "--replace", stdin=platform.app.secret + "\n")
    assert done.returncode == 0, done
    assert (root / f"state/secrets/feishu-{platform.app.app_id}").read_text() == platform.app.secret
    words[words.index("--secret-file") : words.index("--owner-open-id")] = ["--secret-env", "APP_SECRET"]
    done = command.run(*words, "--replace", APP_SECRET=platform.app.secret)
    assert done.returncode == 0, done
    assert "APP_SECRET must be set where the daemon starts" in done.stdout
    section = load(config).channels
    assert section is not None and section.feishu is not None and section.feishu.app_secret == "env:APP_SECRET"


def test_an_address_or_number_finds_the_owner(
    platform: Platform, config: Path, command: Any, secret_file: Path
) -> None:
    words = given(platform, config, secret_file)
    at = words.index("--owner-open-id")
    words[at : at + 2] = ["--owner-contact", "Ada@example.invalid"]
    done = command.run(*words)
    assert done.returncode == 5, done
    assert "lacks the permission contact:user.id:readonly" in done.stderr
    platform.app.scopes.add("contact:user.id:readonly")
    done = command.run(*words)
    assert done.returncode == 0, done
    assert platform.ada.open_id() in config.read_text()
    words[at + 1] = "+8613000000000"
    done = command.run(*words, "--replace")
    assert (done.returncode, "sees nobody" in done.stderr) == (5, True), done


def test_the_people_and_the_rest_stay_when_a_section_is_replaced(
    platform: Platform, config: Path, command: Any, secret_file: Path
) -> None:
    write(config, platform, secret_file)
    done = command.run(*given(platform, config, secret_file, "--replace"))
    assert done.returncode == 0, done
    text = config.read_text()
    assert text.startswith("# What is cared for.\n")
    assert text.endswith('\n# at the end\n[switch]\nbake = "1s"\n')
    section = load(config).channels
    assert section is not None and section.feishu is not None
    assert [(one.id, one.role) for one in section.feishu.people] == [("ada", "owner"), ("vera", "viewer")]


def test_where_a_process_holds_the_connection_it_is_left_alone(
    platform: Platform, config: Path, command: Any, terminal: Any, secret_file: Path
) -> None:
    with lease(platform.feishu.base_url, platform.app.app_id):
        done = command.run(*given(platform, config, secret_file))
        assert done.returncode == 0, done
        assert f"looked at over HTTP only: the app {platform.app.app_id}: process {os.getpid()}" in done.stdout
        assert "Regrow is connected" in platform.feishu.transcript(platform.private)
        before = config.read_bytes()
        screen = terminal(*options(platform, config), "--replace")
        start(screen, platform)
        screen.expect("cannot hear who shall own")
        assert screen.end() == 5
        assert config.read_bytes() == before
    assert not platform.feishu.gateway.connections


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("wrong secret", 78, "the secret does not belong to"),
        ("wrong domain", 78, "does not live on this domain"),
        ("unreachable", 69, "cannot be reached (ConnectError)"),
        ("proxy", 69, "through the proxy http://127.0.0.1:"),
        ("app id", 64, "cannot use this --app-id"),
        ("base url", 64, "cannot use this --base-url"),
        ("domain", 64, "cannot use this --domain"),
        ("exists", 5, "replace it with --replace"),
        ("broken", 78, "cannot use"),
        ("no toml", 78, "cannot read"),
        ("absent", 78, "does not exist"),
        ("read-only", 78, "it is read-only (mode 440)"),
        ("empty secret", 78, "it is empty"),
        ("red", 1, ""),
        ("channel", 64, "cannot set up telegram"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    name: str, code: int, said: str, platform: Platform, config: Path, command: Any, secret_file: Path, root: Path
) -> None:
    words = given(platform, config, secret_file)

    def put(option: str, value: str) -> None:
        words[words.index(option) + 1] = value

    match name:
        case "wrong secret":
            secret_file.write_text(f"not {platform.app.app_id}")
        case "wrong domain":
            platform.app.elsewhere = True
        case "unreachable":
            put("--base-url", f"http://127.0.0.1:{closed_port()}")
        case "proxy":
            words += ["--proxy", f"http://127.0.0.1:{closed_port()}"]
        case "app id":
            put("--app-id", platform.app.secret)
        case "base url":
            put("--base-url", "open.feishu.cn")
        case "domain":
            words += ["--domain", "wechat"]
        case "exists":
            write(config, platform, secret_file)
        case "broken":
            config.write_text(config.read_text() + "\n[switch]\nbakes = 1\n")
        case "no toml":
            config.write_text("[service\n")
        case "absent":
            config.unlink()
        case "read-only":
            config.chmod(0o440)
        case "empty secret":
            secret_file.write_text("\n")
        case "red":
            platform.app.bot = False
        case "channel":
            words[2] = "telegram"
    before = files(root)
    done = command.run(*words)
    assert done.returncode == code, done
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert "Traceback" not in done.stderr
    assert platform.app.secret not in done.stdout + done.stderr
    assert files(root) == before


@pytest.mark.parametrize("option", ["--app-id", "--secret-file", "--owner-open-id", "--yes"])
def test_without_a_terminal_a_missing_answer_names_its_option(
    option: str, platform: Platform, config: Path, command: Any, secret_file: Path
) -> None:
    words = given(platform, config, secret_file)
    at = words.index(option)
    words[at : at + (1 if option == "--yes" else 2)] = []
    done = command.run(*words)
    assert done.returncode == 64, done
    assert option in done.stderr


def test_what_is_red_is_written_only_when_that_is_wanted(
    platform: Platform, config: Path, command: Any, secret_file: Path
) -> None:
    platform.app.scopes.update(FULL)
    platform.app.event_mode = "webhook"
    assert command.run(*given(platform, config, secret_file)).returncode == 1
    assert "channels.feishu" not in config.read_text()
    assert command.run(*given(platform, config, secret_file, "--anyway")).returncode == 0
    assert "channels.feishu" in config.read_text()


def test_the_list_comes_from_the_daemon(daemon: Any, command: Any) -> None:
    rows = [{"name": "web", "healthy": True, "detail": ""}, {"name": "feishu", "healthy": False, "detail": "silent"}]
    daemon.script.channels = rows
    done = command.run("channels")
    assert (done.returncode, done.stdout.splitlines()) == (1, ["✓ web", "✗ feishu  silent"])
    assert json.loads(command.run("channels", "--json").stdout) == rows
    daemon.script.channels = rows[:1]
    assert command.run("channels").returncode == 0
