"""Git: the repository in the box, and what a tree does to git on the machine afterwards."""

from __future__ import annotations

from collections.abc import Callable

from regrow import process
from regrow.process import Completed
from regrow.testing.attacks.base import Attack
from regrow.testing.attacks.files import leaked, written
from regrow.testing.attacks.scene import Scene

_GIT_S = 30.0
_APPEND = "with open(args[0] + '/' + args[1], 'a') as file:\n    file.write(token)"


def _made(name: str) -> Callable[[Scene, Completed, str], bool]:
    def look(scene: Scene, done: Completed, token: str) -> bool:
        return (scene.root / name.format(workspace=scene.workspace)).exists()

    return look


def _ref(scene: Scene, done: Completed, token: str) -> bool:
    return token in scene.live.git("for-each-ref")


def _headless(scene: Scene, done: Completed, token: str) -> bool:
    head = scene.live.git_dir / "HEAD"
    gone = not head.exists()
    head.write_text("ref: refs/heads/main\n")
    return gone


_NESTED = (
    "import shutil\n"
    "tree = args[0] + '/nested'\nos.makedirs(tree, exist_ok=True)\n"
    "run = lambda *words: subprocess.run(('git', '-c', 'safe.directory=*', '-C', tree, *words), check=True, "
    "capture_output=True,"
    " env={**{k: v for k, v in os.environ.items() if not k.startswith('GIT_')}})\n"
    "run('init', '-q')\n"
    "run('config', 'core.fsmonitor', 'touch ' + args[1] + '; false')\n"
)


async def _host_ran(scene: Scene, done: Completed, token: str) -> bool:
    """The host does to the tree what it does after each agent; where the box is missing, what a person would."""
    marker = scene.root / "ran"
    if scene.careless:
        await process.run(("git", "-C", str(scene.workspace / "src/nested"), "status"), timeout_s=_GIT_S)
    else:
        await scene.gate.check(scene.repository, scene.base, scene.workspace)
    ran = marker.exists()
    marker.unlink(missing_ok=True)
    await process.run(("rm", "-rf", str(scene.workspace / "src/nested")), timeout_s=_GIT_S)
    return ran


async def _hook_ran(scene: Scene, done: Completed, token: str) -> bool:
    """A hook that was there before the agent came, when the host commits what the agent did."""
    marker = scene.root / "hooked"
    hook = scene.live.git_dir / "hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    hook.chmod(0o755)
    try:
        if scene.careless:
            scene.live.git("branch", token, scene.base)
        else:
            await scene.repository.update_ref(f"refs/heads/{token}", scene.base)
        return marker.exists()
    finally:
        marker.unlink(missing_ok=True)
        hook.unlink()


def _filtered(scene: Scene, token: str) -> None:
    scene.live.git("config", "filter.evil.clean", f"touch '{scene.root}/filtered'; cat")


async def _filter_ran(scene: Scene, done: Completed, token: str) -> bool:
    """A filter of the person's own settings, which a file of the tree turns on for itself."""
    marker = scene.root / "filtered"
    name = scene.workspace / "src/.gitattributes"
    try:
        if scene.careless:
            words = (f"--git-dir={scene.live.git_dir}", f"--work-tree={scene.workspace}", "add", "src/app.py")
            await process.run(("git", *words), timeout_s=_GIT_S)
        else:
            await scene.gate.check(scene.repository, scene.base, scene.workspace)
        return marker.exists()
    finally:
        marker.unlink(missing_ok=True)
        name.unlink(missing_ok=True)
        scene.live.git("config", "--unset-all", "filter.evil.clean")


async def _in_fresh_export(scene: Scene, done: Completed, token: str) -> bool:
    """What is tested and built is an export of the stored tree; where that is missing, the agent's directory."""
    where = scene.workspace
    if not scene.careless:
        report = await scene.gate.check(scene.repository, scene.base, scene.workspace)
        if not report.passed:
            raise AssertionError(f"the gate refuses for another reason: {report.refusals}")
        where = await scene.workspaces.fresh(1, "witness", report.tree)
    found = any(where.rglob("*.pyc"))
    await process.run(("rm", "-rf", str(scene.workspace / "src/__pycache__")), timeout_s=_GIT_S)
    return found


ATTACKS = (
    Attack(
        "a hook",
        "writes .git/hooks/pre-commit",
        _APPEND,
        lambda s: [s.live.git_dir, "hooks/pre-commit"],
        written("live/.git/hooks/pre-commit"),
    ),
    Attack(
        "git's settings",
        "appends to .git/config",
        _APPEND.replace("token)", "'# ' + token)"),
        lambda s: [s.live.git_dir, "config"],
        written("live/.git/config"),
    ),
    Attack(
        "a branch",
        "moves a branch by git itself",
        "subprocess.run(('git', '-c', 'safe.directory=*', '--git-dir', args[0], 'update-ref', 'refs/heads/' + "
        "token, args[1]),"
        " check=True, capture_output=True)",
        lambda s: [s.live.git_dir, s.base],
        _ref,
    ),
    Attack(
        "a loose ref",
        "writes a ref as a file",
        "open(args[0] + '/refs/heads/' + token, 'w').write(args[1] + '\\n')",
        lambda s: [s.live.git_dir, s.base],
        _ref,
    ),
    Attack("the head", "deletes HEAD", "os.unlink(args[0] + '/HEAD')", lambda s: [s.live.git_dir], _headless),
    Attack(
        "alternates",
        "adds a store of objects",
        _APPEND,
        lambda s: [s.live.git_dir, "objects/info/alternates"],
        written("live/.git/objects/info/alternates"),
        before=lambda s, token: (s.live.git_dir / "objects/info/alternates").unlink(missing_ok=True),
    ),
    Attack(
        "the index",
        "writes the checkout's index",
        _APPEND,
        lambda s: [s.live.git_dir, "index2"],
        written("live/.git/index2"),
    ),
    Attack(
        "attributes of the repository",
        "writes .git/info/attributes",
        _APPEND.replace("token)", "'# ' + token)"),
        lambda s: [s.live.git_dir, "info/attributes"],
        written("live/.git/info/attributes"),
    ),
    Attack(
        "the live checkout",
        "writes a file of it",
        _APPEND,
        lambda s: [s.live.path, "config/x"],
        written("live/config/x"),
    ),
    Attack(
        "a repository in the workspace",
        "makes .git at its top",
        "os.makedirs(args[0] + '/.git/hooks')",
        lambda s: [s.workspace],
        _made("{workspace}/.git"),
    ),
    Attack(
        "a repository among its own files",
        "makes one with a program in its settings, for git on the machine to run",
        _NESTED,
        lambda s: [s.workspace / "src", s.root / "ran"],
        _host_ran,
        cases=("agent",),
    ),
    Attack(
        "a hook of the repository", "waits for the machine to commit its work", "pass", out=_hook_ran, cases=("agent",)
    ),
    Attack(
        "a filter of the repository",
        "turns one on for a file it changed",
        "open(args[0] + '/.gitattributes', 'w').write('* filter=evil\\n')\n"
        "open(args[0] + '/app.py', 'a').write('# more\\n')",
        lambda s: [s.workspace / "src"],
        _filter_ran,
        before=_filtered,
        cases=("agent",),
    ),
    Attack(
        "compiled code beside the sources",
        "leaves a poisoned __pycache__, which git ignores",
        "os.makedirs(args[0] + '/__pycache__', exist_ok=True)\n"
        "open(args[0] + '/__pycache__/app.cpython-311.pyc', 'w').write(token)\n"
        "open(args[0] + '/app.py', 'a').write('# more\\n')",
        lambda s: [s.workspace / "src"],
        _in_fresh_export,
        cases=("agent",),
    ),
    Attack(
        "a password in git's settings",
        "reads .git/config",
        "got(open(args[0] + '/config').read())",
        lambda s: [s.live.git_dir],
        leaked,
    ),
    Attack(
        "a secret that was committed",
        "reads .env out of git's objects",
        "shown = subprocess.run(('git', '-c', 'safe.directory=*', '--git-dir', args[0], 'show', 'main:.env'),"
        " check=True, capture_output=True, text=True)\ngot(shown.stdout)",
        lambda s: [s.careless_checkout.git_dir],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "every object of git",
        "looks for secrets in all objects, reachable or not, of the repository and of what is shown of it",
        "for where in (args[0], os.environ.get('GIT_DIR', args[0])):\n"
        "    words = ('git', '-c', 'safe.directory=*', '--git-dir', where, 'cat-file')\n"
        "    done = subprocess.run((*words, '--batch-all-objects', '--batch'), capture_output=True)\n"
        "    shown = done.stdout.decode(errors='replace')\n"
        "    for line in shown.splitlines():\n"
        "        if 'VALUE=' in line:\n"
        "            got(line)",
        lambda s: [s.careless_checkout.git_dir],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
)
