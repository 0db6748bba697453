"""What a start is refused for before anything is done."""

import pytest

from regrow.services.base import Probe, ReleaseSpec, Socket
from regrow.supervisor import spec
from regrow.supervisor.control import Refused


def release(**changes):
    return ReleaseSpec("r1", "d", "c", ("/bin/true",), "/tmp/log", **changes).to_json()


def test_the_defaults_of_both_sides_agree():
    assert spec.check({"id": "r1", "digest": "d", "commit": "c", "argv": ["/bin/true"], "log": "/tmp/log"}) == release()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"handover": "magic"}, "handover must be one of socket, overlap, exclusive"),
        ({"stop_signal": "SIGNOTHING"}, "there is no signal 'SIGNOTHING'"),
        ({"sockets": (Socket("http", "example.org:80"),)}, "the host must be numeric or localhost"),
        ({"sockets": (Socket("a:b", "127.0.0.1:80"),)}, "without a colon"),
        ({"probes": (Probe("p", "http", "/health"),)}, "needs probe_socket"),
        ({"trap_bind": True}, "trap_bind needs handover socket, and sockets"),
        ({"trap_bind": True, "sockets": (Socket("http", "unix:/run/x"),)}, "with TCP addresses"),
        ({"trap_bind": True, "sockets": (Socket("http", "[::]:80"),), "handover": "exclusive"}, "handover socket"),
        ({"probes": (Probe("p", "tcp", "127.0.0.1:80", strikes=0),)}, "must be above zero"),
    ],
)
def test_refusals_say_what_is_wrong(changes, text):
    with pytest.raises(Refused, match=text) as refused:
        spec.check(release(**changes))
    assert refused.value.kind == "bad_release"
    assert str(refused.value).startswith("cannot start release r1")


def test_a_missing_key_is_named():
    with pytest.raises(Refused, match="'argv' is missing"):
        spec.check({"id": "r1", "log": "/tmp/log"})


def test_the_environment_holds_nothing_of_the_supervisors_own_but_the_harmless(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = spec.environment(release(env={"A": "1"}), {"B": "2"})
    assert "SOME_TOKEN" not in environment
    assert environment | {"A": "1", "B": "2", "LANG": "C.UTF-8", "REGROW_RELEASE": "r1"} == environment
