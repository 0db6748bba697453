"""The story, scene by scene: what is said, and how it must end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from conversation import Channel, Conversation, NotHeard, is_question
from regrow.api.types import Job
from traffic import Traffic, ask, chat
from world import BRANCH, World

REPRODUCTION = (
    'python -m claw due "0 7 * * *" --tz Asia/Shanghai '
    "--after 2026-01-01T00:00:00+08:00 --expect 2026-01-01T07:00:00+08:00"
)
BUG = f"@bot 修一下这个 bug: 定时任务在北京时间7点没触发\n```\n{REPRODUCTION}\n```"
REMINDER = "提醒我 每天 07:00 喝水"

RESTARTS, SEATS, BETWEEN_S = 3, 10, 0.1


@dataclass(frozen=True)
class Check:
    """Something that must hold.

    Attributes:
        expected: in words.
        seen: what there was instead, or as well.
        held: whether it holds.
    """

    expected: str
    seen: str
    held: bool


@dataclass
class Stage:
    """Where one scene is played.

    Attributes:
        world: the code and its repository.
        talk: the chat in which the scene is played.
        elsewhere: another chat, which has nothing to do with it.
        traffic: the people who use the service meanwhile.
        begun: seconds of the monotonic clock.
        checks: what has been looked at so far.
        job: the job that the scene is about, once it has ended.
    """

    world: World
    talk: Conversation
    elsewhere: Conversation
    traffic: Traffic
    begun: float = field(default_factory=time.monotonic)
    checks: list[Check] = field(default_factory=list)
    job: Job | None = None

    def expect(self, expected: str, seen: object, held: bool) -> None:
        """Write down whether something holds."""
        self.checks.append(Check(expected, str(seen), held))

    def ask_for(self, text: str, kind: str) -> int:
        """Say something that makes a job; its number.

        Raises:
            NotHeard: no job came of it.
        """
        said = self.talk.say(text)
        answer = self.talk.reply(said)
        if answer.job is None:
            raise NotHeard(f"a job after {text!r}: the answer was {answer.text!r}; it")
        seen = self.talk.client.job(answer.job).kind
        self.expect(f"{text!r} is understood as {kind}", seen, seen == kind)
        return answer.job

    def see_end(self, job: int, status: str, version: str, words: Iterable[str]) -> None:
        """Wait for the end of a job and look at everything that it must leave behind.

        Args:
            job: its number.
            status: how it must end.
            version: what must serve afterwards.
            words: what must be said of it in the chat.
        """
        self.job = self.talk.ended(job)
        cause = f": {self.job.error.text}" if self.job.error else ""
        self.expect(f"the job ends as {status}", self.job.status + cause, self.job.status == status)
        self.see_serving(version)
        told = self.talk.told(job)
        for word in words:
            self.expect(f"the chat is told {word!r}", told, word in told)
        astray = self.elsewhere.told(job)
        self.expect(f"nobody is told outside of {self.talk.channel}", astray or "nothing", not astray)

    def see_serving(self, version: str) -> None:
        """The service itself must say that it is this version."""
        answer = ask(self.world.address)
        self.expect(f"{version} serves", answer.version or answer.failure, answer.version == version)

    def see_traffic(self) -> None:
        """Everybody must have been answered since the scene began."""
        figures = self.traffic.figures(self.begun)
        failed = "; ".join(f"{one.failure} after {one.ended - self.begun:.2f} s" for one in figures.failures)
        self.expect("every request is answered", failed or f"{figures.requests} answered", not figures.failed)
        self.expect("there are requests at all", figures.requests, figures.requests > 0)

    @property
    def serving(self) -> str:
        """The version that serves now."""
        return ask(self.world.address).version


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        name: for programs.
        title: for people.
        channel: through which the person speaks.
        play: what happens; it raises NotHeard or RegrowError when it cannot go on.
    """

    name: str
    title: str
    channel: Channel
    play: Callable[[Stage], None]


def restart(stage: Stage) -> None:
    """A fresh process of the same version takes over."""
    before = ask(stage.world.address)
    job = stage.ask_for("@bot 重启一下", "restart")
    stage.see_end(job, "done", before.version, ("正在重启", "已重新上线，运行正常", before.version))
    after = ask(stage.world.address)
    stage.expect("another process serves", f"{before.pid}, then {after.pid}", 0 != after.pid != before.pid)


def build(stage: Stage) -> None:
    """The newest commit is built and takes over, with a bug that nobody has seen yet."""
    stage.expect("the good version reminds at 07:00", *_reminds(stage, "07:00"))
    version = stage.world.push()
    job = stage.ask_for("@bot 编译重启", "deploy")
    stage.see_end(job, "done", version, ("开始编译", "编译完成", f"已重新上线，版本: {version}"))
    stage.expect("this version reminds eight hours late, at 15:00", *_reminds(stage, "15:00"))
    stage.expect("the reproduction fails", *_reproduces(stage, 1))


def repair(stage: Stage) -> None:
    """The bug is reported, its cause found and taken back, approved by a person, and deployed."""
    world = stage.world
    buggy = stage.serving
    job = stage.ask_for(BUG, "repair")
    stage.talk.heard("the question for approval", lambda one: one.job == job and is_question(one), within_s=90)
    culprit = world.git("rev-parse", f"{BRANCH}~2")
    named = str(stage.talk.client.job(job).result.get("culprit", ""))
    stage.expect(f"the culprit is {culprit[:7]}", named[:7], named == culprit)
    stage.expect("nothing changes before the approval", stage.serving, stage.serving == buggy)
    stage.talk.say("同意")
    stage.talk.ended(job)
    world.git("pull", "--quiet", "--ff-only")
    version = world.git("rev-parse", "--short=7", "HEAD")
    words = ("分析问题", "Bug 已修复并部署", "claw/schedule.py", f"当前版本: {version}", f"已合并到 {BRANCH}")
    stage.see_end(job, "done", version, words)
    parents = world.git("rev-parse", "HEAD^")
    stage.expect(f"the repair is one commit on {buggy}", parents[:7], parents.startswith(buggy))
    stage.expect("it reminds at 07:00 again", *_reminds(stage, "07:00"))
    stage.expect("the reproduction passes", *_reproduces(stage, 0))


def cannot_start(stage: Stage) -> None:
    """A release that ends as it starts never serves anybody."""
    before = stage.serving
    stage.world.apply("cannot-start.patch")
    version = stage.world.push()
    job = stage.ask_for("@bot build and restart", "deploy")
    words = ("does not start", "FileNotFoundError", f"{before} never stopped")
    stage.see_end(job, "failed", before, words)
    _never_served(stage, version)


def dies_later(stage: Stage) -> None:
    """A release passes its probe, takes over, and dies ten seconds later: the old one is back by itself."""
    world, before = stage.world, stage.serving
    world.git("revert", "--no-edit", "HEAD")
    world.apply("dies-later.patch")
    version = world.push()
    job = stage.ask_for("@bot build and restart", "deploy")
    words = (f"{version} went wrong", f"{before} is back", "no such table", "is marked bad")
    stage.see_end(job, "undone", before, words)
    seen = stage.traffic.figures(stage.begun).versions
    stage.expect(f"people were served by {version} for a while", ", ".join(seen), version in seen)
    refusal = stage.talk.reply(stage.talk.say("@bot build and restart"))
    stage.expect("the same version is refused from now on", refusal.text, "marked bad" in refusal.text)


def rollback(stage: Stage) -> None:
    """Back to the good release before the one that serves."""
    now = stage.serving
    before = stage.world.git("rev-parse", "--short=7", _commit_of(stage, now) + "^")
    job = stage.ask_for("@bot 回滚", "rollback")
    stage.see_end(job, "done", before, ("正在回滚", f"已回滚并上线，版本: {before}"))


def build_fails(stage: Stage) -> None:
    """A build that fails changes nothing that runs."""
    before = stage.serving
    stage.world.git("revert", "--no-edit", "HEAD")
    stage.world.apply("build-fails.patch")
    version = stage.world.push()
    job = stage.ask_for("@bot build and restart", "deploy")
    stage.see_end(job, "failed", before, ("the build failed", "SyntaxError", f"{before} never stopped"))
    _never_served(stage, version)


def conversation(stage: Stage) -> None:
    """A person talks with the bot itself while it is restarted: each message is answered once, and in order."""
    version = stage.serving
    first = stage.talk.say("记住 我的航班是 CA1234")
    expected = ["记住了：你的航班是 CA1234"]
    for number in range(RESTARTS):
        stage.talk.answers(first, len(expected))
        job = stage.ask_for("@bot 重启一下", "restart")
        # One after the other while it is restarted, none waiting for the answer to the one before.
        for seat in range(number * SEATS, (number + 1) * SEATS):
            stage.talk.say(f"记住 我的座位是 {seat}A")
            expected.append(f"记住了：你的座位是 {seat}A")
            time.sleep(BETWEEN_S)
        stage.see_end(job, "done", version, ("已重新上线，运行正常",))
        stage.talk.say("我的航班是什么")
        expected.append("你的航班是 CA1234")
    answers = stage.talk.answers(first, len(expected))
    held = len(answers) == len(expected) and all(word in answer for word, answer in zip(expected, answers, strict=True))
    stage.expect(f"{len(expected)} messages are answered once each, in order", answers, held)


SCENES = (
    Scene("restart", "restart", "web", restart),
    Scene("build_and_restart", "build and restart: three new commits, one of them with a bug", "web", build),
    Scene("repair", "a bug is reported, repaired, approved and deployed", "web", repair),
    Scene("cannot_start", "a release that cannot start", "terminal", cannot_start),
    Scene("dies_later", "a release that passes its probe and dies ten seconds later", "terminal", dies_later),
    Scene("rollback", "rollback", "web", rollback),
    Scene("build_fails", "a build that fails", "terminal", build_fails),
    Scene("conversation", "a conversation with the bot goes on through three restarts", "web", conversation),
)


def _reminds(stage: Stage, when: str) -> tuple[str, bool]:
    """What the service itself answers to a wish to be reminded at 07:00 in Shanghai."""
    answer = chat(stage.world.address, REMINDER)
    return answer, f" {when} (" in answer


def _reproduces(stage: Stage, code: int) -> tuple[str, bool]:
    """How the reproduction ends in the person's clone."""
    words = REPRODUCTION.split('"')
    command = [sys.executable, *words[0].split()[1:], words[1], *words[2].split()]
    done = subprocess.run(command, cwd=stage.world.clone, capture_output=True, text=True, timeout=30, check=False)
    return f"exit code {done.returncode}: {done.stdout.strip()}", done.returncode == code


def _commit_of(stage: Stage, version: str) -> str:
    return next(one.commit for one in stage.talk.client.releases() if one.version == version)


def _never_served(stage: Stage, version: str) -> None:
    seen = stage.traffic.figures(stage.begun).versions
    stage.expect(f"{version} serves nobody", ", ".join(seen), version not in seen)
