"""A release that lives and takes no input fails its job; what failed before it came does not (F23)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regrow.testing.world import World, eventually

TALK = {"type": "chat", "target": "are you there", "expect": "^re are you there$", "timeout": "500ms", "strikes": 2}


async def talked_to(make_world: Any, **env: str) -> tuple[World, Path]:
    """A world whose releases must answer in the chat."""
    world = await make_world(up=False)
    told = world.forward()
    world.configure({"probe.talk": TALK, "service.env": env})
    await world.bring_up()
    return world, told


async def test_f23_a_release_that_answers_its_health_path_and_no_message_is_taken_back(make_world: Any) -> None:
    world, told = await talked_to(make_world)
    before = await world.version()
    bad = world.commit({"faults": "TINY_DEAF_FILE=/\n"})
    async with world.traffic() as seen:
        text = await world.say("build and restart")
    assert text.startswith(f"↩️ The new version {world.short(bad)} went wrong; {before} is back."), text
    assert "Cause: probe talk: no answer within 0.5 s" in text
    assert await world.version() == before
    assert (seen.refused, seen.cut) == (0, 0)
    assert "regrow:canary" in told.read_text()
    assert "marked bad" in await world.answer("build and restart"), "it was not pinned"


async def test_f23_a_release_that_answers_something_else_is_taken_back(make_world: Any) -> None:
    world, _ = await talked_to(make_world)
    before = await world.version()
    world.commit({"faults": "TINY_ANSWER=what?\n"})
    assert "probe talk: it answered 'what?', not '^re are you there$'" in await world.say("build and restart")
    assert await world.version() == before


async def test_f23_a_deaf_service_can_be_repaired_and_one_that_stays_deaf_is_told(
    make_world: Any, tmp_path: Path
) -> None:
    deaf = tmp_path / "deaf"
    world, _ = await talked_to(make_world, TINY_DEAF_FILE=str(deaf))
    deaf.touch()
    text = await world.say("restart")
    assert "- probe that failed before and still does: talk" in text
    made = world.commit({"src/count.txt": "1\n", "faults": "TINY_DEAF_FILE=/no/such\n"})
    text = await world.say("build and restart")
    assert text.startswith(f"✅ Back online, version: {world.short(made)}"), text
    assert "- probe that failed before and passes now: talk" in text


async def test_f23_a_service_whose_probe_fails_already_is_deployed_and_that_is_told(
    make_world: Any, tmp_path: Path
) -> None:
    fail = tmp_path / "fail"
    world = await make_world(up=False)
    world.configure({"service.env": {"TINY_FAIL_FILE": str(fail)}})
    await world.bring_up()
    fail.touch()

    async def failing() -> bool:
        return any(not probe.ok for probe in (await world.status()).services[0].probes)

    await eventually(failing, "the probe fails")
    # As many strikes as the probe has: the job begins when it counts as failing.
    await eventually(lambda: counted(world), "the probe counts as failing")
    made = world.commit({"src/count.txt": "1\n"})
    text = await world.say("build and restart")
    assert text.startswith(f"✅ Back online, version: {world.short(made)}"), text
    assert "- probe that failed before and still does: health" in text


async def counted(world: World) -> bool:
    journal = (world.directory / "events.jsonl").read_text()
    return '"unhealthy"' in journal
