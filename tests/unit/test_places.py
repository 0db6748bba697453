from __future__ import annotations

from pathlib import Path

import pytest

from regrow.places import Places

USER = {"HOME": "/home/ann", "XDG_STATE_HOME": "/x/state", "XDG_RUNTIME_DIR": "/run/user/5"}
CASES = [
    (USER, 5, "/x/state/regrow", "/run/user/5/regrow/daemon.sock"),
    ({"HOME": "/home/ann"}, 5, "/home/ann/.local/state/regrow", "/home/ann/.local/state/regrow/run/daemon.sock"),
    ({"HOME": "/root"}, 0, "/var/lib/regrow", "/run/regrow/daemon.sock"),
    (USER, 0, "/x/state/regrow", "/run/user/5/regrow/daemon.sock"),
    (USER | {"XDG_RUNTIME_DIR": "relative"}, 5, "/x/state/regrow", "/home/ann/.local/state/regrow/run/daemon.sock"),
    (USER | {"REGROW_STATE_DIR": "/s", "REGROW_RUNTIME_DIR": "/r"}, 5, "/s", "/r/daemon.sock"),
    (USER | {"REGROW_SOCKET": "/r/other.sock"}, 5, "/x/state/regrow", "/r/other.sock"),
]


@pytest.mark.parametrize(("environment", "uid", "state", "socket"), CASES)
def test_where_things_are(environment: dict[str, str], uid: int, state: str, socket: str) -> None:
    places = Places.of(environment, uid)
    assert (places.state, places.socket) == (Path(state), Path(socket))


def test_nothing_is_in_the_temporary_directory() -> None:
    for environment, uid, _, _ in CASES:
        places = Places.of(environment, uid)
        assert not any(path.is_relative_to("/tmp") for path in (places.state, places.runtime, places.socket))


def test_what_is_inside() -> None:
    places = Places.of({"REGROW_STATE_DIR": "/s"}, 5)
    inside = (places.database, places.daemon_log, places.reports, places.service("claw"))
    assert [str(path) for path in inside] == ["/s/regrow.db", "/s/daemon.log", "/s/reports", "/s/claw"]


@pytest.mark.parametrize(
    ("environment", "uid", "catalogues"),
    [
        ({"HOME": "/home/ann"}, 5, "/home/ann/.config/regrow/catalogues"),
        ({"HOME": "/root"}, 0, "/etc/regrow/catalogues"),
        ({"HOME": "/home/ann", "XDG_CONFIG_HOME": "/x/config"}, 5, "/x/config/regrow/catalogues"),
        ({"HOME": "/root", "REGROW_CATALOGUES": "/c"}, 0, "/c"),
    ],
)
def test_where_further_languages_are(environment: dict[str, str], uid: int, catalogues: str) -> None:
    assert Places.of(environment, uid).catalogues == Path(catalogues)
