"""Which version of Regrow is in use: links that change at once, and a hand-over that never goes round in circles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regrow import versions as module
from regrow.errors import Refused
from regrow.versions import STAY, Version, Versions


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


def installed(versions: Versions, name: str, number: str) -> Version:
    """As `install` leaves it, without an interpreter."""
    path = versions.root / name
    path.mkdir(parents=True)
    (path / "regrow-version").write_text(number)
    return Version(path, number)


def test_nothing_is_in_use_before_the_first_upgrade(versions: Versions) -> None:
    assert versions.in_use() is None
    assert versions.newer() is None
    assert versions.refused() is None
    versions.prune()


def test_back_returns_to_what_was_before_and_then_to_the_installed_one(versions: Versions) -> None:
    first, second = installed(versions, "1", "99.1"), installed(versions, "2", "99.2")
    versions.use(first)
    versions.use(second)
    assert versions.in_use() == second
    versions.back()
    assert versions.in_use() == first
    versions.back()
    assert versions.in_use() is None


def test_a_half_made_environment_is_never_in_use(versions: Versions) -> None:
    made = installed(versions, "1", "99.1")
    versions.use(made)
    (made.path / "regrow-version").unlink()
    assert versions.in_use() is None


@pytest.mark.parametrize(
    ("number", "hands_over"), [("0.0.9", False), ("0.1.0", False), ("0.1.1", True), ("0.10", True), ("1.0rc1", True)]
)
def test_only_a_newer_version_is_handed_over_to(
    versions: Versions, monkeypatch: pytest.MonkeyPatch, number: str, hands_over: bool
) -> None:
    monkeypatch.setattr(module, "__version__", "0.1.0")
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, argv: became.append(argv))
    made = installed(versions, "1", number)
    versions.use(made)
    versions.hand_over("regrow.cli", ["status"])
    expected = [[str(made.python), "-P", "-m", "regrow.cli", "status"]] if hands_over else []
    assert became == expected
    monkeypatch.setenv(STAY, "1")
    versions.hand_over("regrow.cli", ["status"])
    assert became == expected, "told to stay, it stays"


def test_pruning_keeps_what_is_in_use_and_what_was_before(versions: Versions) -> None:
    made = [installed(versions, str(number), f"99.{number}") for number in range(1, 5)]
    versions.use(made[1])
    versions.use(made[3])
    versions.prune()
    assert sorted(path.name for path in versions.root.iterdir()) == ["2", "4", "current", "previous"]


def test_what_was_refused_is_told_once(versions: Versions) -> None:
    versions.root.mkdir()
    versions.refuse("99.1", "it ended before it was ready")
    assert versions.refused() == {"version": "99.1", "cause": "it ended before it was ready"}
    assert versions.refused() is None


def test_an_install_that_fails_leaves_nothing(
    versions: Versions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Refused, match="cannot install it") as error:
        versions.install(str(tmp_path / "nowhere.whl"))
    assert error.value.kind == "install"
    assert list(versions.root.iterdir()) == []
