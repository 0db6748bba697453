"""Programs with a hard-coded port that know nothing of Regrow: two copies behind one socket."""

import pytest

from regrow.services.base import Probe
from regrow.testing.service_driver import drive_service
from regrow.testing.service_system import ServiceSystem


@pytest.fixture
async def system(tmp_path):
    system = ServiceSystem(tmp_path)
    yield system
    await system.service.close(keep_service=False)


def trapped(system, version, env=None, **changes):
    """The tiny service, binding its port itself."""
    health = Probe("health", "http", f"http://127.0.0.1:{system.port}/health", interval_s=0.05, version_json="version")
    wanted = {"trap_bind": True, "standby": "running", "ready": "probe", "probes": (health,), "probe_socket": False}
    return system.release(version, {"TINY_PORT": str(system.port), **(env or {})}, **wanted | changes)


@pytest.mark.parametrize("standby", ["running", "none"])
async def test_life(system, standby):
    good, better, bad = (
        trapped(system, version, env, standby=standby)
        for version, env in (("1", {}), ("2", {}), ("3", {"TINY_DIE_AFTER": "2"}))
    )
    await drive_service(system.service, good, better, bad)
