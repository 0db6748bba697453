"""The whole way: people in a Feishu chat, the emulated platform, the real daemon as a process, claw under its care."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from regrow.api.client import Client
from regrow.api.types import ENDED, Job
from regrow.errors import RegrowError
from regrow.quiet import Quiet
from regrow.testing.feishu import Chat, FeishuEmulator, Message, Settings, User
from regrow.testing.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
CLAW = CHECKOUT / "examples" / "claw"
DEADLINE_S = 90.0
BUG = "Reminders set for 07:00 in Shanghai come at 15:00"
REPRODUCTION = (
    "python -m claw due '0 7 * * *' --tz Asia/Shanghai"
    " --after 2026-01-01T00:00:00+08:00 --expect 2026-01-01T07:00:00+08:00"
)


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], check=True, capture_output=True, text=True, timeout=DEADLINE_S)
    return done.stdout.strip()


async def until(found: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    deadline = time.monotonic() + within_s
    while not (value := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"cannot see {what} within {within_s} s")
        await asyncio.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "claw"
    subprocess.run(
        [sys.executable, str(CLAW / "history.py"), str(path)],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=DEADLINE_S,
    )
    return path


class World:
    """Claw under the care of a daemon that is reached over Feishu: Olga owns, Vera may look, Stan is a stranger."""

    def __init__(self, root: Path, history: Path, feishu: FeishuEmulator) -> None:
        self.root = root
        self.feishu = feishu
        self.olga, self.vera, self.stan = (feishu.user(name) for name in ("Olga", "Vera", "Stan"))
        self.group: Chat = feishu.group("ops", [self.olga, self.vera, self.stan])
        git("clone", "--quiet", "--bare", str(history), str(root / "claw.git"))
        self.good, self.tip = git("-C", str(history), "rev-parse", "main~3", "main").split()
        self.publish(self.good)
        self.client = Client(root / "run" / "daemon.sock")
        self.ports = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = os.environ | {
            "REGROW_STATE_DIR": str(root / "state"),
            "REGROW_RUNTIME_DIR": str(root / "run"),
            "PYTHONPATH": str(CHECKOUT / "src"),
            "FEISHU_APP_SECRET": feishu.app.secret,
        }
        self.write_config({self.olga: "owner", self.vera: "viewer"})

    def write_config(self, people: dict[User, str]) -> None:
        """With these people; by union_id, which every app sees the same."""
        config = (CLAW / "regrow.toml").read_text()
        config = config.replace("127.0.0.1:8700", f"127.0.0.1:{self.ports[0]}")
        config = re.sub(r'(?m)^bake = ".*"', 'bake = "500ms"', config)
        rows = "".join(
            f'{{ id = "{user.name.lower()}", name = "{user.name}", role = "{role}", union_id = "{user.union_id}" }},\n'
            for user, role in people.items()
        )
        (self.root / "regrow.toml").write_text(
            f'{config}\n[daemon]\nconsole = "127.0.0.1:{self.ports[1]}"\n\n[channels.feishu]\n'
            f'app_id = "{self.feishu.app.app_id}"\napp_secret = "env:FEISHU_APP_SECRET"\n'
            f'base_url = "{self.feishu.base_url}"\npeople = [\n{rows}]\n'
        )

    def publish(self, commit: str) -> None:
        git("-C", str(self.root / "claw.git"), "update-ref", "refs/heads/main", commit)

    def commit(self, path: str, old: str, new: str) -> str:
        """Change a file on main as a colleague does; the commit."""
        desk = self.root / "desk"
        git("clone", "--quiet", str(self.root / "claw.git"), str(desk))
        text = (desk / path).read_text()
        assert old in text
        (desk / path).write_text(text.replace(old, new))
        who = ("-c", "user.name=Mia", "-c", "user.email=mia@example.invalid")
        git("-C", str(desk), *who, "commit", "--quiet", "--all", "--message", "Say it better")
        git("-C", str(desk), "push", "--quiet", "origin", "HEAD:main")
        return git("-C", str(desk), "rev-parse", "HEAD")

    async def start(self) -> None:
        """Start the daemon and wait until it is connected and idle."""
        await self.start_again()
        await until(self.idle, "an idle daemon")

    async def start_again(self) -> None:
        """Start the daemon and wait until it is connected; jobs may be under way."""
        with (self.root / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "regrow.daemon", "--config", str(self.root / "regrow.toml")],
                env=self.environment,
                cwd=self.root,
                stdout=log,
                stderr=log,
            )
        try:
            await self.feishu.connected(timeout=DEADLINE_S)
            await until(self.answers, "an answer of the API")
        except (TimeoutError, AssertionError) as error:
            raise AssertionError(f"{error}\n{(self.root / 'daemon.log').read_text()[-3000:]}") from None

    def answers(self) -> bool:
        try:
            self.client.jobs()
        except (RegrowError, OSError):
            return False
        return True

    def idle(self) -> bool:
        jobs = self.client.jobs()
        return bool(jobs) and all(job.status in ENDED for job in jobs)

    async def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, DEADLINE_S)
        self.process = None
        await self.feishu.disconnected(timeout=DEADLINE_S)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            try:
                self.client.stop(services=True)
                self.process.wait(DEADLINE_S)
            finally:
                self.process.kill()
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.root) in word for word in process.info["cmdline"] or ()):
                process.kill()

    def jobs(self, kind: str, asked_by: str = "Olga") -> list[Job]:
        return [job for job in self.client.jobs() if job.kind == kind and job.asked_by == asked_by]

    def row(self, query: str, *values: object) -> Any:
        """The store, read beside the daemon."""
        with sqlite3.connect(f"file:{self.root}/state/regrow.db?mode=ro", uri=True) as connection:
            found = connection.execute(query, values).fetchone()
        connection.close()
        return found

    async def recorded(self, message: Message) -> None:
        """Wait until the daemon knows which message it has sent: nobody presses within that moment but a test."""
        await until(
            lambda: self.row("select 1 from outbox where platform_id = ?", message.id), "the record of a message"
        )

    async def see(self, chat: Chat, text: str, after: Message | None = None) -> Message:
        try:
            return await self.feishu.wait_for(chat, text, after=after, timeout=DEADLINE_S)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{(self.root / 'daemon.log').read_text()[-3000:]}") from None


@pytest.fixture
def root() -> Iterator[Path]:
    # Unix sockets lie in it: the name is short.
    with tempfile.TemporaryDirectory(prefix="rf-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
async def world(root: Path, history: Path) -> AsyncIterator[World]:
    async with FeishuEmulator(Settings(speed=1.0, ping_interval=2)) as feishu:
        made = World(root, history, feishu)
        try:
            await made.start()
            yield made
        finally:
            await asyncio.to_thread(made.end)


async def test_a_restart_is_asked_for_shown_and_told(world: World) -> None:
    """The first dialogue of the seed; with what must not happen on the way."""
    feishu, group = world.feishu, world.group
    asked = await world.olga.say(group, "@bot 重启一下")
    live = await world.see(group, "正在重启")
    assert (live.kind, live.parent) == ("interactive", asked)
    result = await world.see(group, "已重新上线")
    assert result.parent is asked
    # One live card that was changed in place, and one message with the result.
    assert [message for message in feishu.sent(group) if message.parent is asked] == [live, result]
    await feishu.journal.wait(
        lambda: "结果见下一条消息" in live.text, timeout=DEADLINE_S, for_what="the live card's last state"
    )
    assert len(live.versions) > 1
    assert world.client.status().channels
    (channel,) = (one for one in world.client.status().channels if one.name == "feishu")
    assert channel.healthy, channel.detail
    # A stranger, somebody with too small a role, and a command from an hour ago.
    for who, words in ((world.stan, "不在人员名单里"), (world.vera, "这件事要操作员或更高的角色才能做")):
        said = await who.say(group, "@bot 重启")
        refusal = await world.see(group, words, after=said)
        assert refusal.parent is said
    assert await world.olga.say(world.olga.private(), "重启一下", at=time.time() - 3600)
    await world.see(world.olga.private(), "没有执行")
    viewed = await world.vera.say(world.vera.private(), "状态")
    await world.see(world.vera.private(), "claw", after=viewed)
    assert len(world.jobs("restart")) == 1
    assert world.jobs("restart", "Vera") == []
    feishu.verify(allow_codes={230027})


async def test_a_repair_is_approved_by_pressing(world: World) -> None:
    """F35, F37, C22: only the right person, here, for this change, once."""
    feishu, group = world.feishu, world.group
    world.publish(world.tip)
    await world.olga.say(group, "@bot 部署最新版本")
    await world.see(group, "已重新上线，版本")
    asked = await world.olga.say(group, f"@bot 修一下这个bug: {BUG}\n```sh\n{REPRODUCTION}\n```")
    live = await world.see(group, "[批准]", after=asked)
    assert "```diff" in live.text
    (job,) = world.jobs("repair")
    assert job.approval is not None
    action = f"approve:{job.id}:{job.approval.digest}"

    async def refused(click: Any) -> None:
        assert (click.shown, (click.toast or {}).get("type")) == ("toast", "error"), click
        (now,) = world.jobs("repair")
        assert now.approval is not None
        assert now.approval.state == "open"

    other = feishu.group("elsewhere", [world.olga])
    await refused(await world.stan.click(live, "批准", confirm=True))
    await refused(await world.vera.click(live, "批准", confirm=True))
    await refused(await world.olga.forge(live, {"action": f"approve:{job.id}:0000000000"}))
    await refused(await world.olga.forge(live, {"action": f"approve:{job.id + 1}:{job.approval.digest}"}))
    await refused(await world.olga.forge(live, {"action": action}, chat_id=other.id))
    await refused(await world.olga.forge(live, {"action": action}, message_id=asked.id))
    await refused(await world.olga.forge(live, "approve"))
    with pytest.raises(PermissionError):
        await world.olga.forward(live, other)
    # The daemon is another one when the right press comes.
    await world.kill()
    await world.start_again()
    click = await world.olga.click(live, "批准", confirm=True)
    assert (click.shown, (click.toast or {}).get("type")) == ("toast", "success")
    assert click.changed
    assert "[批准]" not in live.text
    again = await world.olga.forge(live, {"action": action})
    assert (again.toast or {}).get("type") == "error"
    done = await world.see(group, "Bug 已修复并部署", after=asked)
    assert done.parent is asked
    (job,) = world.jobs("repair")
    assert job.status == "done"
    assert job.result["approved_by"] == "Olga"
    assert [message.text for message in feishu.sent(group) if "Bug 已修复" in message.text] == [done.text]


async def test_the_question_of_landing_is_another_one_and_is_pressed_as_such(world: World) -> None:
    """F35: the branch has moved in the same file; the press that approved the deployment does not approve that."""
    feishu, group = world.feishu, world.group
    world.publish(world.tip)
    await world.olga.say(group, "@bot 部署最新版本")
    await world.see(group, "已重新上线，版本")
    asked = await world.olga.say(group, f"@bot 修一下这个bug: {BUG}\n```sh\n{REPRODUCTION}\n```")
    live = await world.see(group, "[批准]", after=asked)
    (job,) = world.jobs("repair")
    assert job.approval is not None
    first = f"approve:{job.id}:{job.approval.digest}"
    theirs = world.commit("claw/schedule.py", "that cannot be used.", "that cannot be used, by anybody.")
    click = await world.olga.click(live, "批准", confirm=True)
    assert (click.toast or {}).get("type") == "success"
    await feishu.journal.wait(
        lambda: "已经上线" in live.text and "[批准]" in live.text, timeout=DEADLINE_S, for_what="the second question"
    )
    assert "by anybody" not in live.text, "what others changed is shown as the repair's"
    (job,) = world.jobs("repair")
    assert job.approval is not None
    assert job.approval.state == "open"
    # The first press once more, somebody else, and a digest of nobody's.
    for who, action in ((world.olga, first), (world.vera, f"approve:{job.id}:{job.approval.digest}")):
        forged = await who.forge(live, {"action": action})
        assert (forged.toast or {}).get("type") == "error", forged
    assert git("-C", str(world.root / "claw.git"), "rev-parse", "main") == theirs
    # The daemon is another one when the press comes.
    await world.kill()
    await world.start_again()
    click = await world.olga.click(live, "批准", confirm=True)
    assert (click.shown, (click.toast or {}).get("type"), click.changed) == ("toast", "success", True), click
    done = await world.see(group, "Bug 已修复并部署", after=asked)
    assert "已合并到 main" in done.text
    assert git("-C", str(world.root / "claw.git"), "rev-parse", "main^") == theirs
    assert "by anybody" in git("-C", str(world.root / "claw.git"), "show", "main:claw/schedule.py")
    await feishu.journal.wait(
        lambda: "结果见下一条消息" in live.text, timeout=DEADLINE_S, for_what="the live card's last state"
    )
    assert "[批准]" not in live.text
    feishu.verify(allow_codes={230027, 230099})  # 230099: an edit came while the press was answered; it is done again


@pytest.mark.parametrize("new_id", [False, True], ids=["same id", "new id"])
async def test_f34_redelivery_for_six_hours_acts_once(world: World, new_id: bool) -> None:
    """At 15 s, 5 min, 1 h and 6 h on the platform's clock, with a killed daemon in between."""
    feishu = world.feishu
    feishu.ignore_next_ack(2 if new_id else 1, attempts=4)
    if new_id:
        feishu.duplicate(new_id=True)
    await world.olga.say(world.group, "@bot 重启一下")
    await world.see(world.group, "已重新上线")
    deliveries = feishu.gateway.deliveries
    assert len(deliveries) == (2 if new_id else 1)
    for number, wait in enumerate((15, 300, 3600, 21600), 1):
        await until(lambda n=number: all(len(d.attempts) == n for d in deliveries), f"attempt {number}")
        if number % 2:
            await world.kill()
            await world.start_again()
        feishu.advance(wait)
    await until(lambda: all(d.done.is_set() for d in deliveries), "the end of all deliveries")
    assert {d.outcome for d in deliveries} == {"acknowledged"}
    assert len(world.jobs("restart")) == 1
    assert len([m for m in feishu.sent(world.group) if "已重新上线" in m.text]) == 1
    assert not [m for m in feishu.sent(world.group) if "没有执行" in m.text]


async def test_c15_killed_between_commit_and_acknowledgement(world: World) -> None:
    feishu = world.feishu
    feishu.ignore_next_ack()
    said = await world.olga.say(world.group, "@bot 重启一下")
    await until(lambda: world.row("select 1 from inbox where message = ?", said.id), "the row")
    await world.kill()
    await world.start_again()
    (delivery,) = feishu.deliveries(said)
    feishu.advance(15)
    await until(lambda: delivery.outcome == "acknowledged", "the acknowledgement of the redelivery")
    await world.see(world.group, "已重新上线")
    assert len(world.jobs("restart")) == 1
    assert len([m for m in feishu.sent(world.group) if "已重新上线" in m.text]) == 1


async def test_c15_killed_before_the_commit(world: World) -> None:
    feishu = world.feishu
    assert world.process is not None
    world.process.send_signal(signal.SIGSTOP)
    said = await world.olga.say(world.group, "@bot 重启一下")
    (delivery,) = feishu.deliveries(said)
    await until(lambda: delivery.attempts == ["timeout"], "a failed attempt")
    await world.kill()
    assert world.row("select 1 from inbox where message = ?", said.id) is None
    await world.start_again()
    feishu.advance(15)
    await until(lambda: delivery.outcome == "acknowledged", "the redelivery")
    await world.see(world.group, "已重新上线")
    assert len(world.jobs("restart")) == 1


async def test_f37_an_empty_list_means_nobody_and_leaving_it_ends_rights(world: World) -> None:
    await world.olga.say(world.group, "@bot 重启一下")
    await world.see(world.group, "已重新上线")
    await world.kill(signal.SIGTERM)
    world.write_config({})
    await world.start_again()
    said = await world.olga.say(world.group, "@bot 重启")
    await world.see(world.group, "不在人员名单里", after=said)
    assert len(world.jobs("restart")) == 1


# People


def code_in(message: Message) -> str:
    found = re.search(r"配对码是? ?([A-Z2-9]{6})", message.text)
    assert found, message.text
    return found[1]


async def test_a_stranger_is_let_in_by_the_owners_button(world: World) -> None:
    """F37: only the owner's own press lets somebody in; a forwarded or forged one does not."""
    asked = await world.stan.say(world.group, "@bot 重启一下")
    code = code_in(await world.see(world.group, "不在人员名单里", after=asked))
    question = await world.see(world.olga.private(), code)
    for forger in (world.stan, world.vera):
        forged = await forger.forge(question, {"action": f"admit:{code}:owner"})
        assert (forged.toast or {}).get("type") == "error", forged
    owner = await world.olga.forge(question, {"action": f"admit:{code}:owner"})
    assert (owner.toast or {}).get("type") == "error", "a role that the card does not offer"
    click = await world.olga.click(question, "设为操作员", confirm=True)
    assert (click.toast or {}).get("type") == "success", click
    assert "[设为操作员]" not in question.text
    await world.see(world.group, "您已加入，角色是操作员", after=asked)
    again = await world.stan.say(world.group, "@bot 重启一下")
    await world.see(world.group, "已重新上线", after=again)
    assert len(world.jobs("restart", world.stan.open_id())) == 1
    # A role of operator is no more than that, and it outlives the daemon.
    await world.kill()
    await world.start_again()
    more = await world.stan.say(world.group, "@bot 部署最新版本")
    await world.see(world.group, "这件事要维护者或更高的角色才能做", after=more)


async def test_a_stranger_is_let_in_from_the_command_line_and_removed(world: World) -> None:
    asked = await world.stan.say(world.stan.private(), "状态")
    code = code_in(await world.see(world.stan.private(), "不在人员名单里", after=asked))

    def regrow(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "regrow.cli", "people", *words]
        return subprocess.run(
            argv, env=world.environment | {"LANG": "C"}, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )

    assert code in regrow().stdout
    wrong = regrow("approve", code, "--role", "emperor")
    assert (wrong.returncode, "there are viewer" in wrong.stderr) == (64, True), wrong
    unknown = regrow("approve", "ZZZZZZ", "--role", "viewer")
    assert (unknown.returncode, "cannot find the code" in unknown.stderr) == (5, True), unknown
    done = regrow("approve", code, "--role", "viewer", "--name", "Stan")
    assert (done.returncode, "as viewer" in done.stdout) == (0, True), done
    await world.see(world.stan.private(), "您已加入，角色是观察者")
    again = await world.stan.say(world.stan.private(), "状态")
    await world.see(world.stan.private(), "claw", after=again)
    gone = regrow("remove", "Stan")
    assert gone.returncode == 0, gone
    last = await world.stan.say(world.stan.private(), "状态")
    await world.see(world.stan.private(), "不在人员名单里", after=last)


async def test_f37_who_leaves_the_tenant_loses_the_job_that_was_not_acted_upon(world: World) -> None:
    """Asked for while she had the right; gone before it was acted upon."""
    world.feishu.app.events.add("contact.user.deleted_v3")
    world.publish(world.tip)
    await world.olga.say(world.group, "@bot 部署最新版本")
    await world.see(world.group, "已重新上线，版本")
    asked = await world.olga.say(world.group, f"@bot 修一下这个bug: {BUG}\n```sh\n{REPRODUCTION}\n```")
    live = await world.see(world.group, "[批准]", after=asked)
    (job,) = world.jobs("repair")
    assert job.approval is not None
    world.olga.leave()
    await until(lambda: not any(one.name == "Olga" for one in world.client.people().people), "the end of her rights")
    pressed = await world.olga.forge(live, {"action": f"approve:{job.id}:{job.approval.digest}"})
    assert (pressed.toast or {}).get("type") == "error"
    # The local user approves what she asked for: it is still her job, and she has no right to it any more.
    world.client.approve(job.id, job.approval.digest)
    await until(lambda: world.client.job(job.id).status in ENDED, "the end of the job")
    ended = world.client.job(job.id)
    assert (ended.status, ended.error and ended.error.kind) == ("failed", "forbidden"), ended
    (serving,) = (one for one in world.client.releases() if one.state == "active")
    assert serving.commit == world.tip


# What is in the way of a change


async def test_rules_questions_and_a_freeze_in_a_group(world: World) -> None:
    """A room for reading alone, a question with buttons in quiet hours, and a freeze that the owner hears of."""
    reading = world.feishu.group("look", [world.olga, world.vera])
    begin, end = (Quiet().clock(time.time() + seconds) for seconds in (-3600, 3600))
    await world.kill(signal.SIGTERM)
    config = world.root / "regrow.toml"
    rules = f'[permissions.chats."feishu:{reading.id}"]\nread_only = true\n[quiet]\nhours = ["{begin}-{end}"]\n'
    config.write_text(config.read_text() + rules)
    await world.start_again()

    asked = await world.olga.say(reading, "@bot 马上重启")
    await world.see(reading, "但这里不行", after=asked)
    asked = await world.olga.say(reading, "@bot 状态")
    await world.see(reading, "claw", after=asked)
    assert world.jobs("restart") == []

    world.publish(world.tip)
    asked = await world.olga.say(world.group, "@bot 部署最新版本")
    question = await world.see(world.group, "免打扰时段", after=asked)
    await world.recorded(question)
    pressed = await world.vera.click(question, "现在就做")
    assert (pressed.toast or {}).get("type") == "error", "a button is for the one who was asked"
    assert world.jobs("deploy") == []
    await world.olga.click(question, "现在就做")
    await world.see(world.group, "已重新上线，版本")
    (job,) = world.jobs("deploy")
    assert job.status == "done"

    asked = await world.olga.say(world.group, "@bot 冻结 发版窗口关闭")
    await world.see(world.group, "已冻结: 发版窗口关闭", after=asked)
    await world.see(world.olga.private(), "Olga 冻结了 claw: 发版窗口关闭")
    await world.kill()
    await world.start_again()
    asked = await world.olga.say(world.group, "@bot 马上部署最新版本")
    await world.see(world.group, "已被 Olga 冻结", after=asked)
    asked = await world.olga.say(world.group, "@bot 回滚")
    await world.see(world.group, "已回滚", after=asked)
    assert len(world.jobs("deploy")) == 1
    rows = world.client.audit()
    said = {row.what: (row.detail.get("words"), row.detail.get("understood")) for row in rows if row.who == "Olga"}
    assert said["frozen"] == ("冻结 发版窗口关闭", "grammar")
    assert said["refused"] == ("马上部署最新版本", "grammar")
    pressed_row = next(row for row in rows if row.what == "asked" and row.detail.get("understood") == "button")
    assert pressed_row.detail["words"] == "部署最新版本 → 现在就做"
    assert world.client.audit_verify().broken is None


# Rescue


async def test_rescue_with_the_service_dead_and_no_release_that_can_start(world: World) -> None:
    """Whatever became of the service, the chat answers: status, logs, releases, rollback, repair."""
    chat = world.olga.private()
    world.publish(world.tip)
    await world.olga.say(chat, "部署最新版本")
    await world.see(chat, "已重新上线，版本")
    releases = world.root / "state" / "claw" / "releases"
    for package in releases.glob("*/claw"):
        shutil.rmtree(package)
        package.mkdir()
        (package / "__init__.py").write_text("raise SystemExit('no release of this service can start')\n")
    active = world.client.status().services[0].active
    assert active is not None
    os.kill(active.pid, signal.SIGKILL)
    await world.see(chat, "启动失败")
    asked = await world.olga.say(chat, "状态")
    await world.see(chat, "没有在运行", after=asked)
    asked = await world.olga.say(chat, "最近20行日志")
    await world.see(chat, "no release of this service can start", after=asked)
    asked = await world.olga.say(chat, "有哪些版本")
    await world.see(chat, world.tip[:7], after=asked)
    # What is on disk cannot start; a rollback says so and the chat goes on.
    asked = await world.olga.say(chat, "回滚")
    await world.see(chat, "没有成功", after=asked)
    # The commits are good: building anew is the way out.
    asked = await world.olga.say(chat, f"部署 {world.good}")
    await world.see(chat, "已重新上线", after=asked)
    assert world.client.status().services[0].state == "up"
