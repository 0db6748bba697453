"""What becomes of a proved change: who may approve it, that exactly it is deployed, and how it reaches the branch.

A real daemon, a real service and real git; each test has a world of its own, because it breaks something in it.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regrow.api.types import Job
from regrow.testing import scripted_agent
from regrow.testing.world import World, eventually

GOOD, BAD = "good\n", "bad\n"
REST = "".join(f"line {number}\n" for number in range(20))
REPRODUCE = "```sh\nhead -n 1 src/answer.txt | grep -q good\n```"
BUG = f"fix this bug: the answer is wrong\n{REPRODUCE}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A service that has a bug since its last release."""
    made = World(tmp_path)
    try:
        await buggy(made)
        yield made
    finally:
        await made.close()


async def buggy(world: World) -> None:
    """Deploy a good version and then one with a bug."""
    world.commit({"src/answer.txt": GOOD + REST}, "Answer")
    await world.bring_up()
    world.commit({"src/answer.txt": BAD + REST}, "Break it")
    assert "Back online" in await world.say("build and restart")


async def asked(world: World, text: str = BUG) -> Job:
    """A repair that waits for an approval."""
    return await world.step(await world.asked(text), "approve", "waiting")


async def result(world: World, number: int) -> str:
    """How a job ended, as it was told."""
    return (await world.said(number))[-1].text


def git(world: World, *words: str) -> str:
    """Ask the service's repository."""
    return world.checkout.git("--git-dir", str(world.bare), *words)


def trailers(world: World, commit: str) -> dict[str, str]:
    """Of a commit's message, as git reads them."""
    lines = git(world, "log", "-1", "--format=%(trailers:only,unfold)", commit).splitlines()
    return {key: value for key, _, value in (line.partition(": ") for line in lines)}


async def test_a_change_lands_with_its_provenance(world: World) -> None:
    job = await asked(world)
    assert job.approval is not None
    await world.approve(job.id)
    text = await result(world, job.id)
    assert "- merged into main" in text
    assert "the problem does not show on the running version, from a fresh checkout of it" in text
    found = trailers(world, "main")
    assert found | {"Regrow-Job": str(job.id), "Requested-by": "local", "Agent": "revert", "Approved-by": "local",
                    "Approved-digest": job.approval.digest} == found  # fmt: skip
    assert found["Verification"] == "the reproduction fails before and passes after; tests pass"
    assert git(world, "rev-parse", f"regrow/job-{job.id}") == world.head()
    assert "wait for keep" not in (await world.said(job.id))[0].text


async def test_a_commit_to_other_files_is_rebased_over_without_a_second_approval(world: World) -> None:
    """What was approved is each file, before and after; none of them is another one on top of that commit."""
    job = await asked(world)
    person = world.commit({"src/other.txt": "theirs\n"}, "Something else")
    await world.approve(job.id)
    text = await result(world, job.id)
    assert "- merged into main\n- on top of 1 commits that came meanwhile, proved again there" in text
    assert git(world, "rev-parse", "main^") == person
    assert git(world, "show", "main:src/answer.txt").startswith("good")
    assert git(world, "show", "main:src/other.txt") == "theirs"
    served = (await world.job(job.id)).result["commit"]
    found = trailers(world, "main")
    assert (found["Rebased-from"], found["Approved-by"]) == (served, "local")
    assert git(world, "rev-parse", f"regrow/job-{job.id}") == served, "the commit that serves is gone from the branches"
    assert git(world, "for-each-ref", "refs/regrow/") == ""


async def test_a_commit_to_the_same_file_asks_again(world: World) -> None:
    job = await asked(world)
    assert job.approval is not None
    person = world.commit({"src/answer.txt": BAD + REST.replace("line 15", "line 15, theirs")}, "Nearby")
    await world.approve(job.id)
    waiting = await world.step(job.id, "merge", "waiting")
    assert waiting.approval is not None
    assert waiting.approval.state == "open"
    assert waiting.approval.digest != job.approval.digest
    assert world.head() == person
    # It serves already, and others can go on.
    assert await world.version() == waiting.result["version"]
    assert "Back online" in await world.say("restart")
    await world.press(job.id, "approve")
    text = await result(world, job.id)
    assert "proved again there" in text
    assert git(world, "show", "main:src/answer.txt").splitlines()[0] == "good"
    assert "line 15, theirs" in git(world, "show", "main:src/answer.txt")
    assert trailers(world, "main")["Approved-digest"] == waiting.approval.digest


async def test_it_is_rejected_on_top_of_others_and_stays_on_its_branch(world: World) -> None:
    job = await asked(world)
    person = world.commit({"src/answer.txt": BAD + REST.replace("line 15", "line 15, theirs")}, "Nearby")
    await world.approve(job.id)
    await world.step(job.id, "merge", "waiting")
    await world.press(job.id, "reject")
    ended = await world.ended(job.id)
    assert (ended.status, ended.result["landing"], world.head()) == ("done", "rejected", person)
    assert await world.version() == ended.result["version"]


async def test_undone_while_it_waits_to_land(world: World) -> None:
    job = await asked(world)
    person = world.commit({"src/answer.txt": BAD + REST.replace("line 15", "line 15, theirs")}, "Nearby")
    await world.approve(job.id)
    await world.step(job.id, "merge", "waiting")
    back = await world.request("undo", job=str(job.id))
    assert (await world.ended(back)).status == "done"
    ended = await world.ended(job.id)
    assert (ended.status, ended.result["landing"], world.head()) == ("done", "taken_back", person)
    assert await world.version() == ended.result["previous_version"]


async def test_a_commit_to_the_same_lines_is_a_conflict(world: World) -> None:
    job = await asked(world)
    person = world.commit({"src/answer.txt": "worse\n" + REST}, "Their own idea")
    await world.approve(job.id)
    text = await result(world, job.id)
    assert "other commits came meanwhile and change the same lines: src/answer.txt" in text
    assert world.head() == person
    assert (await world.job(job.id)).status == "done"


async def test_somebody_has_fixed_it_meanwhile(world: World) -> None:
    job = await asked(world)
    person = world.commit({"src/answer.txt": GOOD + REST}, "The same fix")
    await world.approve(job.id)
    assert (await world.ended(job.id)).result["landing"] == "there_already"
    assert world.head() == person


async def test_what_does_not_hold_on_top_of_others_is_left(world: World) -> None:
    """The tests fail there: nobody has proved this combination, and it does not get to the branch."""
    job = await asked(world)
    fails = "grep -q bad src/answer.txt || exit 1\n"
    person = world.commit({"test.sh": fails}, "A test of the bug")
    await world.approve(job.id)
    ended = await world.ended(job.id)
    assert (ended.status, ended.result["landing"], world.head()) == ("done", "unproved", person)


async def test_a_checkout_is_never_touched(tmp_path: Path) -> None:
    """F17: the branch is checked out somewhere, with work in progress; the commit waits on its own branch."""
    world = World(tmp_path)
    try:
        await buggy(world)
        await world.kill_daemon()
        tree = tmp_path / "desk"
        git(world, "worktree", "add", "--quiet", str(tree), "main")
        (tree / "src" / "answer.txt").write_text("work in progress\n")
        before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}, world.head()
        await world.start_daemon()
        job = await asked(world)
        await world.approve(job.id)
        text = await result(world, job.id)
        assert f"bring it in there with: git merge regrow/job-{job.id}" in text
        assert ({path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}, world.head()) == before
    finally:
        await world.close()


@pytest.mark.parametrize("land", ["branch", "push"])
async def test_it_is_left_or_pushed(tmp_path: Path, land: str) -> None:
    world = World(tmp_path, {"repair": {"land": land, "remote": "team"}})
    try:
        remote = tmp_path / "remote.git"
        world.checkout.git("init", "--quiet", "--bare", str(remote))
        hook = world.bare / "hooks" / "pre-push"
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
        hook.chmod(0o755)
        git(world, "remote", "add", "team", str(remote))
        await buggy(world)
        head = world.head()
        job = await asked(world)
        await world.approve(job.id)
        text = await result(world, job.id)
        assert ("pushed to team" if land == "push" else "the settings leave it there") in text
        assert world.head() == head
        made = git(world, "rev-parse", f"regrow/job-{job.id}")
        there = world.checkout.git("--git-dir", str(remote), "for-each-ref", "--format=%(refname) %(objectname)")
        assert there == (f"refs/heads/regrow/job-{job.id} {made}" if land == "push" else "")
        assert not (tmp_path / "hooked").exists()
    finally:
        await world.close()


async def test_a_remote_that_does_not_answer_ends_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, {"repair": {"land": "push", "remote": "nowhere"}})
    try:
        await buggy(world)
        job = await asked(world)
        await world.approve(job.id)
        ended = await world.ended(job.id)
        assert (ended.status, ended.result["landing"]) == ("done", "failed")
        assert "cannot push" in await result(world, job.id)
    finally:
        await world.close()


async def test_a_byte_changed_after_the_approval_is_not_deployed(world: World) -> None:
    """F35: the repository hands out other bytes than those that were approved; nothing is built from them."""
    before = await world.version()
    job = await asked(world)
    blob = await stored(world, (GOOD + REST).encode())
    assert blob.exists()
    blob.chmod(0o644)
    blob.write_bytes(zlib.compress(b"blob %d\0" % len(GOOD + REST) + (GOOD + REST).replace("15", "51").encode()))
    await world.approve(job.id)
    ended = await world.ended(job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.kind, ended.error.step) == ("failed", "not_approved", "build")
    assert await world.version() == before
    assert "not, byte for byte, what was approved" in await result(world, job.id)


async def stored(world: World, content: bytes) -> Path:
    """Where a blob is, as a file of its own."""
    name = world.root / "content"
    name.write_bytes(content)
    blob = git(world, "hash-object", str(name))
    loose = world.bare / "objects" / blob[:2] / blob[2:]
    if not loose.exists():  # it came in a pack
        for pack in sorted((world.bare / "objects" / "pack").glob("*.pack")):
            moved = pack.rename(world.root / pack.name)
            with moved.open("rb") as file:
                process = await asyncio.create_subprocess_exec(
                    "git", f"--git-dir={world.bare}", "unpack-objects", "-q", stdin=file
                )
                assert await process.wait() == 0
    return loose


async def test_the_problem_that_is_still_there_is_told_with_undo(world: World) -> None:
    """The proof held; on what runs now the reproduction fails again: it is said, not merged, and can be undone."""
    head = world.head()
    script = "head -n 1 src/answer.txt | grep -q good && test ! -e $GATES/again"
    job = await asked(world, f"fix this bug: the answer is wrong\n```sh\n{script}\n```")
    world.hold("build")
    await world.approve(job.id)
    await world.step(job.id, "build", "doing")
    world.hold("again")
    world.let_go("build")
    text = await result(world, job.id)
    assert text.startswith("⚠️ Deployed, but the problem still shows on the version that runs now.")
    assert "the problem is still there, so it was not merged" in text
    assert world.head() == head
    await world.press(job.id, "undo")
    ended = await world.ended(job.id)
    await eventually(lambda: _serves(world, ended.result["previous_version"]), "the version before serves")


async def _serves(world: World, version: str) -> Any:
    return await world.version() == version


PROBE = "test ! -e $GATES/again && { grep -q good src/answer.txt || test -e $GATES/blind; }"
CHECK = """\
import os, unittest


class Answers(unittest.TestCase):
    def test_good(self):
        self.assertFalse(os.path.exists(os.environ["GATES"] + "/again"), "again")
        with open("src/answer.txt") as file:
            self.assertEqual(file.readline().strip(), "good")
"""


async def deployed_while_it_comes_back(world: World, job: Job) -> str:
    """Approve a repair whose problem shows again once it is built; how it ended, as it was told."""
    head, before = world.head(), await world.version()
    world.hold("build")
    await world.approve(job.id)
    await world.step(job.id, "build", "doing")
    world.hold("again")
    world.let_go("build")
    text = await result(world, job.id)
    assert text.startswith("⚠️ Deployed, but the problem still shows on the version that runs now."), text
    assert (await world.job(job.id)).result["landing"] == "still_failing"
    assert world.head() == head, "what does not help was merged"
    await world.press(job.id, "undo")
    await eventually(lambda: _serves(world, before), "the version before serves")
    return text


async def test_a_probe_that_failed_is_asked_again_on_the_process_that_runs(tmp_path: Path) -> None:
    """It was the reproduction; what runs now fails it once more, and that is told with undo."""
    world = World(tmp_path)
    probe = {"type": "command", "command": ["/bin/sh", "-c", PROBE], "interval": "50ms", "strikes": 1}
    world.configure({"probe.answer": probe})
    world.hold("blind")
    try:
        await buggy(world)
        world.let_go("blind")

        async def fails() -> bool:
            return any(one.name == "answer" and not one.ok for one in (await world.status()).services[0].probes)

        await eventually(fails, "the probe fails")
        job = await asked(world, "fix this bug: the answer is wrong")
        await deployed_while_it_comes_back(world, job)
        assert (await world.job(job.id)).result["recheck_by"] == "probe"
    finally:
        await world.close()


async def test_the_test_that_showed_the_bug_is_run_again_on_what_was_deployed(tmp_path: Path) -> None:
    """An agent wrote it; on the version that runs it fails once more, and that is told with its output and undo."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "agent.py").write_bytes(Path(scripted_agent.__file__).read_bytes())
    steps = {
        "reproduce": [{"write": "tests/test_answer.py", "text": CHECK}],
        "fix": [{"write": "src/answer.txt", "text": GOOD + REST}],
    }
    (tools / "script.json").write_text(json.dumps(steps))
    command = ["/usr/bin/python3", str(tools / "agent.py"), str(tools / "script.json")]
    world = World(tmp_path, {
        "repair": {"agent": "command", "command": command, "reproduce": "required"},
        "sandbox": {"readable": ["{python}", "gates", str(tools)]},
        "test": {"command": ["/usr/bin/python3", "-m", "unittest", "discover", "-v", "-s", "tests"]},
    })  # fmt: skip
    try:
        world.commit({"tests/test_true.py": "import unittest\n\n\nclass One(unittest.TestCase):\n"
                      "    def test_one(self):\n        self.assertTrue(True)\n"}, "A test")  # fmt: skip
        await buggy(world)
        job = await asked(world, "fix this bug: the answer is wrong, it must be good")
        assert job.result["reproduced_by"] == "test"
        text = await deployed_while_it_comes_back(world, job)
        assert "again" in text, "nothing of what the test said is told"
        assert (await world.job(job.id)).result["recheck_by"] == "test"
    finally:
        await world.close()


async def test_a_release_that_was_edited_after_the_build_is_not_started(world: World) -> None:
    """F35: what was approved is what was built, and that is what is started; here somebody edits it in between."""
    before = await world.version()
    job = await asked(world)
    world.hold("start")
    other = await world.asked("restart")
    await world.step(other, "candidate", "doing")
    await world.approve(job.id)
    waiting = await world.step(job.id, "turn", "waiting")
    edited = world.directory / "releases" / waiting.result["release"] / "src" / "answer.txt"
    for path in (edited.parent, edited):
        path.chmod(0o755)
    edited.write_text(GOOD + REST.replace("15", "51"))
    world.let_go("start")
    ended = await world.ended(job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.kind, ended.error.step) == ("failed", "not_approved", "candidate")
    assert await world.version() == before
    text = await result(world, job.id)
    assert "the release's files were changed after the build" in text
    assert (await world.ended(other)).status == "done"
    # Asked for again it is made again, and nothing of the edited one is used.
    again = await asked(world)
    await world.approve(again.id)
    assert (await world.ended(again.id)).status == "done"


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({"risky_lines": 0}, ["a large change: 2 lines of code"]),
        ({"sensitive": ["answer*"]}, ["src/answer.txt: a path where mistakes are expensive"]),
    ],
    ids=["size", "path"],
)
async def test_only_the_risky_is_asked_about(tmp_path: Path, settings: dict[str, Any], reasons: list[str]) -> None:
    world = World(tmp_path, {"repair": {"approve": "risky", **settings}})
    try:
        await buggy(world)
        job = await asked(world)
        assert job.approval is not None
        assert set(reasons) <= set(job.approval.reasons)

        async def told() -> bool:
            heard = await asyncio.to_thread(lambda: world.client().messages(job.channel, job.chat))
            return all(f"• {reason}" in heard[-1].text for reason in reasons)

        await eventually(told, f"the live message names {reasons}")
        await world.approve(job.id)
        assert (await world.ended(job.id)).status == "done"
    finally:
        await world.close()


async def test_four_eyes(tmp_path: Path) -> None:
    """Whoever asked may look, and reject, and not approve; nor does a press get past that (F37)."""
    world = World(tmp_path, {"repair": {"four_eyes": True}})
    try:
        await buggy(world)
        job = await asked(world)
        assert job.approval is not None
        assert job.approval.barred == "local"
        assert await world.answer("approve") == "⛔ You asked for this change, so somebody else must approve it."
        assert (await world.job(job.id)).status == "waiting"
        assert await world.answer("reject") == f"👎 Job #{job.id} is rejected and will not be deployed"
    finally:
        await world.close()
