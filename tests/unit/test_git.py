from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from regrow.errors import NotFound, Refused
from regrow.git import Repository
from regrow.testing.repositories import Checkout

ADA = ("Ada", "ada@example.org")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "live")


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a checkout with mode and digest; the object store only grows."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith((".git/objects", ".git/refs/heads/regrow", ".git/logs/refs/heads/regrow")):
            continue
        if path.is_symlink():
            found[name] = (0, str(path.readlink()).encode())
        elif path.is_file():
            found[name] = (path.stat().st_mode, hashlib.sha256(path.read_bytes()).digest())
    return found


async def test_a_directory_without_a_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(Refused, match="cannot use") as caught:
        await Repository.open(tmp_path / "plain")
    assert caught.value.kind == "no_repository"
    with pytest.raises(Refused) as caught:
        await Repository.open(tmp_path / "absent")
    assert caught.value.kind == "no_repository"


async def test_a_subdirectory_of_a_checkout_is_no_repository(checkout: Checkout) -> None:
    checkout.commit("one", {"src/a.py": "a\n"})
    with pytest.raises(Refused) as caught:
        await Repository.open(checkout.path / "src")
    assert caught.value.kind == "no_repository"


async def test_a_repository_without_a_commit_is_refused(checkout: Checkout) -> None:
    with pytest.raises(Refused, match="commit the service") as caught:
        await Repository.open(checkout.path)
    assert caught.value.kind == "no_commits"


async def test_checkout_bare_and_linked_worktree_open(checkout: Checkout, tmp_path: Path) -> None:
    one = checkout.commit("one", {"a": "a\n"})
    checkout.git("clone", "--quiet", "--bare", str(checkout.path), str(tmp_path / "bare.git"))
    checkout.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "linked"))
    for path in (checkout.path, tmp_path / "bare.git", tmp_path / "linked"):
        repository = await Repository.open(path)
        assert await repository.resolve("HEAD") == one
        assert set(await repository.entries(one)) == {"a"}
    assert await (await Repository.open(tmp_path / "linked")).branch() == "side"


async def test_refs_and_history(checkout: Checkout) -> None:
    ids = [checkout.commit(f"change {n}", {"a": f"{n}\n"}) for n in range(4)]
    repository = await Repository.open(checkout.path)
    assert await repository.resolve("main") == ids[3]
    assert await repository.resolve(ids[1][:10]) == ids[1]
    assert await repository.branch_head("main") == ids[3]
    assert await repository.branch_head("absent") is None
    assert await repository.branch() == "main"
    assert await repository.is_ancestor(ids[0], ids[3])
    assert not await repository.is_ancestor(ids[3], ids[0])
    assert await repository.subject(ids[2]) == "change 2"
    assert ids[2].startswith(await repository.short(ids[2]))
    between = await repository.commits_between(ids[0], ids[3])
    assert [(c.id, c.subject, c.author) for c in between] == [(ids[n], f"change {n}", "Ada") for n in (1, 2, 3)]
    assert await repository.commits_between(ids[3], ids[3]) == []


@pytest.mark.parametrize("ref", ["", "absent", "--all", "-h", "a\0b", "0" * 40, "HEAD:a"])
async def test_what_names_no_commit_is_not_found(checkout: Checkout, ref: str) -> None:
    checkout.commit("one", {"a": "a\n"})
    repository = await Repository.open(checkout.path)
    with pytest.raises(NotFound) as caught:
        await repository.resolve(ref)
    assert caught.value.kind == "no_such_commit"


async def test_first_parents_of_a_merge(checkout: Checkout) -> None:
    base = checkout.commit("base", {"a": "a\n"})
    checkout.git("checkout", "--quiet", "-b", "side")
    checkout.commit("side", {"b": "b\n"})
    checkout.git("checkout", "--quiet", "main")
    checkout.commit("main", {"c": "c\n"})
    checkout.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    repository = await Repository.open(checkout.path)
    line = await repository.commits_between(base, "main", first_parent=True)
    assert [c.subject for c in line] == ["main", "merge"]
    assert {c.subject for c in await repository.commits_between(base, "main")} == {"side", "main", "merge"}


async def test_export_writes_stored_bytes_whatever_attributes_say(checkout: Checkout, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    checkout.git("config", "filter.evil.smudge", f"touch {mark}; cat")
    checkout.git("config", "filter.evil.clean", f"touch {mark}; cat")
    files: dict[str, str | bytes | None] = {
        "crlf.txt": b"one\ntwo\n",
        "subst.txt": b"$Format:%H$ $Id$\n",
        "hidden.txt": b"x\n",
        "binary": bytes(range(256)),
        "deep/er/文件 name\t.py": "print()\n",
    }
    checkout.commit("one", files)
    attributes = (
        "*.txt text eol=crlf ident filter=evil working-tree-encoding=UTF-16\n"
        "subst.txt export-subst\nhidden.txt export-ignore\n"
    )
    (checkout.path / ".gitattributes").write_text(attributes)
    checkout.git("-c", "filter.evil.clean=cat", "add", ".gitattributes")
    checkout.git("commit", "--quiet", "-m", "attributes")
    mark.unlink(missing_ok=True)
    repository = await Repository.open(checkout.path)
    out = tmp_path / "out"
    out.mkdir()
    await repository.export("main", out)
    assert {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} == {
        **{name: c.encode() if isinstance(c, str) else c for name, c in files.items()},
        ".gitattributes": attributes.encode(),
    }
    assert not (out / ".git").exists()
    assert await repository.write_tree_from(out, "main") == await repository.tree("main")
    assert not mark.exists()


async def test_modes_links_and_deletions_survive_the_way_there_and_back(checkout: Checkout, tmp_path: Path) -> None:
    checkout.write({"run.sh": "#!/bin/sh\n", "a/b": "b\n", "gone": "x\n"})
    (checkout.path / "run.sh").chmod(0o755)
    (checkout.path / "link").symlink_to("a/b")
    one = checkout.commit("one")
    repository = await Repository.open(checkout.path)
    out = tmp_path / "out"
    out.mkdir()
    await repository.export(one, out)
    assert (out / "run.sh").stat().st_mode & 0o111
    assert str((out / "link").readlink()) == "a/b"
    assert await repository.write_tree_from(out, one) == await repository.tree(one)
    (out / "gone").unlink()
    (out / "a" / "b").unlink()
    (out / "a").rmdir()
    (out / "a").write_text("now a file\n")
    (out / "new").mkdir()
    (out / "new" / "c").write_text("c\n")
    tree = await repository.write_tree_from(out, one)
    changes = {d.path: (d.status, d.added, d.removed) for d in await repository.diff(one, tree)}
    assert changes == {"a": ("A", 1, 0), "a/b": ("D", 0, 1), "gone": ("D", 0, 1), "new/c": ("A", 1, 0)}


async def test_ignore_rules_are_those_of_the_base(checkout: Checkout, tmp_path: Path) -> None:
    base = checkout.commit("one", {".gitignore": "*.log\ncache/\n", "src/.gitignore": "/made.py\n", "src/a.py": "a\n"})
    repository = await Repository.open(checkout.path)
    out = tmp_path / "out"
    out.mkdir()
    await repository.export(base, out)
    (out / "src" / "x.log").write_text("x")
    (out / "src" / "made.py").write_text("x")
    (out / "cache" / "deep").mkdir(parents=True)
    (out / "cache" / "deep" / "y").write_text("y")
    (out / "lib").mkdir()
    (out / "lib" / ".gitignore").write_text("*\n")
    (out / "lib" / "hidden.py").write_text("evil()\n")
    (out / ".gitignore").write_text("*.log\ncache/\n*.py\n")
    (out / "src" / "[b]*.py").write_text("b\n")
    tree = await repository.write_tree_from(out, base)
    assert {d.path for d in await repository.diff(base, tree)} == {
        ".gitignore",
        "lib/.gitignore",
        "lib/hidden.py",
        "src/[b]*.py",
    }


async def test_diff_counts_lines_and_tells_binary(checkout: Checkout) -> None:
    one = checkout.commit("one", {"a.py": "a\nb\nc\n", "pic": b"\0\1\2", "same": "x\n"})
    two = checkout.commit("two", {"a.py": "a\nB\nc\nd\n", "pic": b"\0\1\3", ".gitattributes": "*.py binary\n"})
    repository = await Repository.open(checkout.path)
    by_path = {d.path: d for d in await repository.diff(one, two)}
    assert set(by_path) == {"a.py", "pic", ".gitattributes"}
    assert (by_path["a.py"].added, by_path["a.py"].removed, by_path["a.py"].binary) == (2, 1, False)
    assert by_path["pic"].binary
    assert "+B" in await repository.patch(one, two)
    assert await repository.blob(by_path["a.py"].old_id) == "a\nb\nc\n"


async def test_a_commit_with_a_time_is_the_same_twice(checkout: Checkout) -> None:
    one = checkout.commit("one", {"a": "a\n"})
    repository = await Repository.open(checkout.path)
    tree = await repository.tree(one)
    made = [await repository.commit_tree(tree, [one], "Fix\n\nJob: 7\n", ADA, at=1_700_000_000) for _ in range(2)]
    assert made[0] == made[1]
    assert (
        checkout.git("log", "-1", "--format=%an %ae %cn %P %B", made[0])
        == f"Ada ada@example.org Ada {one} Fix\n\nJob: 7"
    )


async def test_refs_are_compared_before_they_move(checkout: Checkout) -> None:
    one, two, three = (checkout.commit(str(n), {"a": f"{n}\n"}) for n in range(3))
    repository = await Repository.open(checkout.path)
    ref = "refs/heads/regrow/1"
    await repository.update_ref(ref, one)
    with pytest.raises(Refused) as caught:
        await repository.update_ref(ref, two)
    assert caught.value.kind == "ref_moved"
    await repository.update_ref(ref, two, one)
    with pytest.raises(Refused):
        await repository.update_ref(ref, three, one)
    assert await repository.branch_head("regrow/1") == two
    for bad in ("main", "refs/heads/a..b", "refs/heads/-x y", "../HEAD"):
        with pytest.raises(Refused) as caught:
            await repository.update_ref(bad, one)
        assert caught.value.kind == "bad_ref"
    with pytest.raises(Refused):
        await repository.delete_ref(ref, one)
    await repository.delete_ref(ref, two)
    assert await repository.branch_head("regrow/1") is None


async def test_fast_forward_leaves_a_branch_that_somebody_has_checked_out(checkout: Checkout) -> None:
    one, two = (checkout.commit(str(n), {"a": f"{n}\n"}) for n in range(2))
    checkout.git("branch", "free", one)
    checkout.git("branch", "other", one)
    repository = await Repository.open(checkout.path)
    assert await repository.fast_forward("free", two) == "moved"
    assert await repository.branch_head("free") == two
    assert await repository.fast_forward("free", one) == "already"
    three = await repository.commit_tree(await repository.tree(one), [two], "three", ADA)
    assert await repository.fast_forward("main", three) == "checked_out"
    side = await repository.commit_tree(await repository.tree(one), [one], "side", ADA)
    assert await repository.fast_forward("free", side) == "diverged"
    with pytest.raises(NotFound):
        await repository.fast_forward("absent", two)


async def test_revert_of_one_change_keeps_the_later_ones(checkout: Checkout) -> None:
    lines = [f"line {n}\n" for n in range(20)]
    checkout.commit("one", {"a": "".join(lines), "b": "b\n"})
    lines[2] = "bug\n"
    culprit = checkout.commit("bug", {"a": "".join(lines), "new": "n\n", "b": None})
    lines[17] = "later\n"
    last = checkout.commit("later", {"a": "".join(lines)})
    repository = await Repository.open(checkout.path)
    merged = await repository.revert_tree(last, culprit)
    assert not merged.conflicts
    entries = await repository.entries(merged.tree)
    lines[2] = "line 2\n"
    assert set(entries) == {"a", "b"}
    assert await repository.blob(entries["a"].id) == "".join(lines)


async def test_revert_in_conflict_names_the_paths(checkout: Checkout) -> None:
    checkout.commit("one", {"a b": "1\n", "c": "1\n"})
    culprit = checkout.commit("bug", {"a b": "2\n", "c": "2\n"})
    last = checkout.commit("later", {"a b": "3\n"})
    repository = await Repository.open(checkout.path)
    merged = await repository.revert_tree(last, culprit)
    assert (merged.tree, merged.conflicts) == ("", ("a b",))


async def test_revert_of_the_first_commit_and_of_a_merge(checkout: Checkout) -> None:
    root = checkout.commit("root", {"a": "a\n"})
    checkout.git("checkout", "--quiet", "-b", "side")
    checkout.commit("side", {"s": "s\n"})
    checkout.git("checkout", "--quiet", "main")
    checkout.commit("main", {"m": "m\n"})
    checkout.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    repository = await Repository.open(checkout.path)
    merge = await repository.resolve("main")
    assert set(await repository.entries((await repository.revert_tree(merge, merge)).tree)) == {"a", "m"}
    assert set(await repository.entries((await repository.revert_tree(merge, root)).tree)) == {"s", "m"}


async def test_overlay_takes_paths_of_another_tree(checkout: Checkout) -> None:
    one = checkout.commit("one", {"src": "1\n", "tests/a": "1\n", "tests/b": "1\n"})
    two = checkout.commit("two", {"src": "2\n", "tests/a": "2\n", "tests/b": None, "tests/c": "2\n"})
    repository = await Repository.open(checkout.path)
    tree = await repository.overlay(two, one, ["tests/a", "tests/b", "tests/c"])
    assert [d.path for d in await repository.diff(one, tree)] == ["src"]


async def test_sha256_repositories_work(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "x")
    for path in sorted((checkout.path / ".git").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    checkout.git("init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    one = checkout.commit("one", {"a": "1\n"})
    two = checkout.commit("two", {"a": "2\n"})
    repository = await Repository.open(checkout.path)
    assert len(two) == 64
    merged = await repository.revert_tree(two, two)
    assert merged.tree == await repository.tree(one)


async def test_the_live_checkout_is_never_changed(checkout: Checkout, tmp_path: Path) -> None:
    """F17: a dirty checkout with a stash, and programs in hooks and settings that would tell on us."""
    one = checkout.commit("one", {"a": "1\n", "b": "1\n", "c": "1\n"})
    two = checkout.commit("two", {"b": "2\n"})
    checkout.write({"c": "stashed\n"})
    checkout.git("stash")
    checkout.write({"a": "dirty\n", "staged": "s\n", "untracked": "u\n"})
    checkout.git("add", "staged")
    mark = tmp_path / "ran"
    script = tmp_path / "spy"
    script.write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    script.chmod(0o755)
    for hook in ("pre-commit", "reference-transaction", "post-index-change", "post-checkout"):
        (checkout.git_dir / "hooks" / hook).write_bytes(script.read_bytes())
        (checkout.git_dir / "hooks" / hook).chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "gpg.program", "core.pager", "core.editor"):
        checkout.git("config", key, str(script))
    checkout.git("config", "commit.gpgSign", "true")
    checkout.git("config", "log.showSignature", "true")
    mark.unlink(missing_ok=True)
    before = everything(checkout.path)

    repository = await Repository.open(checkout.path)
    assert await repository.is_dirty(checkout.path)
    out = tmp_path / "out"
    out.mkdir()
    await repository.export(two, out)
    (out / "a").write_text("3\n")
    tree = await repository.write_tree_from(out, two)
    await repository.diff(two, tree)
    await repository.patch(two, tree)
    commit = await repository.commit_tree(tree, [two], "fix", ADA)
    await repository.update_ref("refs/heads/regrow/1", commit)
    assert await repository.fast_forward("main", commit) == "checked_out"
    await repository.revert_tree(two, two)
    await repository.commits_between(one, two)
    await repository.subject(two)

    assert everything(checkout.path) == before
    assert not mark.exists()
    for hook in (checkout.git_dir / "hooks").iterdir():
        hook.unlink()
    for key in ("core.fsmonitor", "diff.external", "core.pager"):
        checkout.git("config", "--unset", key)
    assert checkout.git("stash", "list").count("\n") == 0
    assert "stash@{0}" in checkout.git("stash", "list")


async def test_a_clean_checkout_is_not_dirty(checkout: Checkout) -> None:
    checkout.commit("one", {"a": "1\n", ".gitignore": "*.log\n"})
    repository = await Repository.open(checkout.path)
    assert not await repository.is_dirty(checkout.path)
    checkout.write({"x.log": "ignored\n"})
    assert not await repository.is_dirty(checkout.path)
    checkout.write({"new.py": "x\n"})
    assert await repository.is_dirty(checkout.path)
