from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from regrow.errors import ConfigError, ProcessError, ProcessTimeout, Refused
from regrow.sandboxes import SANDBOXES, sandbox
from regrow.sandboxes.base import Box
from regrow.sandboxes.bubblewrap import BubblewrapSandbox


@pytest.fixture
def box() -> BubblewrapSandbox:
    return BubblewrapSandbox()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    (path / "src").mkdir(parents=True)
    (path / "src" / "a").write_text("a\n")
    return path


async def test_every_driver_loads_and_proves_itself() -> None:
    for name in SANDBOXES:
        made = sandbox(name)
        assert made.name == name
        await made.check()
    with pytest.raises(ConfigError, match="cannot use the sandbox 'jail'"):
        sandbox("jail")


@pytest.mark.parametrize("name", sorted(SANDBOXES))
async def test_any_driver_talks_to_commands(name: str, workspace: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    box = Box(workspace=workspace, writable=[workspace / "src"], home=home, env={"COLOUR": "green"})
    script = 'read word; echo "$COLOUR $word $(pwd)"; touch "$HOME/kept"; echo complaint >&2; exit 3'
    async with sandbox(name).talk(["sh", "-c", script], box) as talk:
        assert talk.stdin is not None and talk.stdout is not None
        talk.stdin.write(b"word\n")
        assert (await talk.stdout.read()).decode() == f"green word {workspace}\n"
        assert await talk.ended() == 3
    assert talk.complaints == "complaint\n"
    assert (home / "kept").exists()
    async with sandbox(name).talk(["cat"], box) as talk:
        pass
    assert talk.code is not None


async def test_everything_in_a_box_ends_when_nobody_talks_to_it_any_more(
    box: BubblewrapSandbox, workspace: Path
) -> None:
    # A session of its own, in which no signal to the group arrives; it writes for as long as it lives.
    script = "setsid sh -c 'while :; do date +%N >src/a; done' & read word"
    async with box.talk(["sh", "-c", script], Box(workspace=workspace, writable=[workspace / "src"])) as talk:
        while (workspace / "src" / "a").read_text() == "a\n":
            await asyncio.sleep(0)
    assert talk.code is not None
    (workspace / "src" / "a").write_text("mine\n")
    async with box.talk(["true"], Box(workspace=workspace)) as talk:
        await talk.ended()
    assert (workspace / "src" / "a").read_text() == "mine\n"


async def test_a_box_that_cannot_be_made_is_no_talk(workspace: Path, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo bubblewrap 0.8.0 && exit\necho bwrap: no such mount >&2; exit 1\n"
    )
    fake.chmod(0o755)
    box = BubblewrapSandbox(program=str(fake))
    with pytest.raises(ProcessError, match=r"cannot make the box.*no such mount") as caught:
        async with box.talk(["true"], Box(workspace=workspace)) as talk:
            await talk.ended()
    assert caught.value.kind == "box_failed"
    with pytest.raises(ProcessError, match="cannot make the box"):
        async with box.talk(["true"], Box(workspace=workspace)) as talk:
            await talk.ended()
            raise ConnectionResetError("the other side is gone")


@pytest.mark.parametrize("name", sorted(SANDBOXES))
async def test_any_driver_runs_commands(name: str, workspace: Path, tmp_path: Path) -> None:
    made = sandbox(name)
    home = tmp_path / "home"
    home.mkdir()
    toolchain = tmp_path / "toolchain"
    (toolchain / "bin").mkdir(parents=True)
    (toolchain / "bin" / "tool").write_text("#!/bin/sh\necho tool ran\n")
    (toolchain / "bin" / "tool").chmod(0o755)
    lines: list[str] = []
    box = Box(
        workspace=workspace,
        writable=[workspace / "src"],
        readable=[toolchain],
        home=home,
        env={"COLOUR": "green"},
        file_bytes=1 << 20,
        processes=64,
        nice=5,
    )
    script = (
        'cat src/a; tool; echo $COLOUR; cat; nice; pwd; ulimit -f; touch src/new "$HOME/kept"; echo err >&2; exit 3'
    )
    done = await made.run(["sh", "-c", script], box, timeout_s=20, stdin=b"fed\n", on_line=lines.append)
    assert done.code == 3
    assert lines == ["a", "tool ran", "green", "fed", "5", str(workspace), "2048", "err"]
    assert done.argv[0] == "sh"
    assert (workspace / "src" / "new").exists()
    assert (home / "kept").exists()


@pytest.mark.parametrize("name", sorted(SANDBOXES))
async def test_a_command_that_cannot_start_is_told_by_its_code(name: str, workspace: Path) -> None:
    made = sandbox(name)
    assert (await made.run(["absent-program"], Box(workspace=workspace), timeout_s=20)).code == 127
    assert (await made.run([str(workspace / "src" / "a")], Box(workspace=workspace), timeout_s=20)).code == 126


@pytest.mark.parametrize("name", sorted(SANDBOXES))
async def test_a_command_that_hangs_is_ended(name: str, workspace: Path) -> None:
    with pytest.raises(ProcessTimeout) as caught:
        await sandbox(name).run(["sh", "-c", "echo begun; sleep 1000"], Box(workspace=workspace), timeout_s=1)
    assert "begun" in caught.value.log


async def test_a_missing_program_is_refused_with_what_to_install(workspace: Path) -> None:
    absent = BubblewrapSandbox(program="bwrap-absent")
    for attempt in (absent.check(), absent.run(["true"], Box(workspace=workspace), timeout_s=5)):
        with pytest.raises(Refused, match="install") as caught:
            await attempt
        assert caught.value.kind == "no_sandbox"


@pytest.mark.parametrize(
    ("answer", "why"),
    [("bubblewrap 0.4.1", "older"), ("who knows", "older")],
)
async def test_an_old_program_is_refused(tmp_path: Path, workspace: Path, answer: str, why: str) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\necho '{answer}'\n")
    fake.chmod(0o755)
    with pytest.raises(Refused, match=why) as caught:
        await BubblewrapSandbox(program=str(fake)).check()
    assert caught.value.kind == "no_sandbox"


@pytest.mark.parametrize(
    ("said", "error", "kind"),
    [
        ("bwrap: No permissions to create new namespace, likely because the kernel", Refused, "no_sandbox"),
        ("bwrap: setting up uid map: Permission denied", Refused, "no_sandbox"),
        ("bwrap: Can't mount tmpfs on /x: No such file", ProcessError, "box_failed"),
    ],
)
async def test_a_box_that_cannot_be_made_is_no_result(
    tmp_path: Path, workspace: Path, said: str, error: type[Exception], kind: str
) -> None:
    """bwrap ends with 1 when it fails: taken for the command's code it would be a bug that reproduces."""
    fake = tmp_path / "bwrap"
    fake.write_text(
        f"""#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\necho "{said}" >&2\nexit 1\n"""
    )
    fake.chmod(0o755)
    with pytest.raises(error) as caught:
        await BubblewrapSandbox(program=str(fake)).run(["true"], Box(workspace=workspace), timeout_s=5)
    assert getattr(caught.value, "kind", "") == kind


async def test_a_leaking_program_fails_the_check(tmp_path: Path) -> None:
    """A bwrap that makes no box at all, and reports as the real one does."""
    fake = tmp_path / "bwrap"
    fake.write_text(
        """#!/bin/bash
[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit
while [ "$1" != -- ]; do [ "$1" = --json-status-fd ] && fd=$2; [ "$1" = --chdir ] && cd "$2"; shift; done
shift; "$@"; code=$?; echo "{\\"exit-code\\": $code}" >&$fd; exit $code
"""
    )
    fake.chmod(0o755)
    with pytest.raises(Refused, match="cannot trust the box") as caught:
        await BubblewrapSandbox(program=str(fake)).check()
    text = str(caught.value)
    assert caught.value.kind == "no_sandbox"
    for leak in ("network", "read-only workspace", "outside was written"):
        assert leak in text


async def test_paths_that_a_box_must_not_have(box: BubblewrapSandbox, workspace: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(workspace)
    state = tmp_path / "state"
    (state / "secrets").mkdir(parents=True)
    guarded = BubblewrapSandbox(protected=[state / "secrets"])
    bad = [
        Box(workspace=link),
        Box(workspace=workspace, writable=[link / "src"]),
        Box(workspace=workspace, writable=[workspace / "absent"]),
        Box(workspace=workspace, writable=[workspace / "src" / "a"]),
        Box(workspace=workspace, writable=[workspace / "src" / ".." / ".." / "link"]),
        Box(workspace=Path("relative")),
        Box(workspace=Path("/")),
        Box(workspace=workspace, writable=[Path("/etc")]),
        Box(workspace=workspace, readable=[Path("/")]),
        Box(workspace=workspace, readable=[Path("/var")]),
        Box(workspace=workspace, readable=[Path.home()]),
        Box(workspace=workspace, home=Path.home()),
        Box(workspace=workspace, readable=[tmp_path / "absent"]),
        Box(workspace=workspace, readable=[state]),
        Box(workspace=workspace, writable=[state / "secrets"]),
    ]
    for one in bad:
        with pytest.raises(Refused) as caught:
            await guarded.run(["true"], one, timeout_s=5)
        assert caught.value.kind == "box_path", one


async def test_a_writable_directory_that_became_a_link_is_refused(box: BubblewrapSandbox, workspace: Path) -> None:
    one = Box(workspace=workspace, writable=[workspace / "src"])
    await box.run(["true"], one, timeout_s=20)
    (workspace / "src").rename(workspace / "away")
    (workspace / "src").symlink_to("/etc")
    with pytest.raises(Refused) as caught:
        await box.run(["true"], one, timeout_s=20)
    assert caught.value.kind == "box_path"


async def test_a_readable_link_is_seen_under_both_names(
    box: BubblewrapSandbox, workspace: Path, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "file").write_text("seen\n")
    link = tmp_path / "alias"
    link.symlink_to(real)
    done = await box.run(
        ["cat", f"{link}/file", f"{real}/file"], Box(workspace=workspace, readable=[link]), timeout_s=20
    )
    assert done.output == "seen\nseen\n"


async def test_masks_read_as_empty(box: BubblewrapSandbox, workspace: Path) -> None:
    (workspace / "src" / ".env").write_text("canary\n")
    (workspace / "keys").mkdir()
    (workspace / "keys" / "one").write_text("canary\n")
    (workspace / "alias").symlink_to("src/.env")
    one = Box(
        workspace=workspace,
        writable=[workspace / "src"],
        masked=[workspace / "src" / ".env", workspace / "keys", workspace / "absent", Path("/etc/passwd")],
    )
    script = "cat src/.env alias; ls keys; [ -f src/.env ] && rm -f src/.env; echo x >src/.env; true"
    done = await box.run(["sh", "-c", script], one, timeout_s=20)
    assert "canary" not in done.output
    assert "one" not in done.output.split()
    assert (workspace / "src" / ".env").read_text() == "canary\n"


async def test_a_signal_is_told_as_a_shell_does(box: BubblewrapSandbox, workspace: Path) -> None:
    done = await box.run(["sh", "-c", "kill -SEGV $$"], Box(workspace=workspace), timeout_s=20)
    assert done.code == 128 + 11
