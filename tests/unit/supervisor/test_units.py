"""Names, commands and ends of units, from given texts; real ones are in the integration tests."""

import pytest

from regrow.supervisor import units
from regrow.supervisor.control import Refused


def test_a_start_has_a_unit_of_its_own():
    assert units.unit_of("claw", "job-12.candidate_a:b") == "regrow-claw@job-12.candidate_a:b.service"


@pytest.mark.parametrize("token", ["", "a b", "../a", "a/b", "a@b", "a\n", "%i", "é"])
def test_a_token_that_would_name_another_unit_is_refused(token):
    with pytest.raises(Refused) as refused:
        units.unit_of("claw", token)
    assert refused.value.kind == "bad_request"


def test_a_command_asks_nobody_for_a_password():
    assert units.argv("user", "start", "x") == ["systemctl", "--user", "--no-ask-password", "start", "x"]
    assert units.argv("system", "start", "x") == ["systemctl", "--no-ask-password", "start", "x"]


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("Result=exit-code\nExecMainCode=1\nExecMainStatus=3\n", "exit code 3"),
        ("Result=success\nExecMainCode=1\nExecMainStatus=0\n", "exit code 0"),
        ("Result=signal\nExecMainCode=2\nExecMainStatus=9\n", "killed by SIGKILL"),
        ("Result=core-dump\nExecMainCode=3\nExecMainStatus=11\n", "killed by SIGSEGV"),
        ("Result=watchdog\nExecMainCode=2\nExecMainStatus=6\n", "it did not say WATCHDOG=1 in time"),
        ("Result=timeout\nExecMainCode=2\nExecMainStatus=15\n", "not ready in time (no READY=1)"),
        ("Result=resources\nExecMainCode=0\nExecMainStatus=0\n", "systemd could not run it (resources)"),
        ("", "systemd could not run it (no result)"),
    ],
)
def test_how_a_unit_ended_in_words(shown, words):
    assert units.how_it_ended(units.properties(shown)) == words
