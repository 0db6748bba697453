"""The first words: only the code counts, and what else is said comes again to the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from regrow.channels.feishu.api import Api, App
from regrow.channels.feishu.greeting import Greeting
from regrow.channels.feishu.lease import lease
from regrow.errors import Refused
from regrow.secret import Secret
from regrow.testing.feishu import FeishuEmulator, Settings

WITHIN_S = 20.0


@pytest.fixture
async def feishu() -> AsyncIterator[FeishuEmulator]:
    settings = Settings.quick()
    settings.running = False  # a delivery that failed is not tried again before somebody says so
    async with FeishuEmulator(settings) as one:
        yield one


@pytest.fixture
async def greeting(feishu: FeishuEmulator) -> AsyncIterator[Greeting]:
    app = App(feishu.app.app_id, Secret(feishu.app.secret), feishu.base_url)
    api = Api(app)
    async with Greeting(app, api, "zh") as one:
        assert await one.opened(WITHIN_S) == ""
        yield one
    await api.close()


async def test_only_the_code_counts_and_the_rest_stays_for_the_daemon(
    feishu: FeishuEmulator, greeting: Greeting
) -> None:
    ada, stan = feishu.user("Ada"), feishu.user("Stan")
    other = await stan.say(stan.private(), "12 34")
    guest = feishu.user("Guest", guest=True)
    await guest.say(guest.private(), greeting.code)
    group = feishu.group("ops", [ada, stan])
    mine = await ada.say(group, f"@bot {greeting.code[:4]}-{greeting.code[4:]}")
    said = await greeting.hear(WITHIN_S)
    assert said is not None
    assert (said.sender_open, said.sender_union, said.chat) == (ada.open_id(), ada.union_id, group.id)
    assert [delivery.attempts for delivery in await feishu.delivered(mine)] == [["200"]]
    (delivery,) = feishu.deliveries(other)
    assert (delivery.attempts, delivery.outcome) == (["500"], "pending")
    assert await greeting.hear(0) is None


async def test_a_press_of_its_own_button_counts_and_no_other(feishu: FeishuEmulator, greeting: Greeting) -> None:
    ada = feishu.user("Ada")
    await greeting.test(ada.open_id())
    card = await feishu.wait_for(ada.private(), "Regrow 已接入这个会话")
    await ada.forge(card, {"action": "setup:00"})
    assert not await greeting.pressed(0)
    click = await ada.click(card, "可以用")
    assert (click.shown, click.text) == ("toast", "Regrow 已接入，按钮也能用。")
    assert await greeting.pressed(WITHIN_S)
    assert "按钮也能用" in feishu.transcript(ada.private())
    feishu.verify()


async def test_a_connection_that_another_process_has_is_not_opened(feishu: FeishuEmulator) -> None:
    app = App(feishu.app.app_id, Secret(feishu.app.secret), feishu.base_url)
    api = Api(app)
    with lease(app.base_url, app.app_id):
        with pytest.raises(Refused) as refused:
            async with Greeting(app, api, "en"):
                pass
        assert refused.value.kind == "locked"
    await api.close()
    assert feishu.gateway.connections == []


async def test_a_refusal_for_good_ends_the_waiting(feishu: FeishuEmulator) -> None:
    app = App(feishu.app.app_id, Secret(feishu.app.secret), feishu.base_url)
    api = Api(app)
    feishu.fail_next("POST /callback/ws/endpoint", 200, 1000040345, msg="not this way")
    async with Greeting(app, api, "en") as greeting:
        assert "not this way" in await greeting.opened(WITHIN_S)
    await api.close()
