"""What a confined command sees is decided by the order of its mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow import confinement
from regrow.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    state, runtime = tmp_path / "state", tmp_path / "state" / "run"
    (state / "claw" / "releases").mkdir(parents=True)
    (state / "claw" / "data").mkdir()
    (state / "claw" / "supervisor.json").touch()
    runtime.mkdir()
    return Places(state, runtime, runtime / "daemon.sock")


def mounts(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


def test_the_state_is_hidden_and_the_services_own_data_is_not(places: Places) -> None:
    data = places.state / "claw" / "data"
    words = confinement.argv(["true", "--bind"], places, {"REGROW_STATE": str(data), "XDG_RUNTIME_DIR": "/nowhere"})
    assert str(places.state) in mounts(words, "--tmpfs")
    assert str(places.runtime) not in words, "it lies in what is hidden already"
    assert words.index(str(places.state)) < words.index(str(data))
    assert mounts(words, "--ro-bind") == [str(places.state / "claw" / "releases")]
    assert str(places.state) in mounts(words, "--remount-ro")
    assert words[-3:] == ["--", "true", "--bind"]


def test_the_state_around_the_data_counts_too(places: Places, tmp_path: Path) -> None:
    elsewhere = Places(tmp_path / "none", tmp_path / "none", tmp_path / "none" / "daemon.sock")
    data = places.state / "claw" / "data"
    words = confinement.argv(["true"], elsewhere, {"REGROW_STATE": str(data)})
    assert str(places.state) in mounts(words, "--tmpfs")
    words = confinement.argv(["true"], elsewhere, {})
    assert str(places.state) not in words


def test_a_socket_is_hidden_as_the_file_that_it_is(places: Places, tmp_path: Path) -> None:
    (tmp_path / "other.sock").touch()
    words = confinement.argv(["true"], Places(places.state, places.runtime, tmp_path / "other.sock"), {})
    at = words.index(str(tmp_path / "other.sock"))
    assert words[at - 2 : at] == ["--ro-bind", "/dev/null"]
