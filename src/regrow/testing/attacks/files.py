"""Files: reading what is secret, writing what is not the box's."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from regrow.process import Completed
from regrow.testing.attacks.base import Attack
from regrow.testing.attacks.scene import TEMPORARY_BYTES, Scene

_LARGE_BYTES = 1 << 30  # a hole: it takes no space
_READ = "for name in args:\n    got(open(name, errors='replace').read())"
_WRITE = "for name in args:\n    open(name, 'a').write(token)"
_OPEN = "for name in args:\n    got(os.open(name, os.O_WRONLY))"


def leaked(scene: Scene, done: Completed, token: str) -> bool:
    """The canary came out, whatever the attack says."""
    return scene.canary in done.output


def written(name: str) -> Callable[[Scene, Completed, str], bool]:
    """A witness: the token is in this file outside."""

    def look(scene: Scene, done: Completed, token: str) -> bool:
        path = scene.root / name.format(workspace=scene.workspace)
        return path.is_file() and token in path.read_text(errors="replace")

    return look


def _gone(scene: Scene, done: Completed, token: str) -> bool:
    return not (scene.person / "notes").exists()


def _copied_person(scene: Scene, token: str) -> None:
    scene.person.mkdir(exist_ok=True)
    (scene.person / "notes").write_text(scene.canary)


def _masked_again(scene: Scene, token: str) -> None:
    (scene.secrets / "src/deep/.env.local").write_text(f"VALUE={scene.canary}\n")


def _is_set_uid(scene: Scene, done: Completed, token: str) -> bool:
    made = [path / "tool" for path in (scene.workspace / "src", scene.out)]
    return any(path.exists() and path.lstat().st_mode & stat.S_ISUID and path.lstat().st_uid == 0 for path in made)


def _is_device(scene: Scene, done: Completed, token: str) -> bool:
    made = [path / token for path in (scene.workspace / "src", scene.out)]
    return any(path.exists() and stat.S_ISBLK(path.lstat().st_mode) for path in made)


def _changed_hands(scene: Scene, done: Completed, token: str) -> bool:
    return scene.outside.lstat().st_uid != os.geteuid()


def _too_large(scene: Scene, done: Completed, token: str) -> bool:
    made = [path / f"large{token}" for path in (scene.workspace / "src", scene.out)]
    return any(path.exists() and path.stat().st_size >= _LARGE_BYTES for path in made)


def _own(scene: Scene) -> list[object]:
    """Where each box may write: the agent's src, the build's output."""
    return [scene.workspace / "src", scene.out]


_PLACE = "place = {'agent': args[0], 'build': args[1], 'test': '/tmp'}[case]\n"

ATTACKS = (
    Attack("a file outside", "reads a file beside the workspace", _READ, lambda s: [s.outside], leaked),
    Attack(
        "the home of a person",
        "reads a file of somebody's home",
        _READ,
        lambda s: [s.person / "notes"],
        leaked,
        before=_copied_person,
    ),
    Attack("the store of Regrow", "reads the daemon's database", _READ, lambda s: [s.database], leaked),
    Attack("the data of the service", "reads the service's database", _READ, lambda s: [s.data], leaked),
    Attack("a release that runs", "reads a release of the service", _READ, lambda s: [s.released], leaked),
    Attack("the cache of another service", "reads it", _READ, lambda s: [s.other_cache / "wheel"], leaked),
    Attack("shared memory in a file", "reads a file of /dev/shm", _READ, lambda s: [s.shared_file], leaked),
    Attack(
        "the root of another process",
        "reads a file through /proc/PID/root of every process it sees",
        "for name in glob.glob('/proc/[0-9]*/root' + args[0]):\n"
        "    try:\n        got(open(name).read())\n    except OSError as error:\n        print('held', error)",
        lambda s: [s.outside],
        leaked,
    ),
    Attack(
        "the working directory of another process",
        "reads a file through /proc/PID/cwd of every process it sees",
        "for name in glob.glob('/proc/[0-9]*/cwd'):\n"
        "    try:\n        got(open(name + '/' + os.path.relpath(args[0], os.readlink(name))).read())\n"
        "    except OSError as error:\n        print('held', error)",
        lambda s: [s.outside],
        leaked,
    ),
    Attack(
        "a symbolic link",
        "reads a file through a link in a directory of its own",
        _PLACE + "link = place + '/link' + token\nos.symlink(args[2], link)\ngot(open(link).read())",
        lambda s: [*_own(s), s.outside],
        leaked,
    ),
    Attack(
        "a hard link",
        "links a file into a directory of its own and reads it",
        _PLACE + "link = place + '/hard' + token\nos.link(args[2], link)\ngot(open(link).read())",
        lambda s: [*_own(s), s.outside],
        leaked,
        cases=("agent", "build"),
    ),
    Attack(
        "the environment of the daemon",
        "reads /proc/PID/environ of every process it sees",
        "for name in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try:\n        got(open(name).read())\n    except OSError as error:\n        print('held', error)",
        out=leaked,
    ),
    Attack(
        "an inherited variable",
        "looks for the canary in its own environment",
        "got(dict(os.environ))",
        out=leaked,
        control="none",
        why="no driver passes the daemon's environment on",
    ),
    Attack(
        "an inherited descriptor",
        "reads from every descriptor it has",
        "for number in range(3, 256):\n    try:\n        got(os.pread(number, 1000, 0))\n    except OSError:\n"
        "        pass",
        out=leaked,
        control="none",
        why="no driver passes the daemon's descriptors on",
    ),
    Attack("the shadow file", "reads the password hashes", "open('/etc/shadow').read(1); got()", root=True),
    Attack("keys of the machine", "lists /etc/ssh or /root", "os.listdir('/root'); got()", root=True),
    Attack(
        "a raw disk",
        "makes a device and opens it",
        _PLACE + "os.mknod(place + '/' + token, stat.S_IFBLK | 0o600, os.makedev(7, 0))",
        _own,
        _is_device,
        root=True,
        cases=("agent", "build"),
    ),
    Attack(
        "a masked file",
        "reads .env of the workspace",
        _READ,
        lambda s: [s.secrets / ".env"],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "a masked file among its own",
        "reads .env.local in a directory that it may write",
        _READ,
        lambda s: [s.secrets / "src/deep/.env.local"],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "a masked file by another spelling",
        "reads config/.ENV",
        _READ,
        lambda s: [s.secrets / "config/.ENV"],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "what a masked link leads to",
        "reads the file behind src/.env.link under its own name",
        _READ,
        lambda s: [s.secrets / "config/plain.txt"],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "a key in the tree",
        "reads a private key",
        _READ,
        lambda s: [s.secrets / "certs/server.key"],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "the settings in the tree",
        "reads regrow.toml",
        _READ,
        lambda s: [s.secrets / "regrow.toml"],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "a mask that moves",
        "renames the directory above a masked file and reads it there",
        "os.rename(args[0], args[0] + token)\nname = args[0] + token + '/.env.local'\ntext = open(name).read()\n"
        "os.rename(args[0] + token, args[0])\ngot(text)",
        lambda s: [s.secrets / "src/deep"],
        leaked,
        cases=("agent",),
        box="secrets",
    ),
    Attack(
        "a mask that is deleted",
        "unlinks the masks, then reads what was below",
        "for name in args:\n"
        "    try:\n        kept = open(name).read(); os.unlink(name)\n    except OSError as error:\n"
        "        print('held', error); continue\n    got(kept)",
        lambda s: [s.secrets / "src/deep/.env.local"],
        leaked,
        before=_masked_again,
        cases=("agent",),
        box="secrets",
    ),
    Attack("a file outside, written", "appends to it", _WRITE, lambda s: [s.outside], written("outside")),
    Attack(
        "the home, written",
        "appends to a file of somebody's home",
        _WRITE,
        lambda s: [s.person / "notes"],
        written("person/notes"),
        before=_copied_person,
    ),
    Attack(
        "the store, written",
        "appends to the daemon's database",
        _WRITE,
        lambda s: [s.database],
        written("state/regrow.db"),
    ),
    Attack(
        "the data, written",
        "appends to the service's database",
        _WRITE,
        lambda s: [s.data],
        written("state/tiny/data/tiny.db"),
    ),
    Attack(
        "the settings, written",
        "appends to regrow.toml",
        _WRITE,
        lambda s: [s.root / "regrow.toml"],
        written("regrow.toml"),
    ),
    Attack(
        "a release, written",
        "appends to a release that runs",
        _WRITE,
        lambda s: [s.released],
        written("state/tiny/releases/r1/serve.py"),
    ),
    Attack(
        "the build of another job",
        "appends to its staging directory",
        _WRITE,
        lambda s: [s.staged],
        written("state/tiny/releases/.staging-2/serve.py"),
    ),
    Attack(
        "the build cache, poisoned",
        "puts something into the cache from which builds are made",
        _WRITE,
        lambda s: [s.cache / "wheel"],
        written("state/tiny/cache/wheel"),
        cases=("agent", "test"),
    ),
    Attack(
        "the cache of another service, poisoned",
        "puts something into it",
        _WRITE,
        lambda s: [s.other_cache / "wheel"],
        written("state/other/cache/wheel"),
    ),
    Attack(
        "the rest of the workspace",
        "writes a file beside the allowed ones",
        _WRITE,
        lambda s: [s.workspace / "config/x"],
        written("{workspace}/config/x"),
    ),
    Attack(
        "a link to write through",
        "writes a file outside through a link of its own",
        _PLACE + "link = place + '/out' + token\nos.symlink(args[2], link)\nopen(link, 'a').write(token)",
        lambda s: [*_own(s), s.outside],
        written("outside"),
    ),
    Attack(
        "the wiped home",
        "deletes everything of a person (F39)",
        "subprocess.run(['rm', '-rf', *args], stderr=subprocess.DEVNULL)",
        lambda s: [s.person],
        _gone,
        before=_copied_person,
    ),
    Attack("accounts", "opens /etc/passwd of the machine to write", _OPEN, lambda s: ["/etc/passwd"], root=True),
    Attack("programs", "opens a program of /usr to write", _OPEN, lambda s: ["/usr/bin/env"], root=True),
    Attack(
        "a set-uid program left behind",
        "makes a file that would be root's and set-uid outside",
        _PLACE + "name = place + '/tool'\nopen(name, 'w').close()\nos.chmod(name, 0o4755)",
        _own,
        _is_set_uid,
        root=True,
        cases=("agent", "build"),
    ),
    Attack(
        "ownership through a link",
        "leaves a link, for whoever changes the owner of all files here",
        _PLACE + "os.symlink(args[2], place + '/owned' + token)",
        lambda s: [*_own(s), s.outside],
        _changed_hands,
        control="none",
        why="the daemon changes owners by chown -P -h, which follows no link; without these it would be the escape",
        cases=("agent", "build"),
    ),
    Attack(
        "a full disk",
        "writes a file larger than allowed",
        _PLACE + "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "os.truncate(open(place + '/large' + token, 'w').name, int(args[2]))",
        lambda s: [*_own(s), _LARGE_BYTES],
        _too_large,
        control="unlimited",
        cases=("agent", "build"),
    ),
    Attack(
        "a full temporary directory",
        "writes more into a temporary directory than it may hold",
        "place = args[0] if os.path.isdir(args[0]) else '/tmp'\n"
        "for n in range(int(args[1]) // (4 << 20)):\n"
        "    open(f'{place}/{token}{n}', 'wb').write(bytes(4 << 20))\ngot()",
        lambda s: [s.person, 2 * TEMPORARY_BYTES],
        before=_copied_person,
    ),
)
