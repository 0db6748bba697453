"""What keeps a change from being made: a freeze, quiet hours, what would be interrupted, the rules of a chat."""

from __future__ import annotations

from typing import Any, cast

from regrow import rights
from regrow.catalogue import say
from regrow.config import PermissionsSection, PlaceSection
from regrow.idle import Busy, Idle
from regrow.jobs.ledger import WAITING_FOR_QUIET
from regrow.quiet import Quiet
from regrow.testing.gallery.jobs import BEFORE
from regrow.testing.gallery.stage import Stage, running
from regrow.testing.parts import PEOPLE


class _Doing:
    """A service that is busy with what a scene says."""

    def __init__(self, now: Busy) -> None:
        self._now = now

    async def busy(self) -> Busy | None:
        return self._now


async def frozen(stage: Stage) -> None:
    """A freeze."""
    stage.section("A freeze")
    await stage.serve()
    await stage.says("nothing to lift", "解冻", "unfreeze")
    await stage.job("deploy", at="build")
    await stage.says("frozen, while a job is under way", "冻结 发版窗口已关闭", "freeze: release window closed")
    await stage.clear()
    await stage.says("refused", "部署一下", "deploy")
    await stage.says("the state", "状态", "status")
    await stage.says("lifted", "解冻", "unfreeze")


async def quiet(stage: Stage) -> None:
    """Quiet hours."""
    stage.section("Quiet hours")
    await stage.serve()
    care, now = stage.parts.care, stage.parts.clock.now()
    before, idle = care.quiet, care.idle
    begin, end = (Quiet().clock(now + seconds) for seconds in (-3600.0, 3600.0))
    stage.part(quiet=Quiet((f"{begin}-{end}",)), idle=cast(Idle, _Doing(Busy(2, "", 1))))
    await stage.says("asked back first", "重启一下", "restart")
    await stage.says("no", "算了", "no")
    await stage.says("the state", "状态", "status")
    wait = say(stage.language, "live.waiting_quiet", until=end)
    held: dict[str, Any] = {"at": "turn", "mark": "waiting", "waiting_for": WAITING_FOR_QUIET}
    await stage.live("a job that waits for their end", "restart", **held, progress=running(12.2, wait),
                     result={**BEFORE, "version": "9f3c2d1"})  # fmt: skip
    stage.part(quiet=before, idle=idle)


async def busy(stage: Stage) -> None:
    """What a change would interrupt."""
    stage.section("Something would be interrupted")
    await stage.serve()
    idle = stage.parts.care.idle
    stage.part(idle=cast(Idle, _Doing(Busy(2, "", 1, 3, 10.0))))
    await stage.says("asked back first", "部署一下", "deploy")
    await stage.says("no", "算了", "no")
    await stage.says("a restart says what it interrupts", "重启一下", "restart")
    await stage.clear()
    stage.part(idle=cast(Idle, _Doing(Busy(0, "writing the report of the week"))))
    await stage.job("restart", at="candidate", result={**BEFORE, "version": "9f3c2d1"})
    await stage.says("while another job is under way", "部署一下", "deploy")
    await stage.says("no", "算了", "no")
    stage.part(idle=idle)


async def rules(stage: Stage) -> None:
    """The rules of a chat."""
    stage.section("Who may do what in a chat")
    here = PlaceSection(roles={"repair": "nobody"}, confirm=("deploy",))
    known = rights.permissions(PermissionsSection(channels={"feishu": here}), PEOPLE)
    stage.show("the rules of a chat", rights.text(known, stage.language, "feishu", "oc_team"))


SCENES = (frozen, quiet, busy, rules)
