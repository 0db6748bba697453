from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest

from regrow.git import Repository
from regrow.redact import Redactor
from regrow.sandboxes import masks
from regrow.sandboxes.masks import INDEX, secret_files, shown_git
from regrow.testing.repositories import Checkout


def test_secrets_are_found_at_any_depth_in_any_case_and_behind_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    secret = [
        ".env",
        "a/b/.env.local",
        "config/.ENV",
        "certs/Server.PEM",
        "id_rsa",
        ".npmrc",
        "regrow.toml",
        "x/target",
    ]
    plain = ["src/app.py", "environment.py", "a/keys.py", "env", "monkey"]
    for name in (*secret, *plain):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "outside").write_text("x")
    (tree / "a/.env.link").symlink_to("../x/target")
    (tree / "a/.env.out").symlink_to(tmp_path / "outside")
    (tree / "a/.env.gone").symlink_to("absent")
    (tree / "a/.env.d").mkdir()
    assert set(secret_files(tree)) == {tree / name for name in secret}


def test_what_is_masked_may_change_and_is_looked_for_again(tmp_path: Path) -> None:
    assert secret_files(tmp_path) == ()
    (tmp_path / "late").mkdir()
    (tmp_path / "late/.env").write_text("x")
    assert secret_files(tmp_path) == (tmp_path / "late/.env",)


class Desk:
    """A repository, and what an agent would be shown of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkout = Checkout(root / "live")

    async def shown(self, *values: str) -> Path:
        """What is made for the tip of main."""
        repository = await Repository.open(self.checkout.path)
        commit = await repository.resolve("main")
        tree = self.root / "tree"
        tree.mkdir()
        await repository.export(commit, tree)
        for path in secret_files(tree):  # as the box shows them
            path.write_text("")
        return await shown_git(repository, commit, tree, values, self.root / "shown")

    def git(self, *words: str) -> str:
        """git as it runs in the box."""
        shown = self.root / "shown"
        env = {"GIT_DIR": str(shown), "GIT_WORK_TREE": str(self.root / "tree"), "GIT_INDEX_FILE": str(shown / INDEX)}
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", *words],
            env={**env, "PATH": os.environ["PATH"], "GIT_OPTIONAL_LOCKS": "0", "HOME": "/nonexistent"},
            cwd=self.root / "tree",
            capture_output=True,
            check=True,
        )
        return done.stdout.decode(errors="replace")

    def everything(self) -> str:
        """All that is in it."""
        return self.git("cat-file", "--batch-all-objects", "--batch")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize(
    ("names", "history"),
    [
        (("src/app.py", ".env.example", "a/.env.SAMPLE", "regrow.toml", "environment"), True),
        ((".env",), False),
        (("deep/er/.Env.production",), False),
        (("certs/server.key",), False),
    ],
)
async def test_the_past_is_shown_unless_a_secret_file_was_ever_committed(
    desk: Desk, names: tuple[str, ...], history: bool
) -> None:
    desk.checkout.commit("one", dict.fromkeys(names, "canary in a file\n"))
    desk.checkout.commit("two", {**dict.fromkeys(names), "other": "x\n"})  # gone from the tree, and not from git
    await desk.shown()
    assert len(desk.git("log", "--oneline").splitlines()) == (2 if history else 1)
    assert ("canary in a file" in desk.everything()) is history
    assert desk.git("status", "--porcelain") == ""
    (desk.root / "tree/other").write_text("y\n")
    assert "-x\n+y\n" in desk.git("diff")
    assert desk.git("fsck", "--strict", "--no-dangling") == ""


async def test_a_known_value_anywhere_in_the_past_hides_the_past(desk: Desk) -> None:
    """In a file with an innocent name, in a message, and in a form that programs write."""
    canary = f"v4lue/{secrets.token_hex(12)}"
    desk.checkout.commit("one", {"src/app.py": f"KEY = {canary!r}\n", "kept.txt": "kept\n"})
    desk.checkout.commit("two", {"src/app.py": "KEY = read()\n"})
    desk.checkout.commit(f"three, without {canary}", {"other": "x\n"})
    forms = Redactor([canary]).forms
    assert any("%2F" in form for form in forms)
    await desk.shown(*forms)
    assert canary not in desk.everything()
    assert desk.git("log", "--format=%s %an %at").strip() == "The code as it serves Regrow 0"
    assert desk.git("show", "HEAD:kept.txt") == "kept\n"
    assert desk.git("status", "--porcelain") == ""


async def test_a_secret_file_that_is_still_there_is_empty_in_git_as_it_is_in_the_box(desk: Desk) -> None:
    canary = secrets.token_hex(12)
    files = {".env": f"A={canary}\n", "config/Key.PEM": canary, "src/app.py": "x\n", "run.sh": "echo\n"}
    desk.checkout.commit("one", files)
    (desk.checkout.path / "run.sh").chmod(0o755)
    (desk.checkout.path / "src/.env.link").symlink_to("../.env")
    desk.checkout.git("add", "--all")
    desk.checkout.git("commit", "--quiet", "--message", "two")
    await desk.shown()
    assert canary not in desk.everything()
    assert desk.git("status", "--porcelain") == "", "it looks changed to the agent"
    assert desk.git("show", "HEAD:.env") == ""


async def test_nothing_is_shown_that_the_commit_does_not_lead_to(desk: Desk) -> None:
    """Neither other branches, nor tags, nor what was taken back, nor the settings."""
    canary = secrets.token_hex(12)
    first = desk.checkout.commit("one", {"a": "a\n"})
    desk.checkout.commit("taken back", {"notes": canary})
    desk.checkout.git("reset", "--quiet", "--hard", first)
    desk.checkout.git("checkout", "--quiet", "-b", "other")
    desk.checkout.commit("elsewhere", {".env": canary})
    desk.checkout.git("tag", "v1")
    desk.checkout.git("checkout", "--quiet", "main")
    desk.checkout.git("config", "remote.origin.url", f"https://ada:{canary}@example.org/x.git")
    desk.checkout.commit("two", {"b": "b\n"})
    shown = await desk.shown()
    assert len(desk.git("log", "--all", "--oneline").splitlines()) == 2
    assert canary not in desk.everything()
    grep = subprocess.run(["grep", "-r", canary, str(shown)], capture_output=True, check=False)
    assert grep.returncode == 1, grep.stdout


async def test_a_long_history_is_cut_and_a_shallow_one_is_copied(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_COMMITS", 3)
    for number in range(6):
        desk.checkout.commit(f"number {number}", {"a": f"{number}\n"})
    desk.checkout.git("clone", "--quiet", "--bare", "--depth=2", f"file://{desk.checkout.path}", f"{desk.root}/cut")
    await desk.shown()
    assert desk.git("log", "--format=%s").split("\n")[:3] == ["number 5", "number 4", "number 3"]
    assert desk.git("fsck", "--strict", "--no-dangling") == ""
    repository = await Repository.open(desk.root / "cut")
    commit = await repository.resolve("main")
    await shown_git(repository, commit, desk.root / "tree", (), desk.root / "again")
    listed = subprocess.run(
        ["git", f"--git-dir={desk.root}/again", "log", "--format=%s"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split("\n")[:2] == ["number 5", "number 4"]


async def test_what_was_made_is_taken_again(desk: Desk) -> None:
    desk.checkout.commit("one", {"a": "a\n"})
    shown = await desk.shown()
    (shown / "mark").touch()
    repository = await Repository.open(desk.checkout.path)
    again = await shown_git(repository, await repository.resolve("main"), desk.root / "tree", (), shown)
    assert (again / "mark").exists()
    assert not list(desk.root.glob(".building-*"))
