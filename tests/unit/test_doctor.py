"""What `regrow doctor` tries of a machine."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from pathlib import Path

import pytest

from regrow import doctor
from regrow.api.types import Finding
from regrow.config import ModelSection
from regrow.models.gateway import ModelGateway
from regrow.places import Places
from regrow.sandboxes.base import Attempt, Sandbox
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.sandboxes.unconfined import UnconfinedSandbox
from regrow.services.embedded import EmbeddedService
from regrow.testing.model_api import ModelApi
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


async def test_the_model_is_asked_for_what_costs_nothing(parts: Parts, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(token := secrets.token_urlsafe(12))
    key.chmod(0o600)
    root = parts.care.config.path.parent
    places = Places(state=root, runtime=root, socket=root / "regrow.sock")

    async def said() -> Finding:
        found = await doctor.findings(places, {"tiny": care}, {})
        return next(one for one in found if one.name == "tiny: model")

    async with ModelApi(key=token) as api:
        model = {"kind": "anthropic", "models": ["m"], "base_url": api.base_url, "key": f"file:{key}", "budget": 0}
        gateway = ModelGateway(ModelSection.model_validate(model), {}, tmp_path)
        care = dataclasses.replace(parts.care, models=gateway)
        host = api.base_url.removeprefix("http://")
        assert await said() == Finding(name="tiny: model", ok=True, detail=f"{host} answers and takes the key")
        key.chmod(0o644)
        assert "chmod 600" in (await said()).mend
        key.write_text("another")
        assert (await said()).detail.startswith(f"cannot use the model: {host} refuses the key (401)")
        key.unlink()
        assert "there is no such file" in (await said()).detail
        assert api.asked == []
    key.write_text(token)
    assert (await said()).detail.startswith(f"cannot reach {host}")


async def boxes(parts: Parts, sandbox: Sandbox) -> list[Finding]:
    """What is said of the box."""
    care = dataclasses.replace(parts.care, sandbox=sandbox)
    root = care.config.path.parent
    places = Places(state=root, runtime=root, socket=root / "regrow.sock")
    return [one for one in await doctor.findings(places, {"tiny": care}, {}) if one.name.startswith("tiny: sandbox")]


class Leaking(BubblewrapSandbox):
    """A box that says of itself that it has a hole."""

    async def prove(self) -> Sequence[Attempt]:
        return [Attempt("the network", False, "it was reached"), Attempt("a mount", True)]

    async def held_limits(self) -> frozenset[str]:
        return frozenset({"pids"})


async def test_the_box_tries_to_get_out_and_every_attempt_is_a_line(parts: Parts) -> None:
    summary, *lines = await boxes(parts, BubblewrapSandbox())
    assert summary.ok
    count = len(lines) - 1  # the last is of the limits
    assert count > 12
    assert summary.detail == f"bubblewrap: {count} of {count} ways out are closed"
    assert all(line.ok and line.detail == "held" for line in lines[:-1])
    assert {"tiny: sandbox: the network of this machine", "tiny: sandbox: capabilities"} <= {one.name for one in lines}
    assert lines[-1].name == "tiny: sandbox: limits"


async def test_a_hole_is_named_and_weaker_limits_are_said(parts: Parts) -> None:
    summary, hole, held, limits = await boxes(parts, Leaking())
    assert (summary.ok, summary.detail) == (False, "bubblewrap: 1 of 2 ways out are closed")
    assert (hole.name, hole.ok, hole.detail) == ("tiny: sandbox: the network", False, "it was reached")
    assert held.ok
    assert (limits.ok, limits.detail) == (True, "memory is limited for each process and not for all together")


async def test_no_box_is_a_finding(parts: Parts) -> None:
    [finding] = await boxes(parts, UnconfinedSandbox())
    assert (finding.ok, finding.mend) == (False, 'set [sandbox] driver = "bubblewrap"')
    [finding] = await boxes(parts, BubblewrapSandbox(program="bwrap-absent"))
    assert not finding.ok
    assert "not installed" in finding.detail


async def test_rules_for_a_chat_in_which_nobody_spoke_are_named(parts: Parts) -> None:
    """A misspelt chat would protect nothing, and no file can tell."""
    [before] = [await doctor.rule(parts.store, "memory:team")]
    assert (before.ok, "correct the name" in before.mend) == (False, True)
    await parts.inbox.take(parts.message("hello", "m1", chat="team/thread"))
    assert (await doctor.rule(parts.store, "memory:team")).ok
    assert not (await doctor.rule(parts.store, "memory:tea_")).ok, "no pattern"
