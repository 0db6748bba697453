"""What `regrow doctor` tries of a machine."""

from __future__ import annotations

import dataclasses

import pytest

from regrow import doctor
from regrow.api.types import Finding
from regrow.places import Places
from regrow.services.embedded import EmbeddedService
from regrow.testing.parts import Parts


async def found(parts: Parts, trap_bind: bool) -> list[Finding]:
    """What is said of the trap."""
    config = parts.care.config
    service = config.service.model_copy(update={"trap_bind": trap_bind})
    care = dataclasses.replace(parts.care, config=config.model_copy(update={"service": service}))
    root = config.path.parent
    places = Places(state=root, runtime=root, socket=root / "regrow.sock")
    return [one for one in await doctor.findings(places, {"tiny": care}, {}) if one.name == "tiny: trap_bind"]


async def test_the_trap_is_tried_for_a_service_that_asks_for_it(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await found(parts, trap_bind=False) == []
    assert await found(parts, trap_bind=True) == [Finding(name="tiny: trap_bind", ok=True, detail="a bind is trapped")]
    monkeypatch.setattr(EmbeddedService, "interpreter", ("/bin/sh", "-c", "printf 'its kernel is old'; exit 5"))
    [finding] = await found(parts, trap_bind=True)
    assert (finding.ok, finding.detail) == (False, "this machine cannot do it: its kernel is old")
    assert finding.mend == 'use handover = "exclusive", without trap_bind and [service.listen]'
