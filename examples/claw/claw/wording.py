"""From the words of a wish to be reminded to a cron line."""

import re
from dataclasses import dataclass

DEFAULT_ZONE = "Asia/Shanghai"

ZONE = re.compile(r"[,\s]*(?:\bin\s+|时区\s*)(?P<zone>[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+|UTC)(?![A-Za-z/])")
CHINESE = re.compile(
    r"""^(?:请)?提醒我[,\s]*(?:
        cron\s*["“'](?P<cron>[^"”']+)["”'] | (?P<minute_by_minute>每分钟) | (?P<hour_by_hour>每(?:个)?小时)
        | (?P<day>每天|每日|天天|工作日|每周[一二三四五六日天])
          \s*(?P<half>凌晨|早上|上午|中午|下午|晚上)?\s*
          (?P<hour>\d{1,2})(?::(?P<minute>\d{2})|点(?:(?P<thirty>半)|(?P<spoken>\d{1,2})分?)?)
    )[,\s]*(?P<what>.+)$""",
    re.X,
)
ENGLISH = re.compile(
    r"""^(?:please\s+)?remind\s+me\s+(?:
        cron\s*["'](?P<cron>[^"']+)["'] | (?P<minute_by_minute>every\s+minute) | (?P<hour_by_hour>every\s+hour)
        | (?P<day>every\s+day|daily|every\s+weekday|every\s+(?:sun|mon|tues|wednes|thurs|fri|satur)day)
          \s+(?:at\s+)?(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?\s*(?P<half>am|pm)?
    )\s+(?:to\s+|that\s+)?(?P<what>.+)$""",
    re.X | re.I,
)
WISH = re.compile(r"^(?:请|please\s+)?(?:提醒我|remind\s+me)", re.I)
ENGLISH_DAYS = ("sun", "mon", "tues", "wednes", "thurs", "fri", "satur")
DAYS = {"每周" + day: str(number % 7) for number, day in enumerate("日一二三四五六")} | {
    "每周天": "0",
    "工作日": "1-5",
    "every weekday": "1-5",
    **{f"every {day}day": str(number) for number, day in enumerate(ENGLISH_DAYS)},
}


@dataclass(frozen=True)
class Wish:
    cron: str
    zone: str
    what: str


def is_wish(text: str) -> bool:
    """Whether a text asks to be reminded at all, understood or not."""
    return WISH.match(text) is not None


def wish(text: str) -> Wish | None:
    """What a text like "remind me every day at 07:00 to drink water" asks for; None when not understood."""
    named = ZONE.search(text)
    zone = named["zone"] if named else DEFAULT_ZONE
    words = ZONE.sub(" ", text, count=1).strip()
    found = CHINESE.match(words) or ENGLISH.match(words)
    if found is None:
        return None
    parts = found.groupdict()
    if parts["cron"]:
        cron = parts["cron"].strip()
    elif parts["minute_by_minute"]:
        cron = "* * * * *"
    elif parts["hour_by_hour"]:
        cron = "0 * * * *"
    else:
        minute = 30 if parts.get("thirty") else int(parts["minute"] or parts.get("spoken") or 0)
        hour = _hour(int(parts["hour"]), (parts["half"] or "").lower())
        cron = f"{minute} {hour} * * {DAYS.get(' '.join(parts['day'].lower().split()), '*')}"
    return Wish(cron, zone, parts["what"].strip())


def _hour(hour: int, half: str) -> int:
    if half in ("am", "凌晨") and hour == 12:
        return 0
    if half in ("pm", "下午", "晚上") and hour < 12:
        return hour + 12
    if half == "中午" and hour < 3:
        return hour + 12
    return hour
