"""RayClaw itself, the seed's own bot, under Regrow: two real versions of the crate, played from a loopback Feishu chat.

Needs cargo and a package registry, and many minutes of compiling, so it is not in CI; where it cannot run it prints one
line with the reason. `--keep DIR` keeps everything that is costly (crates, compiled crates, the history) for next time.

RayClaw has the app's one long connection and a scripted model; Regrow tells by the same app over HTTP, and is asked by
its MCP tools. While each scene is played, other people write to the bot in private chats, a message every TALK_S.

own          the program alone, without Regrow: SIGTERM, wait for its end, start. The scenes are measured against it
restart      "重启一下"
deploy       "编译重启", from the older version to the newer one
repair       "修一下这个 bug", a time-zone bug of the scheduler that both versions carry; a scripted agent mends it, and
             a person approves by the link that is sent to them alone
build_fails  "编译重启" of a commit that does not compile
dies_5s      "编译重启" of a commit whose process ends 5 s after its start

offline_ms        the longest time in which the bot had no connection to the platform
longest_answer_s  the longest that somebody waited for an answer. What is sent while nobody is connected comes again
                  after 15 s: that is the platform's schedule
sent, lost, doubled   of the messages of those people: all, never answered, answered more than once
confirmed         how often the chat that asked was told the scene's result
as_expected       1 when the job ended as it should
more_jobs         jobs that nobody asked for
compile_s         the build of the scene

`--script FILE` plays restart, deploy and dies_5s once more (cases `script/...`) with such a script in place of Regrow:
it is put into a checkout as scripts/hot-reload.sh, and the bot's model runs it by the bot's own shell, as the seed has
it. `sudo` and `systemctl` stand for a manager that ends all of the bot's processes when it restarts it, and starts it
3 s after it ended by itself. No such script is part of this repository.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import structlog

from bench import lines
from regrow.api.client import Client
from regrow.api.types import ENDED, Job
from regrow.errors import RegrowError
from regrow.templates.base import fill
from regrow.testing import scripted_agent
from regrow.testing.feishu import FeishuEmulator, Message, Settings
from regrow.testing.model_api import Asked, Call, ModelApi, Turn
from regrow.testing.ports import free_ports

VERSIONS = ("0.2.4", "0.2.5")
SCENES = ("own", "restart", "deploy", "repair", "build_fails", "dies_5s")
BUG = "定时任务在北京时间 7 点没触发"
TALK_S = 2.5
"""Seldom enough for moments in which nobody waits for an answer: the jobs wait for one."""
TALKERS = 12
MODEL_S = 1.0
"""How long the model takes for an answer: a turn with a tool is two of them."""
SETTLE_S = 25.0
"""After a scene: more than the first of the platform's waits before it sends an event again."""
CALL_S = 60.0
FETCH_S = 600.0
BUILD_S = 5400.0
_ZONE = ".upcoming(tz)"
_WRONG = ".upcoming(chrono_tz::Tz::UTC)"
_PLACE = "src/tools/schedule.rs"
DYING = (
    "    let db = Arc::new(db);\n\n    // Clear stale",
    "    tokio::spawn(async {\n        tokio::time::sleep(std::time::Duration::from_secs(5)).await;\n"
    "        std::process::exit(3);\n    });\n    let db = Arc::new(db);\n\n    // Clear stale",
)
SCRIPT_S = 300.0
"""How long a script is given in a scene."""
_TEST = """\
use rayclaw::db::Database;
use rayclaw::tools::{schedule::ScheduleTaskTool, Tool};
use std::sync::Arc;

#[tokio::test]
async fn seven_in_shanghai_is_23_utc() {
    let place = std::env::temp_dir().join(format!("zone-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let db = Arc::new(Database::new(place.to_str().unwrap()).unwrap());
    let tool = ScheduleTaskTool::new(@REGISTRY@db, "Asia/Shanghai".into());
    let said = tool
        .execute(serde_json::json!({
            "chat_id": 1, "prompt": "wake up", "schedule_type": "cron", "schedule_value": "0 0 7 * * *",
            "__rayclaw_auth": {"caller_channel": "feishu", "caller_chat_id": 1, "control_chat_ids": []}
        }))
        .await
        .content;
    assert!(said.contains("T23:00:00"), "{said}");
}
"""


class CannotRun(Exception):
    """Why it cannot run here."""


# The two versions


def sources(root: Path) -> dict[str, Path]:
    """The files of each version as its registry has them, by the version.

    Raises:
        CannotRun: there is no cargo, or no registry can be used.
    """
    if shutil.which("cargo") is None:
        raise CannotRun("there is no cargo")
    if shutil.which("bwrap") is None:
        raise CannotRun("there is no bwrap, and builds run in a box")
    found = {}
    for version in VERSIONS:
        probe = root / "fetch" / version
        (probe / "src").mkdir(parents=True, exist_ok=True)
        (probe / "src" / "lib.rs").touch()
        (probe / "Cargo.toml").write_text(
            f'[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nrayclaw = "={version}"\n'
        )
        try:
            done = subprocess.run(
                ["cargo", "metadata", "--format-version", "1"],
                cwd=probe,
                capture_output=True,
                text=True,
                check=False,
                timeout=FETCH_S,
            )
        except subprocess.TimeoutExpired:
            raise CannotRun(f"the registry did not give rayclaw {version} within {FETCH_S:g} s") from None
        if done.returncode:
            raise CannotRun(f"the registry did not give rayclaw {version}: {done.stderr.strip()[-300:]}")
        packages = json.loads(done.stdout)["packages"]
        found[version] = next(Path(one["manifest_path"]).parent for one in packages if one["name"] == "rayclaw")
    return found


def git(place: Path, *words: str) -> str:
    """Run git; its output."""
    who = ("-c", "user.name=Mia", "-c", "user.email=mia@example.invalid")
    done = subprocess.run(["git", *who, *words], cwd=place, check=True, capture_output=True, text=True, timeout=CALL_S)
    return done.stdout.strip()


def history(root: Path, found: dict[str, Path], optimise: int) -> Path:
    """A checkout with a commit a version, tagged; both carry the planted bug.

    Args:
        root: where it is made, unless it is there.
        found: the files by version.
        optimise: level for RayClaw's own crate; those of others are always optimised in full.
    """
    checkout = root / "rayclaw"
    if (checkout / ".git").exists():
        return checkout
    checkout.mkdir(parents=True)
    git(checkout, "init", "--quiet", "--initial-branch", "main")
    for version, files in found.items():
        for old in checkout.iterdir():
            if old.name != ".git":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        shutil.copytree(files, checkout, dirs_exist_ok=True)
        for made in (".cargo-ok", ".cargo_vcs_info.json", "Cargo.toml"):
            (checkout / made).unlink(missing_ok=True)
        # What the crate brings in its data folder is of its authors' machine; a user has their own.
        (checkout / "rayclaw.data" / "mcp.json").unlink(missing_ok=True)
        manifest = (checkout / "Cargo.toml.orig").read_text()
        (checkout / "Cargo.toml.orig").unlink()
        (checkout / "Cargo.toml").write_text(f"{manifest}\n[profile.release.package.rayclaw]\nopt-level = {optimise}\n")
        _replace(checkout / _PLACE, _ZONE, _WRONG)
        git(checkout, "add", "--all")
        git(checkout, "commit", "--quiet", "--message", f"Release {version}")
        git(checkout, "tag", f"v{version}")
    return checkout


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if text.count(old) != 1:
        raise CannotRun(f"{path.name} of this version is not as expected: {old!r} is there {text.count(old)} times")
    path.write_text(text.replace(old, new))


# The model


def answer(asked: Asked, script: str = "") -> Turn:
    """What the model says: it uses the tools of Regrow as its skill tells it, and repeats what people say.

    Args:
        asked: the conversation.
        script: what it runs by the bot's shell in place of the tools.
    """
    last = asked.messages[-1]
    if last.get("role") == "tool":
        found = re.search(r'"job"\s*:\s*(\d+)', json.dumps(last.get("content"), ensure_ascii=False).replace("\\", ""))
        return Turn(f"好的，任务 {found[1]}。" if found else f"工具没有接受: {last.get('content')}", delay_s=MODEL_S)
    said = _text(last.get("content"))
    for word, tool, given in (
        ("编译重启", "deploy", {"when": "idle"}),
        ("重启一下", "restart", {"when": "idle"}),
        ("修一下", "repair", {"bug": BUG}),
    ):
        if word in said and script:
            return Turn("", [Call("bash", {"command": script})], delay_s=MODEL_S)
        if word in said:
            return Turn("", [Call(f"mcp_regrow_{tool}", given)], delay_s=MODEL_S)
    return Turn(" ".join(f"re {one}" for one in re.findall(r"m\d+", said)) or "?", delay_s=MODEL_S)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content or [] if isinstance(part, dict))


# The world


@dataclass
class Scene:
    """What was seen of one scene."""

    figures: dict[str, tuple[float | int, str]] = field(default_factory=dict)
    job: Job | None = None

    def put(self, metric: str, value: float, unit: str) -> None:
        """One figure."""
        self.figures[metric] = (value, unit)


@dataclass
class Talk:
    """One person who writes to the bot."""

    user: Any
    sent: dict[str, float] = field(default_factory=dict)


class World:
    """RayClaw, Feishu, a model, and Regrow as a process.

    Args:
        root: a directory that may be kept; its state directory holds what builds keep.
        run: an empty directory with a short name, for sockets and data.
        checkout: the history.
        feishu, model: running.
    """

    def __init__(self, root: Path, run: Path, checkout: Path, feishu: FeishuEmulator, model: ModelApi) -> None:
        self.root, self.run, self.checkout, self.feishu = root, run, checkout, feishu
        self.state = root / "state"
        self.cache = self.state / "rayclaw" / "cache"
        self.data = run / "home"
        self.port, self.console = free_ports(2)
        self.boss = feishu.user("Boss")
        self.group = feishu.group("ops", [self.boss])
        self.talks = [Talk(feishu.user(f"P{number}")) for number in range(TALKERS)]
        self.numbers = itertools.count(1)
        self.client = Client(run / "run" / "daemon.sock")
        self.process: subprocess.Popen[bytes] | None = None
        self.script = ""
        """What the model runs by the bot's shell; with none it uses the tools."""
        model.script = self._answer
        self.bare = run / "rayclaw.git"
        git(run, "clone", "--quiet", "--bare", str(checkout), str(self.bare))
        self.publish(f"v{VERSIONS[0]}")
        (self.data / "rayclaw.data" / "skills" / "regrow").mkdir(parents=True)
        filled = fill(
            "rayclaw",
            {"toolchain": _toolchain(), "cargo_home": os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")},
            {"port": str(self.port), "chat": self.group.id, "name": "rayclaw"},
            "zh",
        )
        skill = "rayclaw.data/skills/regrow/SKILL.md"
        (self.data / skill).write_text(filled.files[skill])
        tools = json.loads(filled.files["regrow/mcp.json"])
        # The same words, to the program as it is in this tree and to this world's daemon.
        entry = tools["mcpServers"]["regrow"]
        entry["args"] = ["-m", "regrow.cli", *entry["args"], "--socket", str(run / "run" / "daemon.sock")]
        entry["command"] = sys.executable
        (self.data / "rayclaw.data" / "mcp.json").write_text(json.dumps(tools))
        (self.data / "rayclaw.config.yaml").write_text(self._own_settings(model))
        (run / "regrow.toml").write_text(self._settings(filled.files["regrow.toml"]))
        script = self._agent()
        (run / "agent" / "agent.json").write_text(json.dumps(script, ensure_ascii=False))
        self.environment = lines.environment(
            REGROW_STATE_DIR=str(self.state),
            REGROW_RUNTIME_DIR=str(run / "run"),
            REGROW_SOCKET=str(run / "run" / "daemon.sock"),
            BENCH_FEISHU_SECRET=feishu.app.secret,
        )

    def _own_settings(self, model: ModelApi) -> str:
        return "\n".join(
            (
                "llm_provider: openai",
                "api_key: none",
                "model: scripted",
                f"llm_base_url: {model.base_url}/v1",
                f"web_port: {self.port}",
                "timezone: Asia/Shanghai",
                "reflector_enabled: false",
                "channels:",
                "  feishu:",
                f"    app_id: {self.feishu.app.app_id}",
                f"    app_secret: {self.feishu.app.secret}",
                f"    domain: {self.feishu.base_url}",
                "",
            )
        )

    def _settings(self, text: str) -> str:
        """The template's, with this world's places, a scripted agent, and the app that RayClaw has connected."""
        text = text.replace('repository = "."', f'repository = "{self.bare}"')
        text = text.replace('directory = "."', f'directory = "{self.data}"')
        text = re.sub(r'(?m)^bake = ".*"', 'bake = "10s"', text)
        agent = ["python3", str(self.run / "agent" / "scripted_agent.py"), str(self.run / "agent" / "agent.json")]
        text = re.sub(r'(?m)^agent = ".*$', f'agent = "command"\ncommand = {json.dumps(agent)}', text)
        text = text.replace("readable = [", f'readable = [\n    "{self.run}/agent",')
        text = re.sub(r'\n\[agent\.claude\]\ndriver = "claude"\n', "", text)
        boss = f'{{ id = "boss", name = "Boss", role = "owner", union_id = "{self.boss.union_id}" }}'
        return (
            f"{text}\n[channels.feishu]\n"
            f'app_id = "{self.feishu.app.app_id}"\napp_secret = "env:BENCH_FEISHU_SECRET"\n'
            f'base_url = "{self.feishu.base_url}"\nlisten = false\npeople = [{boss}]\n\n'
            f'[daemon]\nconsole = "127.0.0.1:{self.console}"\nnotices = ["feishu:{self.group.id}"]\n'
        )

    def _agent(self) -> dict[str, Any]:
        program = self.run / "agent"
        program.mkdir()
        shutil.copy(scripted_agent.__file__, program / "scripted_agent.py")
        declared = git(self.bare, "show", f"v{VERSIONS[1]}:{_PLACE}")
        found = re.search(r"pub fn new\(\s*(\w+): Arc<ChannelRegistry>,", declared)
        registry = "Arc::new(rayclaw::channel_adapter::ChannelRegistry::new()), " if found else ""
        test = _TEST.replace("@REGISTRY@", registry)
        return {
            "reproduce": [
                {"say": "thinking", "text": "The cron time is taken in UTC"},
                {"write": "tests/zone.rs", "text": test, "must": True},
            ],
            "fix": [
                {"say": "editing", "text": _PLACE},
                {"replace": _PLACE, "old": _WRONG, "new": _ZONE, "must": True},
            ],
        }

    def _answer(self, asked: Asked) -> Turn:
        return answer(asked, self.script)

    # The branch

    def publish(self, commit: str) -> None:
        """What the service's branch shows."""
        git(self.bare, "update-ref", "refs/heads/main", git(self.bare, "rev-parse", f"{commit}^{{commit}}"))

    def commit(self, path: str, old: str, new: str, message: str) -> None:
        """A colleague's change on top of the branch."""
        desk = self.run / "desk"
        shutil.rmtree(desk, ignore_errors=True)
        git(self.run, "clone", "--quiet", str(self.bare), str(desk))
        _replace(desk / path, old, new)
        git(desk, "commit", "--quiet", "--all", "--message", message)
        git(desk, "push", "--quiet", "origin", "HEAD:main")

    # The daemon

    def start(self) -> None:
        """Start the daemon; the first time it builds and starts the older version."""
        with (self.run / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "regrow.daemon", "--config", str(self.run / "regrow.toml")],
                env=self.environment,
                cwd=self.run,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def end(self) -> None:
        """Stop everything."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(RegrowError):
                await asyncio.to_thread(lambda: self.client.stop(services=True))
            await asyncio.to_thread(self.process.wait, CALL_S)
        self.process = None

    async def job(self, number: int) -> Job:
        """Wait for a job's end."""
        async with asyncio.timeout(BUILD_S):
            while True:
                job = await asyncio.to_thread(lambda: self.client.job(number))
                if job.status in ENDED:
                    return job
                await asyncio.sleep(0.2)

    async def jobs(self) -> list[Job]:
        """All jobs; none while the daemon is not there yet."""
        try:
            return await asyncio.to_thread(lambda: list(self.client.jobs(1000)))
        except (RegrowError, OSError):
            return []

    async def first(self) -> Job:
        """Wait for the first start's job."""
        async with asyncio.timeout(BUILD_S):
            while not (found := await self.jobs()):
                if self.process is not None and self.process.poll() is not None:
                    raise RuntimeError(f"the daemon ended: {(self.run / 'daemon.log').read_text()[-2000:]}")
                await asyncio.sleep(0.2)
        return await self.job(found[-1].id)

    # People

    @contextlib.asynccontextmanager
    async def talking(self, scene: Scene) -> AsyncIterator[None]:
        """People write to the bot in turn; at the end the answers are waited for and counted."""
        over = asyncio.Event()
        began = self.feishu.clock.now()
        for talk in self.talks:
            talk.sent.clear()

        async def talk_on() -> None:
            for talk in itertools.cycle(self.talks):
                if over.is_set():
                    return
                word = f"m{next(self.numbers)}"
                talk.sent[word] = time.monotonic()
                await talk.user.say(talk.user.private(), word)
                await asyncio.sleep(TALK_S)

        answered: dict[str, float] = {}

        async def listen() -> None:
            while True:
                for talk in self.talks:
                    text = " ".join(message.text for message in self.feishu.sent(talk.user.private()))
                    for word in re.findall(r"re (m\d+)", text):
                        answered.setdefault(word, time.monotonic())
                await asyncio.sleep(0.05)

        speaking, listening = asyncio.create_task(talk_on()), asyncio.create_task(listen())
        try:
            yield
            over.set()
            await speaking
            await self._answered(answered)
        finally:
            speaking.cancel()
            listening.cancel()
            await asyncio.gather(speaking, listening, return_exceptions=True)
        sent = {word: at for talk in self.talks for word, at in talk.sent.items()}
        heard = [
            word
            for talk in self.talks
            for message in self.feishu.sent(talk.user.private())
            for word in re.findall(r"re (m\d+)", message.text)
        ]
        lost = [word for word in sent if word not in answered]
        scene.put("sent", len(sent), "messages")
        scene.put("lost", len(lost), "messages")
        scene.put("doubled", sum(heard.count(word) > 1 for word in sent), "messages")
        scene.put(
            "longest_answer_s", max((answered[w] - at for w, at in sent.items() if w in answered), default=0), "s"
        )
        scene.put("offline_ms", self._offline(began) * 1000, "ms")

    async def _answered(self, answered: dict[str, float]) -> None:
        """Wait for the answers, and long enough for every event to have come again."""
        waited = time.monotonic()
        while time.monotonic() - waited < 2 * SETTLE_S:
            missing = any(word not in answered for talk in self.talks for word in talk.sent)
            if not missing and time.monotonic() - waited > SETTLE_S:
                return
            await asyncio.sleep(0.1)

    def _offline(self, since: float) -> float:
        """The longest time without any connection of the app, in seconds."""
        count, last, longest = 0, 0.0, 0.0
        for entry in self.feishu.journal.of("connection"):
            if entry.what["did"] == "opened":
                if count == 0 and entry.at > since and last:
                    longest = max(longest, entry.at - max(last, since))
                count += 1
            elif entry.what["did"] == "closed":
                count -= 1
                last = entry.at
        return longest

    async def connected(self) -> None:
        """Wait until the bot is connected."""
        async with asyncio.timeout(CALL_S):
            while not self.feishu.gateway.of(self.feishu.app):
                await asyncio.sleep(0.02)

    async def ask(self, text: str) -> tuple[Message, int]:
        """Ask the bot in the group for something; the message, and the job that came of it."""
        known = {job.id for job in await self.jobs()}
        said = await self.boss.say(self.group, f"@bot {text}")
        async with asyncio.timeout(CALL_S):
            while True:
                for job in await self.jobs():
                    if job.id not in known and job.channel == "feishu":
                        return said, job.id
                await asyncio.sleep(0.1)

    def told(self, said: Message) -> list[Message]:
        """What the app said in the group after a message."""
        return [one for one in self.group.messages[self.group.messages.index(said) :] if one.from_bot]

    async def approve(self, number: int) -> None:
        """Open the link in the private chat once the job asks, and say yes; returns also when the job ends before."""
        async with asyncio.timeout(BUILD_S), httpx.AsyncClient(trust_env=False) as browser:
            while (await asyncio.to_thread(lambda: self.client.job(number))).status not in ENDED:
                for message in self.feishu.sent(self.boss.private()):
                    if found := re.search(r"https?://\S+/decide/[\w.=-]+", message.text):
                        answered = await browser.post(found[0], data={"answer": "approve"})
                        answered.raise_for_status()
                        return
                await asyncio.sleep(0.2)


def fresh(state: Path) -> None:
    """Forget the last run, but what its builds kept."""
    for path in [*state.glob("*"), *state.glob("rayclaw/*")]:
        if path.name not in ("rayclaw", "cache"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _toolchain() -> str:
    """The directory that has `bin/cargo`, past the stand-ins of rustup."""
    try:
        done = subprocess.run(
            ["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True, timeout=CALL_S
        )
    except (OSError, subprocess.SubprocessError):
        raise CannotRun("there is no rustc") from None
    found = done.stdout.strip()
    return "" if found in ("/usr", "/usr/local") else found


# The scenes


async def own(world: World) -> Scene:
    """The program alone: its own stop and start."""
    scene = Scene()
    binary = max((world.state / "rayclaw" / "releases").glob("*/rayclaw"), key=lambda path: path.stat().st_mtime)

    def begin() -> subprocess.Popen[bytes]:
        with (world.run / "own.log").open("ab") as log:
            return subprocess.Popen([binary, "start"], cwd=world.data, env=world.environment, stdout=log, stderr=log)

    process = begin()
    try:
        await world.connected()
        async with world.talking(scene):
            await asyncio.sleep(3)
            began = time.monotonic()
            process.terminate()
            await asyncio.to_thread(process.wait, CALL_S)
            stopped = time.monotonic()
            process = begin()
            await world.connected()
            started = time.monotonic()
            await asyncio.sleep(3)
        scene.put("stop_ms", (stopped - began) * 1000, "ms")
        scene.put("start_ms", (started - stopped) * 1000, "ms")
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, CALL_S)
    return scene


async def play(world: World, text: str, confirmation: str, statuses: Sequence[str], *, approve: bool = False) -> Scene:
    """One scene: asked in the group, told there once."""
    scene = Scene()
    async with world.talking(scene):
        await asyncio.sleep(2)
        said, number = await world.ask(text)
        if approve:
            await world.approve(number)
        scene.job = job = await world.job(number)
        await asyncio.sleep(3)
    told = world.told(said)
    others = {one.id for one in await world.jobs() if one.id > number}
    scene.put("confirmed", sum(bool(re.search(confirmation, one.text)) for one in told), "messages")
    scene.put("as_expected", int(job.status in statuses), "jobs")
    scene.put("more_jobs", len(others), "jobs")
    if "build_seconds" in job.result:
        scene.put("compile_s", float(job.result["build_seconds"]), "s")
    for message in told:
        sys.stderr.write(f"  | {message.text}\n")
    if job.status not in statuses:
        sys.stderr.write(f"  job {number} ended as {job.status}: {job.error}\n")
    return scene


async def regrow_scene(world: World, name: str) -> Scene:
    """A scene by its name."""
    if name == "restart":
        return await play(world, "重启一下", "已重新上线", ("done",))
    if name == "deploy":
        world.publish(f"v{VERSIONS[1]}")
        return await play(world, "编译重启", "已重新上线", ("done",))
    if name == "repair":
        return await play(world, f"修一下这个 bug: {BUG}", "Bug 已修复并部署", ("done",), approve=True)
    if name == "build_fails":
        world.commit("src/text.rs", "pub fn floor_char_boundary", "pub fun floor_char_boundary", "Break the build")
        return await play(world, "编译重启", "编译失败", ("failed", "undone"))
    _heal(world)
    world.commit("src/runtime.rs", *DYING, "Die after five seconds")
    return await play(world, "编译重启", "❌|⚠️|↩️|已回", ("failed", "undone"))


def _heal(world: World) -> None:
    desk = world.run / "desk"
    if desk.exists():
        world.publish("refs/heads/main~1")


async def measure(
    root: Path, scenes: Sequence[str], found: dict[str, Path], optimise: int, script: Path | None
) -> None:
    """Play the scenes and print them."""
    put = lines.Lines("rayclaw").put
    checkout = history(root, found, optimise)
    prepare(checkout)
    fresh(root / "state")
    settings = Settings(strict=False)
    with tempfile.TemporaryDirectory(prefix="rc-") as name:
        async with FeishuEmulator(settings) as feishu, ModelApi(aside=Turn("ok")) as model:
            world = World(root, Path(name), checkout, feishu, model)
            try:
                await asyncio.to_thread(world.start)
                job = await world.first()
                if job.status != "done":
                    raise RuntimeError(f"the first start: {job.status}: {job.error}")
                put("first", "compile_s", float(job.result.get("build_seconds", 0.0)), "s")
                await world.connected()
                for scene in scenes:
                    if scene == "own":
                        continue
                    sys.stderr.write(f"{scene}\n")
                    tell(put, scene, await regrow_scene(world, scene))
                await world.end()
                if "own" in scenes:
                    tell(put, "own", await own(world))
                if script is not None:
                    await scripted(world, script, put)
            except BaseException:
                shutil.copy(world.run / "daemon.log", root / "daemon.log")
                raise
            finally:
                await world.end()


class Manager:
    """Stands for systemd with one unit: Restart=always, RestartSec=3, and a control group that is ended as a whole.

    Args:
        world: whose bot it starts.
        desk: the checkout in which the bot is built.
    """

    def __init__(self, world: World, desk: Path) -> None:
        self.world, self.desk = world, desk
        self.process: subprocess.Popen[bytes] | None = None
        self.tools = world.run / "tools"
        self.tools.mkdir(exist_ok=True)
        self.orders = world.run / "orders"
        self.orders.mkdir(exist_ok=True)
        sudo = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n'
        ask = (
            f'#!/bin/sh\ncase "$*" in *is-active*) [ -e {self.orders}/up ]; exit;; esac\n'
            f'case "$*" in *restart*|*stop*|*start*) : >{self.orders}/restart; '
            f"while [ -e {self.orders}/restart ]; do sleep 0.1; done;; esac\n"
        )
        for name, text in (("sudo", sudo), ("systemctl", ask)):
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)

    async def run(self) -> None:
        """Keep the bot running until this is cancelled."""
        path = f"{self.tools}:{self.world.environment['PATH']}"
        try:
            while True:
                with (self.world.run / "own.log").open("ab") as log:
                    self.process = subprocess.Popen(
                        [self.desk / "target" / "release" / "rayclaw", "start"],
                        cwd=self.world.data,
                        env={**self.world.environment, "PATH": path},
                        stdout=log,
                        stderr=log,
                    )
                (self.orders / "up").touch()
                while self.process.poll() is None and not (self.orders / "restart").exists():
                    await asyncio.sleep(0.05)
                if self.process.poll() is None:
                    await asyncio.to_thread(self._end)
                    (self.orders / "restart").unlink()
                    continue
                (self.orders / "up").unlink(missing_ok=True)
                await asyncio.sleep(3)
        finally:
            self._end()

    def _end(self) -> None:
        """End every process of the bot, as the end of a control group does: the script is one of them."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            everybody = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
            for one in everybody:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.terminate()
            psutil.wait_procs(everybody, timeout=CALL_S)
        self.process.wait(CALL_S)


async def scripted(world: World, script: Path, put: Any) -> None:
    """The seed's way in the scenes that it knows."""
    desk = world.run / "opt"
    git(world.run, "clone", "--quiet", str(world.checkout), str(desk))
    git(desk, "checkout", "--quiet", f"v{VERSIONS[0]}")
    kept = world.root / "script-target"
    if not kept.exists():
        # With its times, or cargo takes every crate for changed.
        subprocess.run(["cp", "-a", str(world.cache / "target"), str(kept)], check=True, timeout=FETCH_S)
    (desk / "target").symlink_to(kept)
    (desk / "scripts").mkdir(exist_ok=True)
    shutil.copy(script, desk / "scripts" / "hot-reload.sh")
    (desk / "scripts" / "hot-reload.sh").chmod(0o755)
    (world.data / "rayclaw.data" / "mcp.json").unlink(missing_ok=True)
    build = ["nice", "cargo", "build", "--release", "--locked", "--no-default-features", "--features", "feishu,web"]
    await asyncio.to_thread(subprocess.run, build, cwd=desk, check=True, timeout=BUILD_S)
    manager = asyncio.create_task(Manager(world, desk).run())
    words = {
        "restart": ("重启一下", "--restart-only", f"v{VERSIONS[0]}"),
        "deploy": ("编译重启", "", f"v{VERSIONS[1]}"),
        "dies_5s": ("编译重启", "", "refs/remotes/origin/main"),
    }
    try:
        for name, (text, option, commit) in words.items():
            git(desk, "checkout", "--quiet", "--force", commit)
            if name == "dies_5s":
                _replace(desk / "src/runtime.rs", *DYING)
            world.script = f"cd {desk} && scripts/hot-reload.sh {option}"
            await world.connected()
            scene = Scene()
            async with world.talking(scene):
                await asyncio.sleep(2)
                said = await world.boss.say(world.group, f"@bot {text}")
                await asyncio.sleep(SCRIPT_S)
            scene.put("confirmed", sum("✅" in one.text for one in world.told(said)), "messages")
            tell(put, f"script/{name}", scene)
    finally:
        manager.cancel()
        await asyncio.gather(manager, return_exceptions=True)


def tell(put: Any, case: str, scene: Scene) -> None:
    """Print what was seen."""
    for metric, (value, unit) in scene.figures.items():
        put(case, metric, value, unit)


def prepare(checkout: Path) -> None:
    """Put the crates of the lock file where builds find them, as docs/how-to/rayclaw.md says.

    Raises:
        CannotRun: the registry does not give them.
    """
    for version in VERSIONS:
        lock = git(checkout, "show", f"v{version}:Cargo.lock")
        with tempfile.TemporaryDirectory() as name:
            tree = Path(name)
            (tree / "src").mkdir()
            (tree / "src" / "lib.rs").touch()
            (tree / "src" / "main.rs").touch()
            (tree / "Cargo.lock").write_text(f"{lock}\n")
            for part in ("Cargo.toml", "build.rs"):
                (tree / part).write_text(git(checkout, "show", f"v{version}:{part}"))
            done = subprocess.run(
                ["cargo", "fetch", "--locked"], cwd=tree, capture_output=True, text=True, check=False, timeout=FETCH_S
            )
        if done.returncode:
            raise CannotRun(f"cargo fetch: {done.stderr.strip()[-300:]}")


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """Where the costly things are."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="regrow-bench-") as made:
        yield Path(made)


def main() -> None:
    """Measure and print."""
    parser = lines.arguments(__doc__ or "")
    parser.add_argument("--keep", type=Path, default=None, help="a directory that is used again")
    parser.add_argument("--only", choices=SCENES, action="append", help="these scenes")
    parser.add_argument("--optimise", type=int, choices=range(4), default=3, help="level for RayClaw's own crate")
    parser.add_argument("--script", type=Path, default=None, help="the seed's hot-reload.sh, to compare with")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    scenes = given.only or (SCENES[:2] if given.size == "smoke" else SCENES)
    with place(given.keep) as root:
        try:
            found = sources(root)
            asyncio.run(measure(root, scenes, found, given.optimise, given.script))
        except CannotRun as error:
            lines.Lines("rayclaw").put("all", "skipped", 1, "runs", reason=str(error))


if __name__ == "__main__":
    main()
