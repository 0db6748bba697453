from __future__ import annotations

from pathlib import Path

import pytest

from regrow.git import Repository
from regrow.sandboxes.masks import secret_files, shown_git
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


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("src/app.py", ".env.example", "a/.env.SAMPLE", "regrow.toml", "environment"), True),
        ((".env",), False),
        (("deep/er/.Env.production",), False),
        (("certs/server.key",), False),
    ],
)
async def test_git_is_shown_unless_a_secret_was_ever_committed(
    tmp_path: Path, names: tuple[str, ...], shown: bool
) -> None:
    checkout = Checkout(tmp_path / "live")
    checkout.commit("one", dict.fromkeys(names, "x"))
    checkout.commit("two", {**dict.fromkeys(names), "other": "x"})  # it is gone from the tree, and not from git
    repository = await Repository.open(checkout.path)
    found = await shown_git(repository)
    assert (found == repository.git_dir) is shown
    assert found.exists() is shown


async def test_what_only_the_log_of_a_ref_leads_to_counts(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "live")
    first = checkout.commit("one", {"a": "a"})
    checkout.commit("two", {".env": "x"})
    checkout.git("reset", "--quiet", "--hard", first)
    assert not (await shown_git(await Repository.open(checkout.path))).exists()
