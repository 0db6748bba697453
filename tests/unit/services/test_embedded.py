"""F1: whose control group is whose, from given texts."""

import pytest

from regrow.services.embedded import own_cgroup_refusal

SERVICE = "0::/system.slice/claw.service\n"


@pytest.mark.parametrize(
    ("own", "service", "refused"),
    [
        (SERVICE, SERVICE, True),
        ("0::/system.slice/claw.service/worker\n", SERVICE, True),
        ("0::/system.slice/regrow.service\n", SERVICE, False),
        ("0::/system.slice/regrow.service\n", "0::/system.slice/regrow.service\n", False),
        ("0::/system.slice/claw@2.service\n", "0::/system.slice/claw@2.service\n", True),
        ("0::/system.slice/claw.service-other\n", SERVICE, False),
        ("0::/\n", "0::/\n", False),
        ("0::/user.slice/session-1.scope\n", "0::/user.slice/session-1.scope\n", False),
        ("0::/docker/abc\n", "0::/docker/abc\n", False),
        ("0::/a/regrow-claw.supervisor.service\n", "0::/a/regrow-claw.supervisor.service\n", True),
        ("0::/a/regrow-claw@x.service\n", "0::/a/regrow-claw@x.service\n", True),
        ("9:name=systemd:/system.slice/claw.service\n0::/\n", "1:name=systemd:/system.slice/claw.service\n", True),
        ("", "", False),
    ],
)
def test_f01_a_daemon_inside_the_services_own_group_is_refused(own, service, refused):
    text = own_cgroup_refusal(own, service, "claw")
    assert bool(text) is refused
    assert text is None or text.startswith("cannot care for")
