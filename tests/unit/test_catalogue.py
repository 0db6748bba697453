"""Both languages say the same things, in the words of the seed."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone

import pytest

from regrow import catalogue
from regrow.catalogue import LANGUAGES, bytes_text, duration_text, say, seconds_text, time_text
from regrow.intents import TABLE, Intent
from regrow.permissions import Role
from regrow.setting_phrases import change
from regrow.understanding import understand


@pytest.mark.parametrize("part", ["", "cli", "web", "setup", "init"])
def test_both_languages_have_the_same_keys_and_fields(part: str) -> None:
    zh, en = (catalogue.texts(language, part) for language in LANGUAGES)
    assert zh.keys() == en.keys()
    assert {key for key in zh if catalogue.fields(zh[key]) != catalogue.fields(en[key])} == set()
    assert not [text for text in (*zh.values(), *en.values()) if not text.strip()]
    foreign = {key for key, text in en.items() if re.search(r"[\u3400-\u9fff]", text)}
    assert foreign == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_intent_and_role_has_its_words(language: catalogue.Language) -> None:
    for row in TABLE.values():
        assert say(language, row.title)
        # What help tells people to say must be understood as that.
        if row.intent is Intent.configure:
            assert change(say(language, row.example)) is not None
            continue
        request = understand(say(language, row.example))
        assert (request.intent, request.language) == (row.intent, language)
    assert all(say(language, f"roles.{role.name}") for role in Role)


def test_the_dialogues_of_the_seed() -> None:
    build = {"size": bytes_text(38_000_000), "seconds": seconds_text(72.3)}
    assert [
        say("zh", "live.restart"),
        say("zh", "result.restart"),
        say("zh", "live.build_estimate", low=60, high=90),
        say("zh", "live.build_done", **build),
        say("zh", "result.deploy", version="abc1234"),
        say("zh", "live.repair", agent="Claude Code"),
        say("zh", "live.repair_changed", agent="Claude Code", files="src/scheduler.rs"),
        say("zh", "result.repair"),
    ] == [
        "🔄 正在重启...",
        "✅ 已重新上线，运行正常",
        "🔨 开始编译... (预计60-90秒)",
        "✅ 编译完成 (38MB, 72s)，正在重启...",
        "✅ 已重新上线，版本: abc1234",
        "🤖 正在让 Claude Code 分析问题...",
        "📝 Claude Code 修改了 src/scheduler.rs:",
        "✅ Bug 已修复并部署！",
    ]


def test_a_value_is_text_and_not_a_template() -> None:
    assert say("en", "result.deploy", version="{version.__class__}") == "✅ Back online, version: {version.__class__}"
    with pytest.raises(KeyError):
        say("en", "result.deploy")
    with pytest.raises(KeyError):
        say("en", "result.nothing")
    with pytest.raises(TypeError):
        say("en", "result.restart", version="x")


def test_help_and_doubt() -> None:
    assert catalogue.help_text("en", ["restart"]).splitlines()[1] == '· restart the service: "restart"'
    assert "重启服务" in catalogue.doubt_text("zh", ["restart"])
    assert "2. roll" not in catalogue.doubt_text("en", ["restart", "undo"])
    assert "2. undo" in catalogue.doubt_text("en", ["restart", "undo"])


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1500, "1.5kB"),
        (38_000_000, "38MB"),
        (999_999, "1MB"),
        (2_000_000, "2MB"),
        (9_960_000, "10MB"),
        (1_200_000_000, "1.2GB"),
        (5 * 10**15, "5000TB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "short", "zh", "en"),
    [
        (72.3, "72s", "1分12秒", "1m 12s"),
        (0.84, "0.8s", "1秒", "1s"),
        (0, "0s", "0秒", "0s"),
        (2.0, "2s", "2秒", "2s"),
        (59.6, "60s", "1分0秒", "1m 0s"),
        (3700, "3700s", "1小时1分", "1h 1m"),
        (90000, "90000s", "1天1小时", "1d 1h"),
    ],
)
def test_durations(seconds: float, short: str, zh: str, en: str) -> None:
    assert seconds_text(seconds) == short
    assert duration_text("zh", seconds) == zh
    assert duration_text("en", seconds) == en


def test_times() -> None:
    beijing = timezone(timedelta(hours=8))
    when = 1_740_092_400.0
    assert time_text(when, UTC) == "2025-02-20 23:00"
    assert time_text(when, beijing) == "2025-02-21 07:00"
    assert time_text(when, beijing, now=when + 3600) == "07:00:00"
    assert time_text(when, UTC, now=when + 3600) == "2025-02-20 23:00"
    assert catalogue.ago_text("zh", 72) == "1分12秒前"
