"""Every git call. Trees that an agent has touched are judged by a git that trusts nothing in them.

Code has run on a host through ordinary git commands on such a tree: fsmonitor, hooks, filters, an external diff, a
signing program (evidence of issue 2, agents.md section 5). So:

- the working directory of a person (HEAD, index, files, stash list) is never written (F17);
- whatever reads or writes trees runs in a *shadow*: a git directory of a few files made for that one call, whose only
  link to the repository is its object store. It has no hooks, no filters, no drivers and no index of anyone else, and
  its attributes, which win over those in the tree, say that bytes stay as they are;
- only refs and history are read from the repository's own git directory, with hooks, fsmonitor and pagers off.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regrow import process
from regrow.errors import NotFound, ProcessError, Refused
from regrow.process import Completed

_SHORT_S = 60.0
_LONG_S = 600.0
_PUSH_S = 300.0
_OUTPUT_BYTES = 64 * 1024 * 1024
_SAFE = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false"),
    *("-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "protocol.allow=never"),
    *("-c", "core.warnAmbiguousRefs=false", "-c", "advice.detachedHead=false", "-c", "core.quotePath=false"),
    *("-c", "log.showSignature=false", "-c", "log.mailmap=false", "-c", "core.attributesFile=/dev/null"),
)
_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "false",
}
_NO_DRIVERS = ("--no-ext-diff", "--no-textconv", "--no-renames")
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_RAW = re.compile(r":(\d{6}) (\d{6}) ([0-9a-f]+) ([0-9a-f]+) ([A-Z])\d*\0([^\0]+)\0")
_NUMSTAT = re.compile(r"(\d+|-)\t(\d+|-)\t([^\0]+)\0")
_ENTRY = re.compile(r"(\d{6}) (\w+) ([0-9a-f]+) +(\d+|-)\t([^\0]+)\0")
# Nothing in the tree may change bytes on their way in or out, and no driver may be chosen by it.
_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding !diff !merge !export-ignore !export-subst\n"

_BRANCH = "refs/heads/main"
_NOBODY = (("NAME", "Regrow"), ("EMAIL", "regrow@localhost"), ("DATE", "@0 +0000"))

SYMLINK, GITLINK, EXECUTABLE, REGULAR = "120000", "160000", "100755", "100644"


@dataclass(frozen=True)
class Commit:
    """A commit: full id, first line, author's name, time of authorship in seconds since 1970."""

    id: str
    subject: str
    author: str
    at: int


@dataclass(frozen=True)
class Entry:
    """A path of a tree. `size` is in bytes, 0 for what is no blob."""

    path: str
    mode: str
    id: str
    size: int


@dataclass(frozen=True)
class Difference:
    """A path that differs between two trees.

    Attributes:
        path: relative to the root, with slashes.
        status: "A" added, "M" modified, "D" deleted, "T" of another type.
        old_mode, new_mode: six octal digits, "000000" where absent.
        old_id, new_id: blob ids, zeros where absent.
        added, removed: lines; 0 for binary content.
        binary: whether git takes the content as binary.
    """

    path: str
    status: str
    old_mode: str
    new_mode: str
    old_id: str
    new_id: str
    added: int
    removed: int
    binary: bool


@dataclass(frozen=True)
class Merged:
    """A three-way merge of trees: the resulting tree, or the paths in conflict and no tree."""

    tree: str
    conflicts: tuple[str, ...] = ()


Moved = Literal["moved", "already", "diverged", "checked_out", "raced"]


class Repository:
    """A repository, by its git directory.

    Args:
        git_dir: absolute path of the git directory (that of a linked worktree is fine); use `open` to find it.
    """

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self._object_format = ""

    @classmethod
    async def open(cls, path: Path) -> Repository:
        """The repository of a checkout or a bare repository.

        Args:
            path: the root of the checkout, or the bare repository itself; parents are not searched.

        Raises:
            Refused: kind "no_repository" or "no_commits"; says what to do.
        """
        where = Path(os.path.abspath(path))  # noqa: ASYNC240, PTH100  no look at the disk
        try:
            found = await process.run(
                ("git", *_SAFE, "-C", str(where), "rev-parse", "--absolute-git-dir"),
                timeout_s=_SHORT_S,
                env={**_ENV, "GIT_CEILING_DIRECTORIES": str(where.parent)},
            )
        except ProcessError as error:
            raise Refused(f"cannot use git: {error}", kind="no_repository", log=error.log) from error
        if found.code != 0:
            raise Refused(
                f"cannot use {where} as a repository: there is no git repository; "
                "run `git init` and commit the service there, or correct the path",
                kind="no_repository",
                log=found.output,
            )
        repository = cls(Path(found.output.splitlines()[-1]))
        any_commit = await repository._git("rev-list", "--all", "--max-count=1", check="")
        if any_commit.code != 0 or not any_commit.output.strip():
            raise Refused(
                f"cannot use {where}: it has no commit yet; commit the service with `git add -A && git commit`",
                kind="no_commits",
            )
        return repository

    # Refs and history: the repository's own git directory, read only but for update_ref.

    async def resolve(self, ref: str) -> str:
        """The full id of the commit that `ref` (branch, tag, id, expression) names.

        Raises:
            NotFound: kind "no_such_commit".
        """
        known = bool(ref) and "\0" not in ref and not ref.startswith("-")
        if known:
            found = await self._git("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}", check="")
            lines = found.output.split()
            if found.code == 0 and lines and _ID.fullmatch(lines[-1]):
                return lines[-1]
        raise NotFound(
            f"cannot find the commit {ref[:80]!r}: name a branch, a tag or an id of this repository",
            kind="no_such_commit",
        )

    async def branch(self) -> str | None:
        """The name of the branch that HEAD is on; None when it is on none."""
        found = await self._git("symbolic-ref", "--quiet", "--short", "HEAD", check="")
        return found.output.strip() or None if found.code == 0 else None

    async def branch_head(self, branch: str) -> str | None:
        """The commit at the tip of `branch`; None when there is no such branch."""
        try:
            return await self.resolve(f"refs/heads/{branch}")
        except NotFound:
            return None

    async def tree(self, commit: str) -> str:
        """The id of the tree of a commit (or of a tree).

        Raises:
            NotFound: kind "no_such_commit".
        """
        found = await self._git("rev-parse", "--verify", "--quiet", "--end-of-options", commit + "^{tree}", check="")
        if found.code != 0 or not _ID.fullmatch(found.output.strip()):
            raise NotFound(
                f"cannot find the tree of {commit[:80]!r}: name a commit of this repository", kind="no_such_commit"
            )
        return found.output.strip()

    async def parents(self, commit: str) -> tuple[str, ...]:
        """The parents of a commit, the first one first."""
        found = await self._git("rev-list", "--parents", "--max-count=1", commit, "--", check="read the commit")
        return tuple(found.output.split()[1:])

    async def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `older` is `newer` or among its ancestors."""
        found = await self._git("merge-base", "--is-ancestor", older, newer, check="")
        if found.code not in (0, 1):
            found.check("compare two commits")
        return found.code == 0

    async def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor; None when the histories are unrelated."""
        found = await self._git("merge-base", one, other, check="")
        if found.code not in (0, 1):
            found.check("compare two commits")
        return found.output.split()[0] if found.code == 0 else None

    async def commits_between(self, good: str, bad: str, *, first_parent: bool = False) -> list[Commit]:
        """The commits after `good` up to and with `bad`, oldest first, parents before children.

        Args:
            good: where the range starts, not part of it.
            bad: where it ends, part of it.
            first_parent: only the line of first parents of `bad`; otherwise all commits that descend from `good`.
        """
        found = await self._git(
            *("log", "-z", "--topo-order", "--reverse", "--no-show-signature", "--format=%H%x1f%s%x1f%an%x1f%at"),
            "--first-parent" if first_parent else "--ancestry-path",
            f"{good}..{bad}",
            "--",
            check="read the history",
        )
        commits = []
        for record in found.output.split("\0"):
            fields = record.strip("\n").split("\x1f")
            if len(fields) == 4 and _ID.fullmatch(fields[0]):
                commits.append(Commit(fields[0], fields[1], fields[2], int(fields[3])))
            elif record.strip():
                raise ProcessError("cannot read the history: git answered in an unknown way", log=found.output[:4000])
        return commits

    async def subject(self, commit: str) -> str:
        """The first line of a commit's message."""
        found = await self._git(
            "log", "--max-count=1", "--no-show-signature", "--format=%s", commit, "--", check="read the commit"
        )
        return found.output.strip("\n")

    async def short(self, commit: str) -> str:
        """The shortest unambiguous prefix of an id, at least seven digits."""
        found = await self._git("rev-parse", "--short=7", "--verify", commit, check="read the commit")
        return found.output.strip()

    async def is_dirty(self, checkout: Path) -> bool:
        """Whether a checkout has changes that no commit holds. Nothing of it is written, not even its index (F17).

        Ignored files and the insides of submodules do not count.

        Args:
            checkout: a person's own checkout of this repository, never a tree that an agent has touched.
        """
        found = await process.run(
            (
                *("git", "--no-optional-locks", *_SAFE, f"--git-dir={self.git_dir}", f"--work-tree={checkout}"),
                *("status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules=all"),
            ),
            timeout_s=_SHORT_S,
            cwd=checkout,
            env=_ENV,
        )
        return bool(found.check("read the state of the checkout").output)

    async def checkouts(self) -> dict[str, Path]:
        """The branches that are checked out somewhere, with where."""
        found = await self._git("worktree", "list", "--porcelain", "-z", check="list the checkouts")
        checkouts: dict[str, Path] = {}
        for block in found.output.split("\0\0"):
            fields = dict(line.partition(" ")[::2] for line in block.split("\0") if line)
            if "branch" in fields and "worktree" in fields:
                checkouts[fields["branch"].removeprefix("refs/heads/")] = Path(fields["worktree"])
        return checkouts

    async def update_ref(self, ref: str, new: str, old: str | None = None, *, message: str = "regrow") -> None:
        """Set a ref, and only if it is what it is believed to be.

        Args:
            ref: full name, e.g. "refs/heads/regrow/12".
            new: full id.
            old: the full id it must have now; None: it must not exist.
            message: for the reflog.

        Raises:
            Refused: kind "ref_moved", when it is something else by now; kind "bad_ref", for a name git does not take.
        """
        if not ref.startswith("refs/") or (await self._git("check-ref-format", ref, check="")).code != 0:
            raise Refused(f"cannot use {ref[:80]!r} as the name of a branch: choose a plain name", kind="bad_ref")
        expected = old if old is not None else "0" * len(new)
        done = await self._git("update-ref", "-m", message, ref, new, expected, check="")
        if done.code != 0:
            raise Refused(
                f"cannot move {ref}: it is not what it was; look at it and try again", kind="ref_moved", log=done.output
            )

    async def ref(self, name: str) -> str | None:
        """The commit of a ref by its full name; None when there is no such ref."""
        try:
            return await self.resolve(name)
        except NotFound:
            return None

    async def push(self, remote: str, branch: str, commit: str) -> None:
        """Push a commit to a branch of a remote, never by force and without any hook.

        The remote is one of the repository's own configuration, which no agent can write; so are its login and proxy.
        To push what is there already does nothing.

        Args:
            remote: its name.
            branch: the branch's name, here and there.
            commit: full id.

        Raises:
            Refused: kind "not_pushed".
        """
        allowed = [word for kind in ("https", "ssh", "file") for word in ("-c", f"protocol.{kind}.allow=always")]
        env = {name: os.environ[name] for name in ("HOME", "SSH_AUTH_SOCK") if name in os.environ}
        done = await process.run(
            (
                *("git", "--no-pager", *_SAFE, *allowed, f"--git-dir={self.git_dir}", "--bare"),
                *("push", "--quiet", "--no-verify", "--no-follow-tags", "--recurse-submodules=no", "--end-of-options"),
                *(remote, f"{commit}:refs/heads/{branch}"),
            ),
            timeout_s=_PUSH_S,
            env={**_ENV, "GIT_SSH_COMMAND": "ssh -oBatchMode=yes", **env},
            cwd=self.git_dir,
        )
        if done.code != 0:
            said = (done.output.strip().splitlines() or ["git said nothing"])[0][:200]
            raise Refused(f"cannot push {branch} to {remote}: {said}", kind="not_pushed", log=done.output)

    async def delete_ref(self, ref: str, old: str) -> None:
        """Delete a ref that is still `old`.

        Raises:
            Refused: kind "ref_moved".
        """
        done = await self._git("update-ref", "-d", ref, old, check="")
        if done.code != 0:
            raise Refused(
                f"cannot delete {ref}: it is not what it was; look at it and try again",
                kind="ref_moved",
                log=done.output,
            )

    async def fast_forward(self, branch: str, commit: str) -> Moved:
        """Move a branch forward to a commit, without touching any checkout.

        Returns:
            "moved"; "already", when the branch has the commit; "diverged", when it has commits that the commit does
            not; "checked_out", when a checkout is on it and would look dirty; "raced", when it moved meanwhile. In all
            but the first nothing was changed, and the caller leaves a branch of its own instead.

        Raises:
            NotFound: kind "no_such_commit", for the branch or the commit.
        """
        head = await self.resolve(f"refs/heads/{branch}")
        commit = await self.resolve(commit)
        if await self.is_ancestor(commit, head):
            return "already"
        if not await self.is_ancestor(head, commit):
            return "diverged"
        if branch in await self.checkouts():
            return "checked_out"
        try:
            await self.update_ref(f"refs/heads/{branch}", commit, head, message="regrow: fast-forward")
        except Refused:
            return "raced"
        return "moved"

    # Trees and objects: always in a shadow.

    async def ever_held(self, patterns: Iterable[str], but: Iterable[str] = ()) -> bool:
        """Whether any commit that a ref or its log leads to has a file with such a name, at any depth and in any case.

        Args:
            patterns: names with the wildcards of a shell, such as "*.pem".
            but: names that do not count.
        """
        where = [f":(icase,glob)**/{pattern}" for pattern in patterns]
        where += [f":(exclude,icase,glob)**/{pattern}" for pattern in but]
        words = ("log", "--all", "--reflog", "--max-count=1", "--format=%H", "--", *where)
        found = await self._git(*words, check="search the history", env={"GIT_LITERAL_PATHSPECS": "0"})
        return bool(found.output.strip())

    async def holds(self, values: Iterable[str]) -> bool:
        """Whether any object of this repository, reachable or not, holds one of these texts.

        Args:
            values: texts without line ends; the empty one is none.

        Raises:
            ProcessError: the objects could not be read.
        """
        words = [value for value in values if value and "\n" not in value]
        if not words:
            return False
        read = ("cat-file", "--batch-all-objects", "--batch", "--unordered", "--buffer")
        # Texts may be secrets: they are given to grep in memory, and neither as arguments nor in a file.
        with os.fdopen(os.memfd_create("values"), "wb+") as given:
            given.write("\n".join(words).encode("utf-8", "surrogateescape") + b"\n")
            given.flush()
            given.seek(0)
            searching = ("grep", "--quiet", "--text", "--fixed-strings", f"--file=/dev/fd/{given.fileno()}")
            out, into = os.pipe()
            async with (
                asyncio.timeout(_LONG_S),
                process.talk(
                    ("git", *_SAFE, f"--git-dir={self.git_dir}", "--bare", *read),
                    env=_ENV,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=into,
                ) as objects,
                process.talk(
                    searching,
                    env=_ENV,
                    stdin=out,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(given.fileno(),),
                ) as search,
            ):
                os.close(into)
                os.close(out)
                found = await search.ended()
                if found == 1 and await objects.ended() != 0:
                    raise ProcessError("cannot read the objects of the repository", log=objects.complaints)
        if found not in (0, 1):
            raise ProcessError("cannot search the objects of the repository", log=search.complaints)
        return found == 0

    async def copy_history(self, commit: str, into: Path, *, most: int) -> None:
        """Make a repository with nothing but a commit and what came before it: no other branch, no tag, no log of a
        ref, no settings, and no object that nothing leads to.

        Args:
            commit: full id.
            into: an empty directory.
            most: how many commits, the newest first; it is shallow where there are more.
        """
        listed = await self._git("rev-list", "--parents", f"--max-count={most}", commit, "--", check="read the history")
        parents = {line.split()[0]: line.split()[1:] for line in listed.output.splitlines() if line.strip()}
        common = await asyncio.to_thread(_common_directory, self.git_dir)
        shallow = common / "shallow"  # there where the repository itself is one
        ends = await asyncio.to_thread(lambda: shallow.read_text().split() if shallow.exists() else [])
        cut = set(ends) & set(parents)
        cut |= {one for one, above in parents.items() if any(parent not in parents for parent in above)}
        asked = "".join(f"--shallow {one}\n" for one in sorted(cut)) + f"{commit}\n"
        async with self._shadow() as shadow:
            await asyncio.to_thread(_make_bare, into, self._object_format, commit, cut)
            pack = into / "objects" / "pack" / "pack"
            await shadow.git(
                *("pack-objects", "--revs", "--quiet", "--delta-base-offset", str(pack)),
                check="copy the history",
                stdin=asked.encode(),
                timeout_s=_LONG_S,
            )

    async def copy_tree(self, commit: str, into: Path, emptied: Iterable[str]) -> None:
        """Make a repository with one commit that holds the files of another one, some of them empty.

        Args:
            commit: full id; of it nothing but the files is in there.
            into: an empty directory.
            emptied: paths of the tree.
        """
        async with self._shadow() as shadow:
            await asyncio.to_thread(_make_bare, into, self._object_format, "", ())
            own = {
                "GIT_OBJECT_DIRECTORY": str(into / "objects"),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": shadow.objects,
                **{f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in _NOBODY},
            }

            async def git(*words: str, stdin: bytes | None = None) -> Completed:
                return await shadow.git(*words, check="copy the files", stdin=stdin, env=own, timeout_s=_LONG_S)

            await git("read-tree", await self._tree(commit))
            empty = _id(await git("hash-object", "-w", "--stdin", stdin=b""))
            await git(
                "update-index", "-z", "--index-info", stdin=_listed(f"100644 {empty}\t{path}" for path in emptied)
            )
            tree = _id(await git("write-tree"))
            made = _id(await git("commit-tree", tree, stdin=b"The code as it serves\n"))
            pack = into / "objects" / "pack" / "pack"
            await git("pack-objects", "--revs", "--quiet", str(pack), stdin=f"{made}\n".encode())
            await asyncio.to_thread((into / _BRANCH).write_text, f"{made}\n")

    async def index(self, commit: str, index: Path) -> None:
        """Write an index with the files of a commit of this repository, as if they had just been checked out."""
        made = await process.run(
            ("git", *_SAFE, f"--git-dir={self.git_dir}", "--bare", "read-tree", commit),
            timeout_s=_LONG_S,
            env={**_ENV, "GIT_INDEX_FILE": str(index)},
            cwd=self.git_dir,
        )
        made.check("write the index")

    async def entries(self, commit: str) -> dict[str, Entry]:
        """All paths of a commit or tree."""
        async with self._shadow() as shadow:
            tree = await self._tree(commit)
            found = await shadow.git("ls-tree", "-r", "-z", "-l", "--full-tree", tree, check="read the tree")
        entries = {
            m[5]: Entry(m[5], m[1], m[3], int(m[4]) if m[4] != "-" else 0) for m in _ENTRY.finditer(found.output)
        }
        _accounted(found.output, _ENTRY)
        return entries

    async def export(self, commit: str, directory: Path) -> None:
        """Write the files of a commit or tree as they are stored, without a .git and without any filter.

        Attributes like export-ignore, export-subst, eol or filter change nothing; submodules become empty directories.

        Args:
            commit: a commit or tree.
            directory: an existing empty directory.
        """
        async with self._shadow() as shadow:
            await shadow.git("read-tree", await self._tree(commit), check="read the tree")
            await shadow.git(
                "checkout-index",
                "--all",
                "--force",
                check="write the files of the commit",
                work_tree=directory,
                timeout_s=_LONG_S,
            )

    async def ignored(self, commit: str, paths: Iterable[str]) -> set[str]:
        """Which of some untracked paths git would ignore by the rules of `commit` (those of the tree edited since do
        not count: an agent could hide files by a `.gitignore` that hides itself).

        Args:
            commit: the commit or tree whose `.gitignore` files rule.
            paths: relative paths; they need not exist.
        """
        asked = list(paths)
        if not asked:
            return set()
        rules = [path for path in await self.entries(commit) if path.rpartition("/")[2] == ".gitignore"]
        if not rules:
            return set()
        async with self._shadow() as shadow:
            directory = shadow.directory / "rules"
            directory.mkdir()
            await shadow.git("read-tree", await self._tree(commit), check="read the tree")
            await shadow.git(
                *("checkout-index", "--force", "-z", "--stdin"),
                check="read the ignore rules",
                work_tree=directory,
                stdin=_listed(rules),
            )
            found = await shadow.git(
                *("check-ignore", "--no-index", "-z", "--stdin"),
                check="",
                work_tree=directory,
                # "./" keeps a file called ":(glob)x" from being read as a pattern.
                stdin=_listed(f"./{path}" for path in asked),
                env={"GIT_LITERAL_PATHSPECS": "0"},
                timeout_s=_LONG_S,
            )
            if found.code not in (0, 1):
                found.check("apply the ignore rules")
        ignored = {path.removeprefix("./") for path in found.output.split("\0") if path}
        if not ignored <= set(asked):
            raise ProcessError("cannot apply the ignore rules: git answered in an unknown way", log=found.output[:4000])
        return ignored

    async def write_tree_from(self, directory: Path, base: str) -> str:
        """Store the files of a directory as a tree, ignore rules being those of `base`.

        No git command walks the directory: the paths are listed here and named to git one by one.

        Args:
            directory: plain files; the gate has refused links, special files and nested repositories before.
            base: the commit or tree the directory was exported from.

        Returns:
            The id of the tree.
        """
        tracked = await self.entries(base)
        present = await asyncio.to_thread(_files_below, directory)
        new = [path for path in present if path not in tracked]
        hidden = await self.ignored(base, new)
        named = [path for path in {**tracked, **dict.fromkeys(new)} if path not in hidden]
        named = [path for path in named if path not in tracked or tracked[path].mode != GITLINK]
        async with self._shadow() as shadow:
            await shadow.git("read-tree", await self._tree(base), check="read the tree")
            await shadow.git(
                *("update-index", "--add", "--remove", "--replace", "-z", "--stdin"),
                check="read the changed files",
                work_tree=directory,
                stdin=_listed(named),
                timeout_s=_LONG_S,
            )
            return _id(await shadow.git("write-tree", check="store the changed files"))

    async def overlay(self, tree: str, source: str, paths: Iterable[str]) -> str:
        """A tree in which some paths are as in another one; paths absent there are absent in the result.

        Args:
            tree: the commit or tree to start from.
            source: the commit or tree that the paths are taken from.
            paths: files, exactly.
        """
        there = await self.entries(source)
        start = await self._tree(tree)
        lines = []
        for path in paths:
            entry = there.get(path)
            mode, blob = (entry.mode, entry.id) if entry is not None else ("0", "0" * len(start))
            lines.append(f"{mode} {blob}\t{path}")
        async with self._shadow() as shadow:
            await shadow.git("read-tree", start, check="read the tree")
            await shadow.git("update-index", "-z", "--index-info", check="compose the tree", stdin=_listed(lines))
            return _id(await shadow.git("write-tree", check="compose the tree"))

    async def diff(self, base: str, tree: str) -> list[Difference]:
        """What differs from `base` to `tree` (commits or trees), without renames, in the order of paths."""
        async with self._shadow() as shadow:
            found = await shadow.git(
                *("diff-tree", "-r", "-z", "--raw", "--numstat", "--full-index", "--abbrev=64", *_NO_DRIVERS),
                await self._tree(base),
                await self._tree(tree),
                check="compare two trees",
                timeout_s=_LONG_S,
            )
        raw = {match[6]: match for match in _RAW.finditer(found.output)}
        rest = _RAW.sub("", found.output)
        _accounted(rest, _NUMSTAT)
        counts = {match[3]: (match[1], match[2]) for match in _NUMSTAT.finditer(rest)}
        if counts.keys() != raw.keys():
            raise ProcessError("cannot compare two trees: git answered in an unknown way", log=found.output[:4000])
        differences = []
        for path, match in raw.items():
            added, removed = counts[path]
            binary = added == "-"
            differences.append(
                Difference(
                    *(path, match[5], match[1], match[2], match[3], match[4]),
                    0 if binary else int(added),
                    0 if binary else int(removed),
                    binary,
                )
            )
        return differences

    async def patch(self, base: str, tree: str, paths: Sequence[str] = (), *, keep_bytes: int = 1_000_000) -> str:
        """The change from `base` to `tree` as a patch for people, at most `keep_bytes`, its middle left out.

        Args:
            base, tree: commits or trees.
            paths: the files to show, exactly; all when empty.
            keep_bytes: of the patch.
        """
        async with self._shadow() as shadow:
            found = await shadow.git(
                *(
                    "diff-tree",
                    "-r",
                    "-p",
                    "--full-index",
                    *_NO_DRIVERS,
                    await self._tree(base),
                    await self._tree(tree),
                    "--",
                    *paths,
                ),
                check="show the change",
                keep_bytes=keep_bytes,
            )
        return found.output

    async def blob(self, blob: str, *, keep_bytes: int = 4_000_000) -> str:
        """The text of a blob, undecodable bytes replaced, at most `keep_bytes`."""
        async with self._shadow() as shadow:
            return (await shadow.git("cat-file", "blob", blob, check="read a file", keep_bytes=keep_bytes)).output

    async def blobs(self, blobs: Sequence[str]) -> dict[str, str]:
        """The texts of some blobs by id, in one call, undecodable bytes replaced.

        Args:
            blobs: full ids of blobs that are there; the caller bounds how much they are together.

        Raises:
            ProcessError: git answered in an unknown way.
        """
        if not blobs:
            return {}
        asked = list(dict.fromkeys(blobs))
        async with self._shadow() as shadow:
            found = await shadow.git("cat-file", "--batch", check="read files", stdin=_listed(asked, b"\n"))
        texts, at = {}, 0
        # Sizes are of bytes and not of the text here, so a text ends where the next one, known by its id, begins.
        heads = [re.compile(rf"{blob} blob \d+\n") for blob in asked]
        for number, head in enumerate(heads):
            match = head.match(found.output, at)
            after = heads[number + 1].search(found.output, at) if number + 1 < len(heads) else None
            if match is None or (after is None and number + 1 < len(heads)):
                raise ProcessError("cannot read files: git answered in an unknown way", log=found.output[:4000])
            at = after.start() if after is not None else len(found.output)
            texts[asked[number]] = found.output[match.end() : at].removesuffix("\n")
        return texts

    async def commit_tree(
        self, tree: str, parents: Sequence[str], message: str, author: tuple[str, str], *, at: float | None = None
    ) -> str:
        """Store a commit; no ref points to it yet.

        Args:
            tree: its tree.
            parents: full ids.
            message: all of it, with trailers.
            author: name and address, for author and committer.
            at: seconds since 1970; now when None. The same arguments with a time give the same id.

        Returns:
            The full id.
        """
        name, address = author
        moment = (
            {} if at is None else {"GIT_AUTHOR_DATE": f"@{int(at)} +0000", "GIT_COMMITTER_DATE": f"@{int(at)} +0000"}
        )
        async with self._shadow() as shadow:
            made = await shadow.git(
                *("commit-tree", tree, *(word for parent in parents for word in ("-p", parent))),
                check="store the commit",
                stdin=message.encode(),
                env={
                    **{"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address},
                    **{"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": address},
                    **moment,
                },
            )
        return _id(made)

    async def revert_tree(self, base: str, culprit: str) -> Merged:
        """What `base` would be without the change that `culprit` brought (for a merge: against its first parent).

        Args:
            base: the commit to start from.
            culprit: a commit.
        """
        parents = await self.parents(culprit)
        without = await self.tree(parents[0]) if parents else await self._empty_tree()
        return await self.merge_trees(await self.tree(culprit), await self.tree(base), without)

    async def merge_trees(self, ancestor: str, ours: str, theirs: str) -> Merged:
        """A three-way merge of trees that touches no checkout and no index.

        `git merge-tree --merge-base` needs git 2.40; three commits made for the purpose give an older one the same
        ancestor to find.
        """
        made_by = ("regrow", "regrow@localhost")
        root = await self.commit_tree(ancestor, (), "ancestor", made_by, at=0)
        one = await self.commit_tree(ours, (root,), "ours", made_by, at=1)
        other = await self.commit_tree(theirs, (root,), "theirs", made_by, at=2)
        async with self._shadow() as shadow:
            found = await shadow.git(
                *("merge-tree", "--write-tree", "--no-messages", "--name-only", "-z", one, other), check=""
            )
        if found.code not in (0, 1):
            if "write-tree" in found.output:
                raise ProcessError("cannot merge: this git is older than 2.38; update git", log=found.output)
            found.check("merge")
        tree, *names = found.output.rstrip("\0\n").split("\0")
        if not _ID.fullmatch(tree.strip()):
            raise ProcessError("cannot merge: git answered in an unknown way", log=found.output[:4000])
        if found.code == 1:
            return Merged("", tuple(sorted({name for name in names if name.strip()})))
        return Merged(tree.strip())

    async def _tree(self, name: str) -> str:
        # A shadow knows objects and no refs.
        return name if _ID.fullmatch(name) else await self.tree(name)

    async def _empty_tree(self) -> str:
        async with self._shadow() as shadow:
            return _id(await shadow.git("mktree", check="store an empty tree", stdin=b""))

    async def _git(self, *words: str, check: str, env: Mapping[str, str] | None = None) -> Completed:
        # With --bare git looks at no working directory, not even where the git directory lies inside one.
        found = await process.run(
            ("git", "--no-pager", *_SAFE, f"--git-dir={self.git_dir}", "--bare", *words),
            timeout_s=_SHORT_S,
            env={**_ENV, **(env or {})},
            cwd=self.git_dir,
            keep_bytes=_OUTPUT_BYTES,
        )
        return found.check(check) if check else found

    @asynccontextmanager
    async def _shadow(self) -> AsyncIterator[_Shadow]:
        if not self._object_format:
            self._object_format = (
                await self._git("rev-parse", "--show-object-format", check="read the repository")
            ).output.strip()
        with tempfile.TemporaryDirectory(prefix="regrow-git-") as name:
            directory = Path(name)
            await asyncio.to_thread(_make_shadow, directory, self._object_format)
            common = await asyncio.to_thread(_common_directory, self.git_dir)
            yield _Shadow(directory, {**_ENV, "GIT_OBJECT_DIRECTORY": str(common / "objects")})


class _Shadow:
    """A git directory for one call: its own configuration, attributes and index; the repository's objects."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.directory = directory
        self.objects = env["GIT_OBJECT_DIRECTORY"]
        self._env = env

    async def git(
        self,
        *words: str,
        check: str,
        work_tree: Path | None = None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = _SHORT_S,
        keep_bytes: int = _OUTPUT_BYTES,
    ) -> Completed:
        found = await process.run(
            (
                *("git", "--no-pager", *_SAFE, f"--git-dir={self.directory / 'git'}"),
                *(("--bare",) if work_tree is None else (f"--work-tree={work_tree}",)),
                *words,
            ),
            timeout_s=timeout_s,
            cwd=self.directory if work_tree is None else work_tree,
            env={**self._env, **(env or {})},
            stdin=stdin,
            keep_bytes=keep_bytes,
        )
        return found.check(check) if check else found


def _make_bare(directory: Path, object_format: str, commit: str, shallow: Iterable[str]) -> None:
    """A repository of one branch, still without objects."""
    for name in ("objects/pack", "objects/info", "refs/heads", "info"):
        (directory / name).mkdir(parents=True)
    (directory / "HEAD").write_text("ref: refs/heads/main\n")
    _write_settings(directory, object_format)
    if commit:
        (directory / _BRANCH).write_text(f"{commit}\n")
    if cut := sorted(shallow):
        (directory / "shallow").write_text("".join(f"{one}\n" for one in cut))


def _make_shadow(directory: Path, object_format: str) -> None:
    git = directory / "git"
    (git / "refs").mkdir(parents=True)
    (git / "objects").mkdir()
    (git / "info").mkdir()
    (git / "HEAD").write_text("ref: refs/heads/none\n")
    (git / "info" / "attributes").write_text(_ATTRIBUTES)
    _write_settings(git, object_format)


def _write_settings(git: Path, object_format: str) -> None:
    version, extension = (
        ("0", "") if object_format in ("", "sha1") else ("1", f"[extensions]\nobjectFormat={object_format}\n")
    )
    (git / "config").write_text(
        f"[core]\nrepositoryformatversion={version}\nfilemode=true\nsymlinks=true\nignorecase=false\n"
        f"protectHFS=true\nprotectNTFS=true\nbigFileThreshold=64m\n{extension}"
    )


def _common_directory(git_dir: Path) -> Path:
    link = git_dir / "commondir"  # there in linked worktrees only
    return Path(os.path.normpath(git_dir / link.read_text().strip())) if link.exists() else git_dir


def _files_below(directory: Path) -> list[str]:
    """Relative paths of everything that is no directory, without following links."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(directory / prefix) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path + "/")
                else:
                    found.append(path)
    return sorted(found)


def _listed(paths: Iterable[str], end: bytes = b"\0") -> bytes:
    return b"".join(os.fsencode(path) + end for path in paths)


def _id(found: Completed) -> str:
    lines = found.output.split()
    if not lines or not _ID.fullmatch(lines[-1]):
        raise ProcessError("cannot read an id: git answered in an unknown way", log=found.output[:4000])
    return lines[-1]


def _accounted(output: str, pattern: re.Pattern[str]) -> None:
    """Fail when git said more than the pattern explains: what is not understood is not judged as harmless."""
    rest = pattern.sub("", output)
    if rest.strip("\0\n"):
        raise ProcessError("cannot read the tree: git answered in an unknown way", log=rest[:4000])
