from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from regrow.api import types
from regrow.errors import NotFound, RegrowError
from regrow.web import console, guards, words
from regrow.web.session import Session

WEB = Path(console.__file__).parent
EVIL = "<img src=x onerror=alert(1)>\"'`{{ 7*7 }}</textarea><script>alert(1)</script>"


class Memory:
    """Pages from memory, every free text of which is hostile."""

    language: words.Language = "en"

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self.down = False
        self.approval: types.Approval | None = types.Approval(
            digest=EVIL,
            summary=EVIL,
            files=[EVIL],
            diff=f"--- a/{EVIL}\n+++ b/{EVIL}\n@@ -1 +1 @@ {EVIL}\n-{EVIL}\n+{EVIL}\n",
        )

    async def status(self) -> types.Status:
        if self.down:
            raise RegrowError("cannot read the state: the supervisor does not answer; try again")
        running = types.Running(release="r1", version=EVIL, commit=EVIL, pid=1, since=1.0)
        service = types.ServiceStatus(
            name=EVIL,
            state="up",
            active=running,
            standby=running,
            candidate=running,
            baking_until=2.0,
            probes=[types.ProbeState(name=EVIL, ok=False, detail=EVIL)],
            pinned=[EVIL],
            job=12,
            queue=[13],
            crashes=2,
        )
        daemon = types.DaemonStatus(version="0", pid=1, started_at=1.0, ready_ms=1.0, rss_bytes=1)
        return types.Status(
            daemon=daemon,
            services=[service],
            channels=[types.ChannelStatus(name=EVIL, healthy=False, detail=EVIL)],
            outbox_waiting=3,
        )

    async def job(self, number: int, /) -> types.Job:
        if number != 12:
            raise NotFound(f"cannot find job {number}")
        return types.Job(
            id=12,
            service=EVIL,
            kind="repair",
            status="waiting",
            title=EVIL,
            asked_by=EVIL,
            channel="web",
            chat="main",
            created_at=1.0,
            started_at=1.0,
            waiting_for=EVIL,
            steps=[
                types.Step(name="a", title=EVIL, status="doing", started_at=1.0, detail=EVIL, progress=0.5),
                types.Step(name="b", title=EVIL, estimate_s=(60.0, 90.0)),
            ],
            approval=self.approval,
            error=types.Error(kind=EVIL, text=EVIL, step=EVIL, log_tail=EVIL),
            result={"version": EVIL, "files": [EVIL], "build_seconds": 72.0, "build_bytes": 38e6, EVIL: EVIL},
        )

    async def job_log(self, number: int, /) -> str:
        return f"\x1b[31m{EVIL}\x1b[0m\x1b]0;title\x07\n"

    async def messages(self, channel: str, chat: str, /) -> list[types.Message]:
        if self.down:
            raise RegrowError("cannot read the messages: the store is locked; try again")
        button = types.Button(label=EVIL, action=EVIL)
        return [
            types.Message(
                id=1, channel=channel, chat=chat, author=EVIL, mine=False, text=EVIL, at=1.0, buttons=[button]
            )
        ]


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
async def client(memory: Memory) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=console.routes(memory))
    transport = httpx.ASGITransport(guards.guarded(app, Session(memory.token)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
        yield client


@pytest.fixture
async def inside(client: httpx.AsyncClient, memory: Memory) -> httpx.AsyncClient:
    await client.get("/login", params={"token": memory.token})
    return client


class Markup(HTMLParser):
    """Every tag of a page, its attributes by name, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_signing_in_sets_a_strict_cookie_and_goes_home(client: httpx.AsyncClient, memory: Memory) -> None:
    answer = await client.get("/login", params={"token": memory.token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert memory.token not in cookie
    assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize(
    "query", [{}, {"token": ""}, {"token": "wrong"}, {"token": "é\udc80".encode(errors="replace")}]
)
async def test_a_wrong_token_is_told_plainly(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    answer = await client.get("/login", params=query, headers={"accept-language": "en"})
    assert answer.status_code == 403
    assert "not valid" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/strip", "/jobs/12"])
@pytest.mark.parametrize("language", ["zh", "en"])
async def test_hostile_text_never_becomes_markup(inside: httpx.AsyncClient, path: str, language: str) -> None:
    answer = await inside.get(path, params={"lang": language})
    assert answer.status_code == 200
    page = Markup(answer.text)
    assert EVIL in page.text
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        assert tag != "style"
        if tag in {"script", "img", "link"}:
            address = attributes.get("src") or attributes.get("href") or ""
            assert address.startswith("/static/"), (tag, attributes)
    assert "\x1b" not in answer.text


@pytest.mark.parametrize("path", ["/", "/jobs/12", "/strip", "/login", "/static/chat.js"])
async def test_the_routes_carry_their_headers_without_any_guard(memory: Memory, path: str) -> None:
    transport = httpx.ASGITransport(Starlette(routes=console.routes(memory)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as bare:
        answer = await bare.get(path)
    policy = answer.headers["content-security-policy"]
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ):
        assert rule in policy.split("; ")
    assert answer.headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")


async def test_the_language_is_asked_for_kept_and_wanted(inside: httpx.AsyncClient, memory: Memory) -> None:
    async def language(**headers: str) -> str:
        return (await inside.get("/", headers=headers)).headers["content-language"]

    assert await language() == "en"
    memory.language = "zh"
    assert await language() == "zh"
    assert await language(**{"accept-language": "en-GB"}) == "en"
    await inside.get("/", params={"lang": "nonsense"})
    assert await language() == "zh"
    await inside.get("/", params={"lang": "en"})
    assert await language(**{"accept-language": "zh-CN"}) == "en"


async def test_what_is_not_there_is_404_in_words(inside: httpx.AsyncClient) -> None:
    answer = await inside.get("/jobs/99")
    assert (answer.status_code, "There is no job #99." in answer.text) == (404, True)
    assert (await inside.get("/static/../console.py")).status_code == 404
    assert (await inside.get("/static/%2e%2e/console.py")).status_code == 404


async def test_trouble_of_the_daemon_is_said_and_not_thrown(inside: httpx.AsyncClient, memory: Memory) -> None:
    memory.down = True
    assert (await inside.get("/")).status_code == 503
    strip = await inside.get("/strip")
    assert (strip.status_code, "cannot read the state just now" in strip.text) == (200, True)
    assert (await inside.get("/jobs/12")).status_code == 200, "a job can be read while the state cannot"


async def test_a_daemon_that_hangs_does_not_hang_the_page(
    inside: httpx.AsyncClient, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(channel: str, chat: str) -> list[types.Message]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(console, "_READ_S", 0.01)
    monkeypatch.setattr(memory, "messages", never)
    assert (await inside.get("/")).status_code == 503


async def test_approval_buttons_are_bound_to_the_digest_and_go_when_it_is_answered(
    inside: httpx.AsyncClient, memory: Memory
) -> None:
    def verbs(text: str) -> dict[str | None, str | None]:
        tags = Markup(text).tags
        return {each["data-verb"]: each.get("data-digest") for _, each in tags if "data-verb" in each}

    assert verbs((await inside.get("/jobs/12")).text) == {"approve": EVIL, "reject": None, "cancel": None}
    assert memory.approval
    memory.approval = memory.approval.model_copy(update={"state": "approved", "decided_by": EVIL})
    assert verbs((await inside.get("/jobs/12")).text) == {"cancel": None}


def test_no_script_can_make_markup_and_no_template_trusts_text() -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|setHTML"
    for script in WEB.glob("static/*.js"):
        assert not re.search(sinks, script.read_text("utf-8")), script.name
    for template in WEB.glob("templates/*.html"):
        text = template.read_text("utf-8")
        assert not re.search(r"\|\s*safe|autoescape|style=|<script(?![^>]*src=)", text), template.name
