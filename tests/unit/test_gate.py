from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.gate import Gate, GateReport, Limits
from regrow.git import Repository
from regrow.testing.repositories import Checkout

BASE = {
    "src/app.py": "one\ntwo\nthree\n",
    "src/data.bin": b"\0\1\2",
    "src/old.py": "old\n",
    "docs/page.md": "page\n",
    ".gitignore": "*.log\n__pycache__/\n",
    "tests/test_app.py": "def test(): pass\n",
}
Edit = Callable[[Path], object]


class Bench:
    """A workspace of a base commit, and the gate's answer after an edit."""

    def __init__(self, repository: Repository, base: str, workspace: Path) -> None:
        self.repository, self.base, self.workspace = repository, base, workspace

    async def judge(self, edit: Edit, gate: Gate | None = None) -> GateReport:
        edit(self.workspace)
        return await (gate or Gate(["src/**"])).check(self.repository, self.base, self.workspace)


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    checkout = Checkout(tmp_path / "live")
    checkout.write(BASE)
    (checkout.path / "src" / "link").symlink_to("app.py")
    (checkout.path / "src" / "run.sh").write_text("#!/bin/sh\n")
    (checkout.path / "src" / "run.sh").chmod(0o755)
    base = checkout.commit("base")
    repository = await Repository.open(checkout.path)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    await repository.export(base, workspace)
    return Bench(repository, base, workspace)


def write(name: str, text: str | bytes) -> Edit:
    def edit(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    return edit


def both(*edits: Edit) -> Edit:
    def edit(root: Path) -> None:
        for one in edits:
            one(root)

    return edit


async def test_a_plain_fix_passes_with_its_figures(bench: Bench) -> None:
    report = await bench.judge(
        both(
            write("src/app.py", "one\n2\nthree\nfour\n"),
            write("src/new.py", "# 修复 👩‍💻\nnew\n"),
            lambda root: (root / "src/old.py").unlink(),
            write("src/__pycache__/app.pyc", b"\0"),
            write("src/debug.log", "log\n"),
        )
    )
    assert report.passed, report.refusals
    assert [(c.path, c.kind, c.added, c.removed) for c in report.changes] == [
        ("src/app.py", "modified", 2, 1),
        ("src/new.py", "added", 2, 0),
        ("src/old.py", "deleted", 0, 1),
    ]
    assert len(report.digest) == 64
    again = await Gate(["src/**"]).check(bench.repository, bench.base, bench.workspace)
    assert again == report
    (bench.workspace / "src/new.py").write_text("other\n")
    assert (await Gate(["src/**"]).check(bench.repository, bench.base, bench.workspace)).digest != report.digest


def chmod(name: str, mode: int) -> Edit:
    return lambda root: (root / name).chmod(mode)


BAD: list[tuple[str, Edit, str, str]] = [
    ("nothing", lambda root: None, "no_change", ""),
    ("only an ignored file", write("src/x.log", "x"), "no_change", ""),
    ("outside", write("docs/page.md", "other\n"), "outside", "docs/page.md"),
    ("a deletion outside", lambda root: (root / "docs/page.md").unlink(), "outside", "docs/page.md"),
    ("the root", write("evil.py", "x\n"), "outside", "evil.py"),
    ("settings", write("src/regrow.toml", "x\n"), "denied", "src/regrow.toml"),
    ("secrets", write("src/.env.local", "x\n"), "denied", "src/.env.local"),
    ("dependencies", write("src/package.json", "{}\n"), "denied", "src/package.json"),
    ("ci", write("src/.github/workflows/x.yml", "on: push\n"), "denied", "src/.github/workflows/x.yml"),
    ("a link", lambda root: (root / "src/l").symlink_to("/etc/passwd"), "symlink", "src/l"),
    ("a directory link", lambda root: (root / "src/d").symlink_to("../docs"), "symlink", "src/d"),
    (
        "a link turned elsewhere",
        lambda root: ((root / "src/link").unlink(), (root / "src/link").symlink_to("/etc/shadow")),
        "symlink",
        "src/link",
    ),
    ("a pipe", lambda root: os.mkfifo(root / "src/pipe"), "special_file", "src/pipe"),
    ("an executable", both(write("src/tool", "#!/bin/sh\n"), chmod("src/tool", 0o755)), "executable", "src/tool"),
    ("made executable", chmod("src/app.py", 0o755), "executable", "src/app.py"),
    ("set-user-id", chmod("src/run.sh", 0o4755), "special_mode", "src/run.sh"),
    ("nested git", write("src/.git/config", "[core]\n fsmonitor = evil\n"), "nested_repository", "src/.git"),
    ("nested git file", write("src/.git", "gitdir: /x\n"), "nested_repository", "src/.git"),
    ("git at the root", write(".git/HEAD", "x"), "nested_repository", ".git"),
    ("git in capitals", write("src/.GIT/HEAD", "x"), "nested_repository", "src/.GIT"),
    ("git with a dot", write("src/.git./HEAD", "x"), "nested_repository", "src/.git."),
    ("git with a space", write("src/.git /HEAD", "x"), "nested_repository", "src/.git "),
    ("git with a stream", write("src/.git::$INDEX_ALLOCATION/HEAD", "x"), "nested_repository", "*"),
    ("git by its short name", write("src/GIT~1/HEAD", "x"), "nested_repository", "src/GIT~1"),
    ("git with a hidden character", write("src/.g\u200cit/HEAD", "x"), "name", "*"),
    ("a line end in a name", write("src/a\nb.py", "x\n"), "name", "src/a?b.py"),
    ("a backslash in a name", write("src/..\\x.py", "x\n"), "name", "src/..\\x.py"),
    ("a direction mark in a name", write("src/a\u202eb.py", "x\n"), "name", "*"),
    ("bytes that are no text in a name", lambda root: (root / "src" / os.fsdecode(b"\xff")).mkdir(), "name", "*"),
    ("a case clash", write("src/APP.py", "x\n"), "case_clash", "src/APP.py"),
    ("a case clash of directories", write("SRC/x.py", "x\n"), "case_clash", "SRC/x.py"),
    ("binary", write("src/x.py", b"a\0b"), "binary", "src/x.py"),
    ("changed binary", write("src/data.bin", b"\0\1\3"), "binary", "src/data.bin"),
    ("no UTF-8", write("src/x.py", "é".encode("latin-1")), "binary", "src/x.py"),
    ("direction mark", write("src/app.py", "one\ntw\u202eo\nthree\n"), "invisible", "src/app.py"),
    ("isolate", write("src/x.py", "a\u2066b\n"), "invisible", "src/x.py"),
    ("zero width space", write("src/x.py", "a\u200bb\n"), "invisible", "src/x.py"),
    ("joiner in a name", write("src/x.js", "let a\u200d = 1\n"), "invisible", "src/x.js"),
    ("tag", write("src/x.py", "a\U000e0041b\n"), "invisible", "src/x.py"),
    ("escape", write("src/x.py", "a\x1b[2Jb\n"), "invisible", "src/x.py"),
    ("Hangul filler", write("src/x.js", "const \u3164 = 1\n"), "invisible", "src/x.js"),
    ("size", write("src/x.py", "x" * 2001), "file_too_large", "src/x.py"),
    ("grown", write("src/app.py", "x" * 2001), "file_too_large", "src/app.py"),
    ("lines", write("src/x.py", "x\n" * 51), "too_many_lines", ""),
    ("files", both(*(write(f"src/x{n}.py", "x\n") for n in range(6))), "too_many_changes", ""),
    ("total", both(*(write(f"src/x{n}.py", "x" * 1900) for n in range(4))), "too_many_bytes", ""),
    ("depth", write("src/" + "d/" * 12 + "x", "x"), "too_deep", "*"),
    ("entries", both(*(write(f"src/x{n}.log", "x\n") for n in range(100))), "too_many_files", ""),
]


@pytest.mark.parametrize(("edit", "rule", "path"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_a_bad_change_is_refused_by_its_rule(bench: Bench, edit: Edit, rule: str, path: str) -> None:
    limits = Limits(files=5, lines=50, file_bytes=2000, total_bytes=7000, tree_files=80, depth=10)
    report = await bench.judge(edit, Gate(["src/**", "SRC/**"], limits=limits))
    assert not report.passed
    found = {(refusal.rule, refusal.path) for refusal in report.refusals}
    assert any(known == rule and path in ("*", where) for known, where in found), found
    for refusal in report.refusals:
        assert refusal.text
        assert "\n" not in refusal.text


async def test_links_and_modes_of_the_base_are_left_in_peace(bench: Bench) -> None:
    report = await bench.judge(write("src/run.sh", "#!/bin/sh\ntrue\n"))
    assert report.passed, report.refusals
    assert (await bench.repository.entries(report.tree))["src/run.sh"].mode == "100755"


async def test_an_invisible_character_that_was_there_may_stay(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "live")
    base = checkout.commit("base", {"src/a.py": "\ufeffone\n"})
    repository = await Repository.open(checkout.path)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    await repository.export(base, workspace)
    bench = Bench(repository, base, workspace)
    assert (await bench.judge(write("src/a.py", "\ufefftwo\n"))).passed
    assert not (await bench.judge(write("src/a.py", "\ufefftwo\ufeff\n"))).passed


async def test_what_is_denied_stays_denied_where_all_is_allowed(bench: Bench) -> None:
    report = await bench.judge(both(write("Makefile", "all:\n"), write("docs/page.md", "x\n")), Gate(["**"]))
    assert [(refusal.rule, refusal.path) for refusal in report.refusals] == [("denied", "Makefile")]


async def test_nothing_is_allowed_by_no_pattern(bench: Bench) -> None:
    report = await bench.judge(write("src/app.py", "x\n"), Gate([]))
    assert [refusal.rule for refusal in report.refusals] == ["outside"]


async def test_a_content_check_of_the_caller_decides_too(bench: Bench) -> None:
    def no_todo(path: str, text: str) -> tuple[str, str] | None:
        return ("todo", "it says TODO") if "TODO" in text else None

    report = await bench.judge(write("src/app.py", "TODO\n"), Gate(["src/**"], content_checks=[no_todo]))
    assert [(refusal.rule, refusal.detail) for refusal in report.refusals] == [("todo", "it says TODO")]


async def test_nothing_of_the_tree_runs(bench: Bench, tmp_path: Path) -> None:
    """The attacks of agents.md section 5: each would leave a mark if git on the host obeyed the tree."""
    mark = tmp_path / "ran"
    settings = f'[core]\n\tfsmonitor = "touch {mark}"\n[filter "x"]\n\tclean = touch {mark}\n'
    for name in (".git/config", "src/.git/config"):
        write(name, settings)(bench.workspace)
    write("src/.git/HEAD", "ref: refs/heads/main\n")(bench.workspace)
    write(".gitattributes", "* filter=x diff=x\n")(bench.workspace)
    report = await bench.judge(lambda root: None, Gate(["**"]))
    assert {refusal.rule for refusal in report.refusals} == {"nested_repository"}
    assert report.tree == ""
    assert not mark.exists()


RISKY: list[tuple[str, Edit, str]] = [
    ("start-up code", write("src/conftest.py", "x\n"), "build_time"),
    ("start-up code in capitals", write("src/Conftest.PY", "x\n"), "build_time"),
    ("a path file", write("src/x.pth", "import os\n"), "build_time"),
    ("a build script", write("src/build.rs", "fn main(){}\n"), "build_time"),
    ("attributes", write("src/.gitattributes", "* filter=x\n"), "build_time"),
    ("an ignore file that hides itself", write("src/lib/.gitignore", "*\n"), "build_time"),
    ("a name of the standard library", write("src/json.py", "x = 1\n"), "shadows"),
    ("tests in code", write("src/new.py", "import sys\nslow = 'unittest' in sys.modules\n"), "knows_tests"),
    ("the caller in code", write("src/new.py", "import sys\nwho = sys._getframe(1)\n"), "knows_tests"),
    ("the end of the process", write("src/new.py", "import os\nos._exit(0)\n"), "ends_process"),
    ("text that is run", write("src/new.py", "exec(open('x').read())\n"), "runs_text"),
    ("a program", write("src/new.py", "import subprocess\n"), "reaches_out"),
    ("an error that is swallowed", write("src/new.py", "try:\n    x()\nexcept Exception:\n    pass\n"), "hides_errors"),
    ("two alphabets", write("src/new.py", "p\u0430yload = 1\n"), "look_alike"),
    ("a line that nobody reads", write("src/new.py", "x = '" + "a" * 600 + "'\n"), "long_line"),
]


@pytest.mark.parametrize(("edit", "rule"), [case[1:] for case in RISKY], ids=[case[0] for case in RISKY])
async def test_what_only_a_person_may_let_through(bench: Bench, edit: Edit, rule: str) -> None:
    report = await bench.judge(edit)
    assert report.passed, report.refusals
    assert rule in {risk.rule for risk in report.risks}


async def test_a_plain_fix_has_no_risk(bench: Bench) -> None:
    fix = "import json\n\n\ndef load(text):\n    # evaluates nothing\n    return json.loads(text or '{}')\n"
    assert (await bench.judge(write("src/app.py", fix))).risks == ()


async def test_signs_that_were_there_are_no_risk(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "live")
    text = "import subprocess\nsubprocess.run(['true'])\n"
    base = checkout.commit("base", {"src/app.py": text})
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "src").mkdir()
    (workspace / "src/app.py").write_text(text + "x = 1\n")
    report = await Gate(["src/**"]).check(await Repository.open(checkout.path), base, workspace)
    assert (report.passed, report.risks) == (True, ())


async def test_what_may_be_asked_for_is_asked_for(bench: Bench) -> None:
    gate = Gate(["src/**"], ask=["pyproject.toml", "docs/**"])
    report = await bench.judge(both(write("pyproject.toml", "[project]\n"), write("docs/page.md", "new\n")), gate)
    assert report.passed
    assert [(risk.rule, risk.path) for risk in report.risks] == [("asked", "docs/page.md"), ("asked", "pyproject.toml")]


async def test_tests_are_sealed_while_the_fix_is_made(bench: Bench) -> None:
    gate = Gate(["**"], ask=["tests/**"]).sealing(["tests/"])
    edit = both(write("tests/test_app.py", "x\n"), write("tests/new.py", "x\n"), write("src/app.py", "x\n"))
    report = await bench.judge(edit, gate)
    assert [(refusal.rule, refusal.path) for refusal in report.refusals] == [
        ("sealed", "tests/new.py"),
        ("sealed", "tests/test_app.py"),
    ]


async def test_only_the_test_may_be_written_first(bench: Bench) -> None:
    gate = Gate(["src/**"], ask=["docs/**"]).only(["tests/**"])
    edit = both(write("tests/test_new.py", "x\n"), write("src/app.py", "x\n"), write("docs/page.md", "x\n"))
    report = await bench.judge(edit, gate)
    assert {refusal.path for refusal in report.refusals} == {"src/app.py", "docs/page.md"}


async def test_what_the_settings_start_is_protected(bench: Bench) -> None:
    gate = Gate(["**"], scripts=["src/run.sh", "src/other.sh"])
    report = await bench.judge(both(write("src/run.sh", "evil\n"), write("src/other.sh", "new\n")), gate)
    assert [(refusal.rule, refusal.path) for refusal in report.refusals] == [("denied", "src/run.sh")]


async def test_only_new_lines_are_searched_for_secrets(tmp_path: Path) -> None:
    """A value that stood in the file before is no reason to refuse a change of another line."""
    checkout = Checkout(tmp_path / "live")
    base = checkout.commit("base", {"src/app.py": "canary = 1\nx = 1\n"})
    workspace = tmp_path / "workspace"
    (workspace / "src").mkdir(parents=True)
    gate = Gate(["src/**"], content_checks=[lambda _, text: ("secret", "found") if "canary" in text else None])
    repository = await Repository.open(checkout.path)
    for text, refused in (("canary = 1\nx = 2\n", False), ("canary = 1\nx = 1\ny = 'canary'\n", True)):
        (workspace / "src/app.py").write_text(text)
        report = await gate.check(repository, base, workspace)
        assert [refusal.rule for refusal in report.refusals] == (["secret"] if refused else [])
    (workspace / "src/app.py").write_text("canary = 1\nx = 2\n")
    (workspace / "src/canary.py").write_text("x = 1\n")
    assert [one.rule for one in (await gate.check(repository, base, workspace)).refusals] == ["secret"]
