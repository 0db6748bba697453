"""An app whose long connection belongs to the bot itself: Regrow tells by HTTP alone and asks by links."""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.integration.test_feishu_daemon import BUG, REPRODUCTION, World, history, root, until

from regrow.api.client import Client
from regrow.api.types import Accepted, RequestBody
from regrow.testing.feishu import FeishuEmulator, Settings

__all__ = ["history", "root"]  # fixtures of the tests of an app that is heard


class Unheard(World):
    """The same world, in which the bot asks by its tools and never shares its connection."""

    def unheard(self) -> None:
        path = self.root / "regrow.toml"
        more = f'\n[mcp]\nrole = "maintainer"\nnotify = ["feishu:{self.group.id}"]\n'
        path.write_text(path.read_text().replace("[channels.feishu]\n", "[channels.feishu]\nlisten = false\n") + more)

    async def start_again(self) -> None:
        """Start the daemon; no connection tells that it is there."""
        with (self.root / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "regrow.daemon", "--config", str(self.root / "regrow.toml")],
                env=self.environment,
                cwd=self.root,
                stdout=log,
                stderr=log,
            )
        await until(self.answers, "an answer of the API")

    async def ask(self, intent: str, **args: str) -> int:
        """As the bot's own model asks."""
        bot = Client(self.root / "run" / "daemon.sock", principal="mcp", language="zh")
        body = RequestBody(intent=intent, args=args, key=secrets.token_hex(8), language="zh")
        accepted = await asyncio.to_thread(lambda: bot.request(body))
        assert isinstance(accepted, Accepted)
        return accepted.job


@pytest.fixture
async def world(root: Path, history: Path) -> AsyncIterator[Unheard]:
    async with FeishuEmulator(Settings(speed=1.0, ping_interval=2)) as feishu:
        made = Unheard(root, history, feishu)
        made.unheard()
        try:
            await made.start()
            yield made
        finally:
            await asyncio.to_thread(made.end)


async def test_a_job_is_told_in_the_bots_chat_without_a_connection(world: Unheard) -> None:
    job = await world.ask("restart")
    live = await world.see(world.group, "正在重启")
    result = await world.see(world.group, "已重新上线")
    assert world.feishu.sent(world.group) == [live, result]
    assert len(live.versions) > 1
    assert not world.feishu.gateway.connections
    (channel,) = (one for one in world.client.status().channels if one.name == "feishu")
    assert channel.healthy, channel.detail
    assert world.client.job(job).status == "done"
    world.feishu.verify()


async def test_a_change_is_approved_by_a_link_in_a_private_chat(world: Unheard) -> None:
    """What is pressed would reach the bot; so each who may approve gets a link that stands for them alone."""
    world.publish(world.tip)
    deployed = await world.ask("deploy")
    await until(lambda: world.client.job(deployed).status == "done", "a deploy")
    number = await world.ask("repair", bug=BUG, reproduction=REPRODUCTION)
    private = await world.see(world.olga.private(), "等您批准")
    found = re.search(r"https?://\S+/decide/\S+", private.text)
    assert found
    assert not [message for message in world.feishu.sent(world.vera.private()) if "decide" in message.text]
    in_group = "\n".join(message.text for message in world.feishu.sent(world.group))
    assert "decide" not in in_group
    assert "[批准]" not in in_group
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = await browser.get(found[0])
        assert page.status_code == 200
        assert "claw/schedule.py" in page.text
        assert (world.client.job(number).approval or pytest.fail("no question")).state == "open"
        answered = await browser.post(found[0], data={"answer": "approve"})
        assert answered.status_code == 200
        again = await browser.post(found[0], data={"answer": "reject"})
        assert again.status_code == 409
    await world.see(world.group, "Bug 已修复并部署")
    job = world.client.job(number)
    assert (job.status, job.result["approved_by"]) == ("done", "Olga")
    await until(lambda: "已批准" in private.text, "the private question's end")
    rows = await asyncio.to_thread(lambda: world.client.audit(job=number))
    assert [(row.who, row.via) for row in rows if row.what == "approved"] == [("Olga", "link")]


async def test_a_link_ends_with_the_rights_of_who_has_it(world: Unheard) -> None:
    world.publish(world.tip)
    deployed = await world.ask("deploy")
    await until(lambda: world.client.job(deployed).status == "done", "a deploy")
    number = await world.ask("repair", bug=BUG, reproduction=REPRODUCTION)
    private = await world.see(world.olga.private(), "等您批准")
    found = re.search(r"https?://\S+/decide/\S+", private.text)
    assert found
    assert world.process is not None
    world.process.terminate()
    await asyncio.to_thread(world.process.wait, 60)
    world.write_config({world.olga: "viewer"})
    world.unheard()
    await world.start_again()
    async with httpx.AsyncClient(trust_env=False) as browser:
        answered = await browser.post(found[0], data={"answer": "approve"})
    assert answered.status_code == 409
    job = world.client.job(number)
    assert job.approval is not None
    assert job.approval.state == "open"
