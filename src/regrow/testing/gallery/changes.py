"""Settings that are changed by saying so: the list, the preview, the job."""

from __future__ import annotations

import json
from typing import Any

from regrow.config import load
from regrow.testing.gallery.endings import SERVED
from regrow.testing.gallery.jobs import BEFORE, BUILT
from regrow.testing.gallery.stage import Stage, running

_DRAIN = {"file": "regrow.toml", "name": "service.drain", "before": "10", "after": "5"}
_ZONE = {"file": "claw.toml", "name": "clock.zone", "before": None, "after": '"Asia/Shanghai"'}
_ARGS = {
    "changes": json.dumps(
        [{"file": one["file"], "name": one["name"], "value": one["after"]} for one in (_DRAIN, _ZONE)]
    )
}
_SAME: dict[str, Any] = {**BEFORE, "version": "9f3c2d1", "release": "r6"}


async def asked(stage: Stage) -> None:
    """The list, previews, and what cannot be set."""
    stage.section("Settings")
    await stage.serve()
    care = stage.parts.care
    before = care.config
    care.config.path.write_text(care.config.path.read_text("utf-8") + '[service.env]\nTZ = "Asia/Shanghai"\n', "utf-8")
    stage.part(config=load(care.config.path))
    stage.parts.clock.advance(3700)  # type: ignore[attr-defined]
    await stage.says("which there are", "有哪些设置", "settings")
    await stage.says("what would change", "把停止超时改成 5 秒", "set stop timeout to 5s")
    await stage.says("no", "算了", "no")
    await stage.says("what would change at once", "把心跳间隔改成 30 秒", "set heartbeat to 30s")
    await stage.says("yes", "好", "yes")
    await stage.clear()
    for title, zh, en in (
        ("it is like that already", "把 service.env.TZ 改成 Asia/Shanghai", "set service.env.TZ to Asia/Shanghai"),
        ("one that cannot be", "把心跳间隔改成 很久", "set heartbeat to forever"),
        ("which one", "把 timeout 改成 5 秒", "set timeout to 5s"),
        ("no such setting", "把 service.drian 改成 5 秒", "set service.drian to 5s"),
        ("one that is not changed from here", "把 service.command 改成 x", "set service.command to x"),
        ("no such file", "把 claw.toml:clock.zone 改成 UTC", "set claw.toml:clock.zone to UTC"),
    ):
        await stage.says(title, zh, en)
    stage.part(config=before)


async def job(stage: Stage) -> None:
    """The job, step by step, and how it ends."""
    stage.section("A change of settings")
    at: dict[str, Any] = {"args": _ARGS, "settings": True, "result": _SAME}
    for step in ("settings", "configure", "candidate", "compare"):
        await stage.live(f"step: {step}", "configure", at=step, progress=running(1.0), **at)
    changed = {"changed": [_DRAIN, _ZONE]}
    await stage.ended("it worked", "configure", **at | {"result": _SAME | SERVED | changed})
    live: dict[str, Any] = {"args": _ARGS, "start": False, "result": BEFORE | {"changed": [_DRAIN]}}
    await stage.ended("it worked, and nothing was started", "configure", **live)
    error = {"kind": "candidate_failed", "step": "candidate", "text": "cannot start", "log_tail": ""}
    failed = _SAME | changed | {"cause": "exit code 1: no such time zone"}
    back: dict[str, Any] = {"at": "candidate", "mark": "failed", "undone": ("settings", "configure"), "error": error}
    await stage.ended("it failed, and they are as they were", "configure", "failed", **at | {"result": failed}, **back)
    kept = failed | {"settings_kept": ["claw.toml.job-12"]}
    title = "it failed, and somebody had changed them meanwhile"
    await stage.ended(title, "configure", "failed", **at | {"result": kept}, **back)
    fell = _SAME | changed | {"fell_back": True, "switched_at": 1.0, "serving": "9f3c2d1", "cause": "HTTP 500"}
    error = {"kind": "fell_back", "step": "bake", "text": "cannot keep it", "log_tail": ""}
    back = {"at": "bake", "mark": "failed", "undone": ("settings", "configure"), "error": error}
    await stage.ended("it fell back", "configure", "undone", **at | {"result": fell}, **back)
    facts = BUILT | SERVED | {"migrated": [_ZONE]}
    await stage.ended("a deployment that changed settings", "deploy", settings=True, result=facts)
    undo = _SAME | SERVED | {"previous_release": "r7", "changed": [dict(_DRAIN, before="5", after="10")]}
    await stage.ended("settings that went back with the code", "rollback", settings=True,
                      args={"release": "r6", "named": "yes"}, result=undo)  # fmt: skip


SCENES = (asked, job)
