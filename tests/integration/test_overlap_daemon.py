"""A bot with an outbound connection under the whole daemon: deployed by hanging up and connecting, and taken back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from regrow.testing.world import World


async def test_deploy_and_way_back(make_world: Callable[..., Awaitable[World]]) -> None:
    world = await make_world(up=False, service__listen=None)
    words = world.root / "words"
    world.configure({"service.env": {"TINY_WORDS": str(words)}})
    await world.bring_up()

    world.commit({"src/answer.txt": "better\n"})
    job = await world.ended(await world.request("deploy"))
    assert job.status == "done", job.error
    first, second = (line.split()[0] for line in (words.read_text().splitlines()[0], world.short(world.head())))
    said = words.read_text().splitlines()
    assert said[:5] == [
        f"{first} connected",
        f"{second} armed",
        f"{first} draining",
        f"{first} drained",
        f"{second} connected",
    ]

    bad = world.short(world.commit({"faults": "TINY_DIE_AFTER=0.1\n"}))
    job = await world.ended(await world.request("deploy"))
    assert job.status == "undone", job.error
    active = (await world.status()).services[0].active
    assert active is not None
    assert active.version == second
    assert [line for line in words.read_text().splitlines() if line.endswith(" connected")] == [
        f"{one} connected" for one in (first, second, bad, second)
    ]
