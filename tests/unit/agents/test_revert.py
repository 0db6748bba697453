from __future__ import annotations

from pathlib import Path

import pytest

from regrow.agents import agent
from regrow.agents.base import Event, Outcome, Span, Task
from regrow.gate import Gate
from regrow.git import Repository
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspace, Workspaces

# A "program" whose lines are far enough apart to be merged one by one.
GOOD = {f"src/part{n}.sh": f"echo part {n}\n" for n in range(10)}
REPRODUCTION = "for part in src/part*.sh; do sh $part; done | grep -q 'part 3'"


class Bench:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.live = Checkout(root / "live")
        self.good = self.live.commit("good", GOOD)
        self.events: list[Event] = []
        self.repository: Repository
        self.workspace: Workspace

    async def repair(self, *spans: tuple[str, str], reproduction: str = REPRODUCTION, timeout_s: float = 60) -> Outcome:
        self.repository = await Repository.open(self.live.path)
        workspaces = Workspaces(self.root / "workspaces", self.repository)
        self.workspace = await workspaces.make(1, "main")
        task = Task(
            bug="part 3 is gone",
            workspace=self.workspace.path,
            git_directory=self.live.git_dir,
            allowed=["src/**"],
            reproduction=reproduction,
            spans=[Span(*span) for span in spans],
            timeout_s=timeout_s,
        )
        made = agent("revert", {"repository": self.repository, "workspaces": workspaces})
        return await made.repair(task, BubblewrapSandbox(), self.events.append)

    def told(self, prefix: str) -> list[str]:
        return [event.text for event in self.events if event.text.startswith(prefix)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_the_culprit_among_many_is_taken_back(bench: Bench) -> None:
    ids = []
    for n in range(9):
        files: dict[str, str | bytes | None] = {f"src/part{n}.sh": f"echo part {n} again\n"}
        if n == 4:
            files = {"src/part3.sh": "echo gone\n", "src/added.sh": "echo added\n", "src/part9.sh": None}
        ids.append(bench.live.commit(f"change {n}", files))
    outcome = await bench.repair((bench.good, ids[-1]))
    assert (outcome.changed, outcome.reason) == (True, ""), outcome
    assert (outcome.culprit, outcome.culprit_subject) == (ids[4], "change 4")
    path = bench.workspace.path
    assert (path / "src/part3.sh").read_text() == "echo part 3 again\n"
    assert (path / "src/part9.sh").exists()
    assert not (path / "src/added.sh").exists()
    assert (path / "src/part8.sh").read_text() == "echo part 8 again\n"
    report = await Gate(["src/**"]).check(bench.repository, bench.workspace.commit, path)
    assert report.passed, report.refusals
    merged = await bench.repository.revert_tree(ids[-1], ids[4])
    assert report.tree == merged.tree
    assert len(bench.told("testing commit")) <= 4
    assert bench.events[0].text == f"reproducing on {ids[-1][:7]}"
    assert "(" + ids[4][:7] + " change 4)" in " ".join(bench.told("testing commit"))
    assert list((path.parent / "fresh").iterdir()) == []


async def test_a_single_change_is_the_culprit(bench: Bench) -> None:
    bad = bench.live.commit("bug", {"src/part3.sh": "echo gone\n"})
    outcome = await bench.repair((bench.good, bad))
    assert outcome.culprit == bad
    assert bench.told("testing commit") == []


async def test_what_passes_is_not_reproduced(bench: Bench) -> None:
    last = bench.live.commit("fine", {"src/part1.sh": "echo other\n"})
    outcome = await bench.repair((bench.good, last))
    assert (outcome.changed, outcome.reason) == (False, "not_reproduced")


@pytest.mark.parametrize("script", ["", "  ", "absent-program", "exit 125", "exit 126"])
async def test_a_script_that_cannot_test_finds_nothing(bench: Bench, script: str) -> None:
    bad = bench.live.commit("bug", {"src/part3.sh": "echo gone\n"})
    outcome = await bench.repair((bench.good, bad), reproduction=script)
    assert (outcome.changed, outcome.reason) == (False, "no_reproduction")


async def test_a_bug_that_was_always_there_has_no_culprit(bench: Bench) -> None:
    bad = bench.live.commit("change", {"src/part1.sh": "echo other\n"})
    outcome = await bench.repair((bench.good, bad), reproduction="false")
    assert (outcome.changed, outcome.reason) == (False, "no_culprit")
    assert (await bench.repair(reproduction="false")).reason == "no_culprit"


async def test_a_further_span_is_searched_when_the_nearest_was_bad_already(bench: Bench) -> None:
    culprit = bench.live.commit("bug", {"src/part3.sh": "echo gone\n"})
    middle = bench.live.commit("middle", {"src/part1.sh": "echo other\n"})
    last = bench.live.commit("last", {"src/part2.sh": "echo other\n"})
    outcome = await bench.repair((middle, last), (bench.good, last))
    assert outcome.culprit == culprit
    assert len(bench.told(f"reproducing on {last[:7]}")) == 2


async def test_later_work_on_the_same_lines_is_a_conflict(bench: Bench) -> None:
    culprit = bench.live.commit("bug", {"src/part3.sh": "echo gone\n"})
    last = bench.live.commit("more", {"src/part3.sh": "echo gone for good\n"})
    before = {p: p.read_bytes() for p in bench.live.path.rglob("*") if p.is_file()}
    outcome = await bench.repair((bench.good, last))
    assert (outcome.changed, outcome.reason, outcome.culprit) == (False, "conflict", culprit)
    assert (bench.workspace.path / "src/part3.sh").read_text() == "echo gone for good\n"
    after = {p: p.read_bytes() for p in bench.live.path.rglob("*") if p.is_file() and ".git/objects" not in str(p)}
    assert after == {p: c for p, c in before.items() if ".git/objects" not in str(p)}


@pytest.mark.parametrize("bug_at", [6, 4], ids=["after them", "among them"])
async def test_commits_that_cannot_be_tested_are_gone_around(bench: Bench, bug_at: int) -> None:
    ids = []
    for n in range(8):
        files: dict[str, str | bytes | None] = {f"src/other{n}": "x\n"}
        if n in (3, 5):  # from 3 on nothing can be tested, until 5
            files["src/broken"] = "x\n" if n == 3 else None
        if n == bug_at:
            files["src/part3.sh"] = "echo gone\n"
        ids.append(bench.live.commit(f"change {n}", files))
    script = "[ ! -e src/broken ] || exit 125; " + REPRODUCTION
    outcome = await bench.repair((bench.good, ids[-1]), reproduction=script)
    assert outcome.changed, outcome
    assert outcome.culprit == ids[bug_at]


async def test_the_line_of_first_parents_is_searched(bench: Bench) -> None:
    git = bench.live.git
    bench.live.commit("on main", {"src/part1.sh": "echo other\n"})
    git("checkout", "--quiet", "-b", "side", bench.good)
    bench.live.commit("bug on a side", {"src/part3.sh": "echo gone\n"})
    bench.live.commit("more on a side", {"src/part4.sh": "echo other\n"})
    git("checkout", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "-m", "merge side", "side")
    merge = git("rev-parse", "HEAD")
    last = bench.live.commit("after", {"src/part5.sh": "echo other\n"})
    outcome = await bench.repair((bench.good, last))
    assert (outcome.changed, outcome.culprit, outcome.culprit_subject) == (True, merge, "merge side")
    assert (bench.workspace.path / "src/part4.sh").read_text() == GOOD["src/part4.sh"]
    assert (bench.workspace.path / "src/part5.sh").read_text() == "echo other\n"


async def test_a_search_over_its_time_ends(bench: Bench) -> None:
    bad = bench.live.commit("bug", {"src/part3.sh": "echo gone\n"})
    outcome = await bench.repair((bench.good, bad), reproduction="sleep 1000", timeout_s=2)
    assert (outcome.changed, outcome.reason) == (False, "timeout")
