"""The dialogues of the seed document's section five, line by line, with figures in them: what was asked for in Chinese
is told in these words (emoji included)."""

from __future__ import annotations

from typing import Any

import pytest

from regrow.testing.gallery import BEFORE, BUILT, FIXED, REPAIR, running
from regrow.testing.gallery.stage import Stage
from regrow.testing.parts import Parts

AGENT = {"agent": "Claude Code"}
ONE_FILE = {"files": ["src/scheduler.rs"], "test_files": [], "summary": "修复了 UTC→Asia/Shanghai 的时区转换"}


@pytest.fixture
def stage(parts: Parts) -> Stage:
    return Stage(parts, "zh")


async def heard(stage: Stage, kind: Any, **at: Any) -> list[str]:
    """The lines of a job's live message, and of its result once it has ended."""
    record = await stage.job(kind, **at)
    await stage.parts.conversations.tell(record.id)
    told = {one.key: one.content.text for one in await stage.parts.outgoing()}
    await stage.clear()
    return told.get(f"job-{record.id}-result", told[f"job-{record.id}-live"]).splitlines()


async def test_a_simple_restart(stage: Stage) -> None:
    facts = {**BEFORE, "version": "9f3c2d1"}
    assert (await heard(stage, "restart", at="candidate", result=facts))[0] == "🔄 正在重启..."
    ended = await heard(stage, "restart", status="done", result=facts | {"down_ms": 0.0, "pid": 7})
    assert ended[0] == "✅ 已重新上线，运行正常"
    assert "- 进程: 7，停机: 0s" in ended


async def test_build_the_newest_code_and_restart(stage: Stage) -> None:
    told = running(42.0, "", None, (60.0, 90.0))
    assert (await heard(stage, "deploy", at="build", progress=told, result=BEFORE))[0] == "🔨 开始编译... (预计60-90秒)"
    lines = await heard(stage, "deploy", at="candidate", result=BUILT)
    assert lines[:2] == ["🔨 开始编译... (预计60-90秒)", "✅ 编译完成 (38MB, 72s)，正在重启..."]
    ended = await heard(stage, "deploy", status="done", result=BUILT | {"down_ms": 0.0, "pid": 7})
    assert ended[0] == "✅ 已重新上线，版本: abc1234"


async def test_repair_a_bug_and_deploy(stage: Stage) -> None:
    assert (await heard(stage, "repair", at="agent", result=AGENT))[0] == "🤖 正在让 Claude Code 分析问题..."
    facts = REPAIR | ONE_FILE | {"reproduced_by": "", "unreproduced": ""}
    building = await heard(stage, "repair", at="build", result=facts)
    changed = building.index("📝 Claude Code 修改了 src/scheduler.rs:")
    assert building[changed + 1 : changed + 3] == ["   - 修复了 UTC→Asia/Shanghai 的时区转换", "   - 增量编译中..."]
    built = await heard(stage, "repair", at="candidate", result=FIXED | ONE_FILE)
    assert "✅ 编译完成 (38MB, 72s)，正在重启..." in built
    ended = await heard(stage, "repair", status="done", result=FIXED | ONE_FILE)
    assert ended[0] == "✅ Bug 已修复并部署！"
    told = ["- 修改文件: src/scheduler.rs", "- 变更摘要: 修复了 UTC→Asia/Shanghai 的时区转换"]
    assert ended[1:3] == told
    assert "- 编译耗时: 72s (38MB)" in ended
    assert "- 当前版本: abc1234" in ended


async def test_an_estimate_is_the_range_of_what_builds_took(stage: Stage) -> None:
    for seconds in (89.6, 60.4, 71.0):
        await stage.parts.estimates.add("tiny", "build", seconds, 10)
    assert await stage.parts.estimates.range("tiny", "build") == (60.4, 89.6)
    for _ in range(10):
        await stage.parts.estimates.add("tiny", "build", 5.0, 10)
    assert await stage.parts.estimates.range("tiny", "build") == (5.0, 5.0), "old builds say nothing of new ones"
    told = running(1.0, "", None, (5.0, 5.0))
    assert (await heard(stage, "deploy", at="build", progress=told, result=BEFORE))[0] == "🔨 开始编译... (预计5-6秒)"


async def test_downtime_that_was_measured_is_told_as_it_was(stage: Stage) -> None:
    facts = {**BEFORE, "version": "9f3c2d1", "pid": 7}
    assert "- 进程: 7，停机: 1.3s" in await heard(stage, "restart", status="done", result=facts | {"down_ms": 1340.0})
    unmeasured = await heard(stage, "restart", status="done", result=facts)
    assert not [line for line in unmeasured if "停机" in line], "what nobody measured is not told as 0"


async def test_f31_a_failure_keeps_the_error_and_says_what_to_do(stage: Stage) -> None:
    error = {
        "kind": "build_failed", "step": "build", "text": "cannot build", "log_tail": "error: could not compile",
        "decisive": "error[E0308]: mismatched types\n  --> src/scheduler.rs:44:20",
    }  # fmt: skip
    facts = BEFORE | {"cause": "error[E0308]: mismatched types"}
    lines = await heard(stage, "deploy", status="failed", at="build", mark="failed", error=error, result=facts)
    assert lines[:5] == [
        "❌ 没有成功: 编译重启（停在“编译”）",
        "原因: 编译失败: error[E0308]: mismatched types",
        "```",
        "error[E0308]: mismatched types",
        "  --> src/scheduler.rs:44:20",
    ]
    assert "旧版本 9f3c2d1 一直在运行，没有中断。" in lines
    assert any(line.startswith("下一步: ") for line in lines)
    assert lines[-1].startswith("完整日志: 任务 #")
