"""A question that is asked back, answered by its buttons: on the console's page and in Feishu."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.test_feishu_daemon import World as FeishuWorld
from tests.integration.test_feishu_daemon import history, root, until

from regrow.api.types import Message
from regrow.testing.feishu import FeishuEmulator, Settings
from regrow.testing.world import World, eventually

__all__ = ["history", "root"]  # fixtures of the tests of Feishu


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    try:
        await made.bring_up()
        yield made
    finally:
        await made.close()


async def question(world: World, text: str, chat: str) -> Message:
    """What is asked back, with its buttons."""
    said = await world.tell(text, chat)

    async def there() -> Message | None:
        return next((one for one in await world.heard(said) if one.buttons), None)

    return await eventually(there, f"a question about {text!r}")


async def press(world: World, message: Message, action: str) -> tuple[bool, str]:
    result = await asyncio.to_thread(lambda: world.client().press(message.id, action))
    return result.ok, result.text


async def test_on_the_page_a_button_is_the_words_it_stands_for(world: World) -> None:
    chat = world.new_chat()
    first = await question(world, "set drain to 3s", chat)
    yes, no = (button.action for button in first.buttons)
    assert await press(world, first, yes) == (True, "")

    async def changed() -> bool:
        return 'drain = "3s"' in world.config.read_text()

    await eventually(changed, "the setting is changed")
    (job,) = [one for one in await world.jobs() if one.kind == "configure"]
    assert (await world.ended(job.id)).status == "done"
    # Answered, it shows no buttons any more, and pressing one that somebody still sees does nothing.
    ok, why = await press(world, first, yes)
    assert not ok
    assert "changed meanwhile" in why
    second = await question(world, "set drain to 4s", chat)
    assert await press(world, second, no) == (True, "")

    async def dropped() -> bool:
        return any("nothing was done" in one.text for one in await world.heard(second))

    await eventually(dropped, "the answer to no")
    third = await question(world, "set drain to 4s", chat)
    await world.answer("status", chat)  # anything else said makes the question void
    ok, _ = await press(world, third, yes)
    assert not ok
    assert 'drain = "3s"' in world.config.read_text()
    assert len([one for one in await world.jobs() if one.kind == "configure"]) == 1


@pytest.fixture
async def feishu(root: Path, history: Path) -> AsyncIterator[FeishuWorld]:
    async with FeishuEmulator(Settings(speed=1.0, ping_interval=2)) as emulator:
        made = FeishuWorld(root, history, emulator)
        try:
            await made.start()
            yield made
        finally:
            await asyncio.to_thread(made.end)


async def test_in_feishu_only_who_was_asked_answers_and_once(feishu: FeishuWorld) -> None:
    config = feishu.root / "regrow.toml"
    asked = await feishu.olga.say(feishu.group, "@bot 把观察时间改成 700 毫秒")
    shown = await feishu.see(feishu.group, "700ms", after=asked)
    assert '+bake = "700ms"' in shown.text
    await feishu.recorded(shown)
    for other in (feishu.vera, feishu.stan):
        click = await other.click(shown, "修改", confirm=True)
        assert (click.toast or {}).get("type") == "error"
    assert 'bake = "500ms"' in config.read_text()
    click = await feishu.olga.click(shown, "修改", confirm=True)
    assert (click.toast or {}).get("type") != "error"
    await feishu.see(feishu.group, "设置已修改", after=asked)
    assert 'bake = "700ms"' in config.read_text()
    await until(lambda: "[修改]" not in shown.text, "the question without buttons")
    again = await feishu.olga.forge(shown, {"action": "say:yes"})
    assert (again.toast or {}).get("type") == "error"
    assert len(feishu.jobs("configure")) == 1
