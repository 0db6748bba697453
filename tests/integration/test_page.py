"""The console in a real browser, against a small daemon that says what each test wants said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from regrow.api import types
from regrow.errors import NotFound
from regrow.web import console, guards, words
from regrow.web.session import Session

CHROMIUM = Path("/usr/bin/chromium")
DEADLINE_S = 15.0
DIFF = """diff --git a/src/scheduler.py b/src/scheduler.py
index 1b2f3aa..9d0c4be 100644
--- a/src/scheduler.py
+++ b/src/scheduler.py
@@ -12,7 +12,8 @@ def next_fire(rule: Rule, after: datetime) -> datetime:
     # A rule's hours are those of its own zone.
-    now = after.astimezone(UTC)
+    zone = ZoneInfo(rule.zone or "Asia/Shanghai")
+    now = after.astimezone(zone)
     for minute in range(60 * 24 * 366):
         moment = now + timedelta(minutes=minute)
         if rule.matches(moment):
"""


@dataclass
class Daemon:
    """The console's other side: the pages' data and as much of /v1 as they use, all in the test's hands."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    language: words.Language = "en"
    said: dict[int, types.Message] = field(default_factory=dict)
    jobs_known: dict[int, types.Job] = field(default_factory=dict)
    state: types.Status | None = None
    pressed: list[dict[str, Any]] = field(default_factory=list)
    verbs: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    answer: types.ActionResult = field(default_factory=lambda: types.ActionResult(ok=True, text="approved"))
    deaf: bool = False
    keys: dict[str, int] = field(default_factory=dict)
    lose_answers: int = 0
    _streams: dict[asyncio.Queue[tuple[str, str] | None], str] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def status(self) -> types.Status:
        assert self.state
        return self.state

    async def job(self, number: int, /) -> types.Job:
        if number not in self.jobs_known:
            raise NotFound(f"cannot find job {number}")
        return self.jobs_known[number]

    async def jobs(self, limit: int, kind: str, status: str, before: int | None, /) -> list[types.Job]:
        found = [each for _, each in sorted(self.jobs_known.items(), reverse=True)]
        return [each for each in found if kind in {"", each.kind} and status in {"", each.status}][:limit]

    async def incidents(self, limit: int, /) -> list[types.Incident]:
        fields: dict[str, Any] = {"service": "claw", "kind": "crash", "fingerprint": "f", "cause": "KeyError: 'zone'"}
        at = {"first_at": time.time() - 900, "last_at": time.time()}
        return [types.Incident(id=3, state="open", count=4, lines=["KeyError: 'zone'"], **fields, **at)]

    async def releases(self) -> dict[str, list[types.Release]]:
        fields: dict[str, Any] = {
            "commit": "c" * 40,
            "digest": "d",
            "bytes": 38_000_000,
            "build_seconds": 72.0,
            "job": 9,
        }
        rows = [
            ("r7", "active", "Say it in the zone of who asked"),
            ("r6", "good", "按提问者的时区报时，不用服务器的时区"),
        ]
        return {
            "claw": [
                types.Release(id=name, version=f"{name}a1b2c3", state=state, subject=subject, built_at=1e9, **fields)  # type: ignore[arg-type]
                for name, state, subject in rows
            ]
        }

    async def audit(self, limit: int, before: int | None, who: str, job: int | None, /) -> list[types.AuditRow]:
        fields: dict[str, Any] = {"person": "ada", "via": "feishu", "what": "asked", "job": 12, "hash": "0" * 64}
        words = {"intent": "repair", "words": "修一下这个 bug: 定时任务在北京时间7点没触发"}
        return [types.AuditRow(id=number, at=1e9, who="Ada", detail=words, **fields) for number in range(40, 0, -1)]

    async def asking(self) -> list[types.Job]:
        return [each for each in self.jobs_known.values() if each.approval and each.approval.state == "open"]

    async def job_log(self, number: int, /) -> str:
        return f"log of job {number}\n<script>document.title = 'owned'</script>\n"

    async def messages(self, channel: str, chat: str, /) -> list[types.Message]:
        return [each for _, each in sorted(self.said.items()) if (each.channel, each.chat) == (channel, chat)]

    # what a test does

    async def say(self, text: str, **more: Any) -> types.Message:
        """A new message, or with `id` the next revision of one."""
        number = more.pop("id", None) or max(self.said, default=0) + 1
        before = self.said.get(number)
        fields: dict[str, Any] = {"author": "Regrow", "mine": False, "at": time.time()}
        message = types.Message(
            id=number,
            channel="web",
            chat="main",
            text=text,
            revision=before.revision + 1 if before else 0,
            **{**fields, **more},
        )
        self.said[number] = message
        await self.push("message", message.model_dump_json())
        return message

    async def push(self, name: str, data: str) -> None:
        for queue, wanted in self._streams.items():
            if wanted == name:
                queue.put_nowait((name, data))
        await self._note()

    async def change(self, job: types.Job) -> None:
        self.jobs_known[job.id] = job
        await self.push("job", job.model_dump_json())

    async def cut(self) -> None:
        """Every event stream ends, and none can be opened until `deaf` is False again."""
        self.deaf = True
        for queue in self._streams:
            queue.put_nowait(None)

    async def until(self, seen: Callable[[], bool]) -> None:
        """Return when `seen()` is true; TimeoutError after DEADLINE_S."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(seen)

    @property
    def listening(self) -> int:
        return len(self._streams)

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # /v1

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                *console.routes(self),
                Route("/v1/chat/messages", self._post_message, methods=["POST"]),
                Route("/v1/chat/messages", self._get_messages, methods=["GET"]),
                Route("/v1/chat/events", self._chat_events),
                Route("/v1/chat/actions", self._action, methods=["POST"]),
                Route("/v1/requests", self._request, methods=["POST"]),
                Route("/v1/status/events", self._status_events),
                Route("/v1/jobs/{number:int}/events", self._job_events),
                Route("/v1/jobs/{number:int}/{verb}", self._verb, methods=["POST"]),
            ]
        )

    async def _post_message(self, request: Request) -> Response:
        if self.deaf:
            return JSONResponse({"kind": "unavailable", "error": "cannot take messages: starting"}, status_code=503)
        body = types.ChatBody.model_validate_json(await request.body())
        if body.key not in self.keys:
            message = await self.say(body.text, author="ling", mine=True)
            self.keys[body.key] = message.id
        await self._note()
        if self.lose_answers:
            self.lose_answers -= 1
            return JSONResponse({"kind": "lost", "error": "cannot answer"}, status_code=503)
        return JSONResponse(self.said[self.keys[body.key]].model_dump())

    async def _get_messages(self, request: Request) -> Response:
        if self.deaf:
            return JSONResponse({"kind": "unavailable", "error": "cannot read messages: starting"}, status_code=503)
        after = int(request.query_params["after"])
        found = await self.messages(request.query_params["channel"], request.query_params["chat"])
        return JSONResponse([each.model_dump() for each in found if each.id > after])

    async def _action(self, request: Request) -> Response:
        self.pressed.append(types.ActionBody.model_validate_json(await request.body()).model_dump())
        await self._note()
        return JSONResponse(self.answer.model_dump())

    async def _verb(self, request: Request) -> Response:
        number, verb = request.path_params["number"], request.path_params["verb"]
        body = await request.body()
        self.verbs.append((number, verb, json.loads(body) if body else {}))
        await self._note()
        return JSONResponse(self.jobs_known[number].model_dump())

    async def _chat_events(self, request: Request) -> Response:
        return await self._events("message", [])

    async def _request(self, request: Request) -> Response:
        self.pressed.append(types.RequestBody.model_validate_json(await request.body()).model_dump())
        await self._note()
        return JSONResponse({"job": 12, "joined": False})

    async def _status_events(self, request: Request) -> Response:
        assert self.state
        return await self._events("status", [self.state.model_dump_json()])

    async def _job_events(self, request: Request) -> Response:
        return await self._events("job", [self.jobs_known[request.path_params["number"]].model_dump_json()])

    async def _events(self, name: str, first: list[str]) -> Response:
        if self.deaf:
            return JSONResponse({"kind": "unavailable", "error": "cannot listen: starting"}, status_code=503)
        queue: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

        async def stream() -> AsyncIterator[str]:
            self._streams[queue] = name
            try:
                yield ": hello\n\n"
                await self._note()
                for data in first:
                    yield f"event: {name}\ndata: {data}\n\n"
                while (event := await queue.get()) is not None:
                    yield f"event: {event[0]}\ndata: {event[1]}\n\n"
            finally:
                del self._streams[queue]

        return StreamingResponse(stream(), media_type="text/event-stream")


def calm(now: float) -> types.Status:
    """One service that runs well."""
    running = types.Running(release="r7", version="1.4.2", commit="abc1234", pid=4711, since=now - 273_720)
    return types.Status(
        daemon=types.DaemonStatus(
            version="0.1.0", pid=4700, started_at=now - 300_000, ready_ms=210, rss_bytes=90_000_000
        ),
        services=[
            types.ServiceStatus(
                name="claw",
                state="up",
                active=running,
                probes=[types.ProbeState(name="health", ok=True), types.ProbeState(name="chat", ok=True)],
            )
        ],
        channels=[types.ChannelStatus(name="feishu", healthy=True)],
    )


def repair(now: float, zh: bool = False, **more: Any) -> types.Job:
    """A repair that waits for approval."""
    steps = [
        types.Step(
            name="agent",
            title="让 Claude Code 修复" if zh else "Let Claude Code repair it",
            status="done",
            seconds=68.2,
        ),
        types.Step(name="gate", title="检查改动" if zh else "Check the change", status="done", seconds=0.4),
        types.Step(
            name="verify",
            title="验证" if zh else "Verify",
            status="done",
            seconds=21.7,
            detail="复现测试：之前失败，现在通过；其余 214 项通过"
            if zh
            else "the reproduction failed before and passes now; 214 others pass",
        ),
        types.Step(
            name="approve", title="等待批准" if zh else "Wait for approval", status="waiting", started_at=now - 12
        ),
        types.Step(name="build", title="编译" if zh else "Build", estimate_s=(60.0, 90.0)),
        types.Step(name="switch", title="切换" if zh else "Switch over"),
        types.Step(name="bake", title="观察" if zh else "Watch it"),
    ]
    approval = types.Approval(
        digest="sha256:4f1c9a27d0b35e68",
        summary="修复了 UTC→Asia/Shanghai 的时区转换" if zh else "A rule's hours are read in its own zone, not in UTC.",
        files=["src/scheduler.py"],
        diff=DIFF,
    )
    fields: dict[str, Any] = {
        "id": 12,
        "service": "claw",
        "kind": "repair",
        "status": "waiting",
        "title": "修复：定时任务在北京时间 7 点没触发" if zh else "Repair: the 7 o'clock task does not fire",
        "asked_by": "ling",
        "channel": "web",
        "chat": "main",
        "created_at": now - 105,
        "started_at": now - 104,
        "steps": steps,
        "approval": approval,
    }
    return types.Job(**{**fields, **more})


async def talk(daemon: Daemon, zh: bool) -> None:
    """A conversation as people have it: a deploy that is done and a repair that waits."""
    now = time.time()
    ask, tell = {"author": "ling", "mine": True}, {"author": "Regrow"}
    assert daemon.state
    service = daemon.state.services[0].model_copy(update={"job": 12})
    daemon.state = daemon.state.model_copy(update={"services": [service]})
    daemon.jobs_known[12] = repair(now, zh)
    if zh:
        await daemon.say("编译重启", at=now - 900, **ask)
        await daemon.say("✅ 编译完成 (38MB, 72s)，正在重启…", at=now - 820, job=11, **tell)
        await daemon.say("✅ 已重新上线，版本: `abc1234`", at=now - 815, job=11, **tell)
        await daemon.say("修一下这个 bug: 定时任务在北京时间7点没触发", at=now - 105, **ask)
        text = "📝 Claude Code 修改了 `src/scheduler.py`：\n- 修复了 **UTC→Asia/Shanghai** 的时区转换\n"
        labels = ("批准并部署", "取消", "查看完整改动")
    else:
        await daemon.say("build and restart", at=now - 900, **ask)
        await daemon.say("✅ Built (38 MB, 72 s), restarting…", at=now - 820, job=11, **tell)
        await daemon.say("✅ Online again, version: `abc1234`", at=now - 815, job=11, **tell)
        await daemon.say("fix this bug: the task at 7 in the morning, Beijing time, did not fire", at=now - 105, **ask)
        text = "📝 Claude Code changed `src/scheduler.py`:\n- a rule's hours are read in **its own zone**, not in UTC\n"
        labels = ("Approve and deploy", "Cancel", "Whole change")
    buttons = [
        types.Button(label=labels[0], action="approve:12:4f1c", style="primary"),
        types.Button(label=labels[1], action="cancel:12", style="danger"),
        types.Button(label=labels[2], action="show:12"),
    ]
    hunk = DIFF[DIFF.index("@@") :]
    await daemon.say(f"{text}\n```diff\n{hunk}```", at=now - 12, job=12, buttons=buttons, bar=0.57, **tell)


# The browser and what it complains about


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    yield Daemon(state=calm(time.time()))


@contextlib.asynccontextmanager
async def serving(app: Any, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """The application on a free port of loopback; its address."""
    with socket.create_server((host, 0)) as listener:
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            async with asyncio.timeout(DEADLINE_S):
                await task


@pytest.fixture
async def site(daemon: Daemon) -> AsyncIterator[str]:
    async with serving(guards.guarded(daemon.app(), Session(daemon.token))) as address:
        yield address
        await daemon.cut()


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    playwright = _playwright()
    arguments = [
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--disable-quic",
    ]
    async with playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        try:
            yield chromium
        finally:
            await chromium.close()


def _playwright() -> Any:
    missing = "" if CHROMIUM.exists() else f"{CHROMIUM} is not installed"
    if not missing:
        try:
            from playwright.async_api import async_playwright
        except ImportError:
            missing = "the Python package playwright is not installed"
        else:
            return async_playwright
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot test the page in a browser: {missing}")
    pytest.skip(f"the page in a browser: {missing}")


@dataclass
class Visit:
    """A signed-in page and everything the browser complained about."""

    page: Any
    complaints: list[str]

    def forgive_lost_connections(self) -> None:
        """A call that cannot reach the daemon is logged by the browser itself; nothing can keep it from that."""
        self.complaints[:] = [each for each in self.complaints if "Failed to load resource" not in each]


@contextlib.asynccontextmanager
async def visiting(
    browser: Any,
    site: str,
    token: str,
    *,
    locale: str = "en-GB",
    size: tuple[int, int] = (1280, 800),
    dark: bool = False,
    path: str = "/",
) -> AsyncIterator[Visit]:
    context = await browser.new_context(
        locale=locale,
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        is_mobile=size[0] < 500,
        has_touch=size[0] < 500,
    )
    context.set_default_timeout(DEADLINE_S * 1000)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None)
    await context.expose_binding("complain", lambda _, text: complaints.append(text))
    await context.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => complain(`policy: ${e.violatedDirective} ${e.blockedURI}`))"
    )
    visit = Visit(page, complaints)
    try:
        await page.goto(f"{site}/login?token={token}")
        if path != "/":
            await page.goto(site + path)
        yield visit
        assert visit.complaints == []
    finally:
        await context.close()


@pytest.fixture
async def visit(browser: Any, site: str, daemon: Daemon) -> AsyncIterator[Visit]:
    async with visiting(browser, site, daemon.token) as visit:
        await daemon.until(lambda: daemon.listening == 1)
        yield visit


async def eventually(read: Callable[[], Any], wanted: Any) -> None:
    """Return when `await read()` is `wanted`; fails with what it was after DEADLINE_S."""
    seen = None
    try:
        async with asyncio.timeout(DEADLINE_S):
            while (seen := await read()) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{seen!r} never became {wanted!r}")


# The conversation


async def test_typing_sends_and_shift_enter_does_not(visit: Visit, daemon: Daemon) -> None:
    box = visit.page.get_by_label("Message", exact=True)
    low = (await box.bounding_box())["height"]
    await box.type("restart")
    await box.press("Shift+Enter")
    await box.type("please")
    assert (await box.bounding_box())["height"] > low
    assert daemon.said == {}
    await box.press("Enter")
    await daemon.until(lambda: 1 in daemon.said)
    assert daemon.said[1].text == "restart\nplease"
    await visit.page.locator("#m1.mine").wait_for()
    await eventually(visit.page.locator("article").count, 1)
    assert await box.input_value() == ""


async def test_enter_of_an_input_method_sends_nothing(visit: Visit, daemon: Daemon) -> None:
    box = visit.page.get_by_label("Message", exact=True)
    await box.fill("chongqi")
    for options in ({"isComposing": True}, {"keyCode": 229}):
        await box.dispatch_event("keydown", {"key": "Enter", "bubbles": True, "cancelable": True, **options})
    assert await box.input_value() == "chongqi"
    await box.press("Enter")
    await daemon.until(lambda: 1 in daemon.said)


async def test_an_edit_replaces_in_place_and_the_bar_moves(visit: Visit, daemon: Daemon) -> None:
    await daemon.say("building", bar=0.1)
    await daemon.say("something after it")
    bar = visit.page.locator("#m1 progress")
    await eventually(lambda: bar.evaluate("each => each.value"), 0.1)
    handle = await bar.element_handle()
    await daemon.say("building", id=1, bar=0.6)
    await eventually(lambda: bar.evaluate("each => each.value"), 0.6)
    assert await bar.evaluate("(now, before) => now === before", handle), "a new bar would jump instead of moving"
    stale = daemon.said[1].model_copy(update={"revision": 0, "text": "older"})
    await daemon.push("message", stale.model_dump_json())
    await daemon.say("a sign that the stale one has arrived before")
    await visit.page.locator("#m3").wait_for()
    assert await visit.page.locator("#m1 .text").inner_text() == "building"
    await daemon.say("built", id=1)
    await eventually(visit.page.locator("#m1 .text").inner_text, "built")
    assert await bar.count() == 0
    ids = await visit.page.locator("article").evaluate_all("all => all.map((each) => each.id)")
    assert ids == ["m1", "m2", "m3"]


async def test_a_button_posts_its_action_and_shows_the_answer(visit: Visit, daemon: Daemon) -> None:
    buttons = [
        types.Button(label="Approve", action="approve:12:4f1c", style="primary"),
        types.Button(label="Cancel", action="cancel:12", style="danger"),
    ]
    await daemon.say("may it?", buttons=buttons)
    daemon.answer = types.ActionResult(ok=False, text="cannot approve: a maintainer must")
    approve = visit.page.get_by_role("button", name="Approve")
    await approve.click()
    await daemon.until(lambda: len(daemon.pressed) == 1)
    note = visit.page.locator("#m1 > .note")
    await eventually(note.inner_text, "✗ cannot approve: a maintainer must")
    daemon.answer = types.ActionResult(ok=True, text="approved")
    await approve.focus()
    await visit.page.keyboard.press("Enter")
    await eventually(note.inner_text, "✓ approved")
    assert daemon.pressed == [{"message": 1, "action": "approve:12:4f1c"}] * 2
    assert await approve.is_disabled()
    await daemon.say("approved by ling", id=1)
    await eventually(visit.page.locator("#m1 button").count, 0)


async def test_text_never_becomes_markup(visit: Visit, daemon: Daemon) -> None:
    attacks = [
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
        "```html\n<script>document.title='owned'</script>\n```",
        '**<b>bold</b>** `<i>code</i>` https://example.invalid/"onmouseover=alert(1) javascript:alert(1)',
        "```diff\n+<svg onload=alert(1)>\n-\u202egnp.exe\n```",
    ]
    for text in attacks:
        await daemon.say(text, author="<u>Eve</u>")
    await visit.page.locator("#m4").wait_for()
    await visit.page.reload()
    await visit.page.locator("#m4 pre.diff").wait_for()
    for kind in ("img", "script", "b", "i", "u", "svg"):
        assert await visit.page.locator(f"article {kind}").count() == 0
    assert await visit.page.locator("article a").evaluate_all("all => all.map((each) => each.href)") == [
        "https://example.invalid/"
    ]
    assert await visit.page.locator("#m1 .text").inner_text() == attacks[0]
    assert await visit.page.locator("#m4 .odd").inner_text() == "U+202E"
    assert "owned" not in await visit.page.title()


async def test_a_lost_connection_heals_and_misses_nothing(visit: Visit, daemon: Daemon) -> None:
    await daemon.say("before", bar=0.2)
    await visit.page.locator("#m1").wait_for()
    await daemon.cut()
    lost = visit.page.locator("#connection.lost")
    await lost.wait_for()
    box = visit.page.get_by_label("Message", exact=True)
    await box.fill("said into the dark")
    await box.press("Enter")
    again = visit.page.get_by_role("button", name="Try again")
    await again.wait_for()
    await daemon.say("edited meanwhile", id=1)
    await daemon.say("new meanwhile")
    daemon.deaf = False
    await daemon.until(lambda: daemon.listening == 1)
    await eventually(visit.page.locator("#m1 .text").inner_text, "edited meanwhile")
    await visit.page.locator("#m2").wait_for()
    await lost.wait_for(state="detached")
    await again.click()
    await visit.page.locator("#m3.mine").wait_for()
    await eventually(visit.page.locator("article").count, 3)
    visit.forgive_lost_connections()


async def test_a_lost_answer_never_makes_a_second_message(visit: Visit, daemon: Daemon) -> None:
    daemon.lose_answers = 1
    box = visit.page.get_by_label("Message", exact=True)
    await box.fill("restart")
    await box.press("Enter")
    await visit.page.locator("#m1.mine").wait_for()
    await eventually(visit.page.locator("article").count, 1)
    assert len(daemon.said) == 1
    visit.forgive_lost_connections()


async def test_an_ended_session_says_so(visit: Visit, daemon: Daemon) -> None:
    await visit.page.context.clear_cookies()
    await daemon.cut()
    daemon.deaf = False
    await visit.page.get_by_text("no longer signed in").wait_for()
    visit.forgive_lost_connections()


async def test_suggestions_fill_the_box_and_send_nothing(visit: Visit, daemon: Daemon) -> None:
    await visit.page.get_by_role("button", name="Build and restart").click()
    box = visit.page.get_by_label("Message", exact=True)
    assert await box.input_value() == "build and restart"
    assert await box.evaluate("each => each === document.activeElement")
    assert daemon.said == {}
    await box.press("Enter")
    await daemon.until(lambda: 1 in daemon.said)
    await visit.page.locator("#empty").wait_for(state="hidden")


async def test_the_strip_follows_the_service(visit: Visit, daemon: Daemon) -> None:
    strip = visit.page.get_by_role("region", name="State of the services")
    assert "1.4.2" in await strip.inner_text()
    assert "up 3 d 4 h" in await strip.inner_text()
    daemon.jobs_known[12] = repair(time.time(), status="doing")
    assert daemon.state
    service = daemon.state.services[0].model_copy(
        update={"job": 12, "probes": [types.ProbeState(name="chat", ok=False)]}
    )
    daemon.state = daemon.state.model_copy(update={"services": [service]})
    await daemon.say("starting", job=12)
    await strip.get_by_role("link", name="Job #12").wait_for()
    assert "failing: chat" in await strip.inner_text()


async def test_both_languages(browser: Any, site: str, daemon: Daemon) -> None:
    async with visiting(browser, site, daemon.token, locale="zh-CN") as visit:
        assert await visit.page.get_by_role("button", name="发送").count() == 1
        await visit.page.get_by_role("button", name="编译重启").click()
        assert await visit.page.get_by_label("消息", exact=True).input_value() == "编译重启"
        assert await visit.page.locator("html").get_attribute("lang") == "zh-CN"
        await visit.page.get_by_role("link", name="English").click()
        await visit.page.get_by_role("button", name="Send").wait_for()
        await visit.page.goto(site + "/")
        await visit.page.get_by_role("button", name="Send").wait_for()
        assert await visit.page.get_by_label("Message", exact=True).input_value() == "编译重启", "the draft is kept"


async def test_a_link_from_another_site_still_finds_its_session(browser: Any, site: str, daemon: Daemon) -> None:
    async def elsewhere(_: Request) -> Response:
        return HTMLResponse(
            f'<!doctype html><link rel="icon" href="data:,"><a href="{site}/login?token={daemon.token}">go</a>'
        )

    async with (
        serving(Starlette(routes=[Route("/", elsewhere)])) as other,
        visiting(browser, site, daemon.token) as visit,
    ):
        await visit.page.context.clear_cookies()
        await visit.page.goto(other.replace("127.0.0.1", "localhost"))
        await visit.page.get_by_role("link", name="go").click()
        await visit.page.get_by_role("button", name="Send").wait_for()
        visit.forgive_lost_connections()


# The page of a job


async def test_a_job_is_followed_and_approved(browser: Any, site: str, daemon: Daemon) -> None:
    now = time.time()
    daemon.jobs_known[12] = repair(now, status="doing", approval=None)
    async with visiting(browser, site, daemon.token, path="/jobs/12") as visit:
        await daemon.until(lambda: daemon.listening == 1)
        await daemon.change(repair(now))
        approve = visit.page.get_by_role("button", name="Approve")
        await approve.click()
        await daemon.until(lambda: len(daemon.verbs) == 1)
        assert daemon.verbs == [(12, "approve", {"digest": "sha256:4f1c9a27d0b35e68"})]
        assert "zone = ZoneInfo" in await visit.page.locator("tr.added").first.inner_text()
        assert "<script>" in await visit.page.locator("pre.log").inner_text()
        await daemon.change(repair(now, status="done", approval=None, ended_at=now, result={"version": "1.4.3"}))
        await visit.page.get_by_text("1.4.3").wait_for()
        await visit.page.get_by_role("button", name="Cancel the job").wait_for(state="detached")
        assert await approve.count() == 0


# What it looks like. REGROW_SHOTS=directory keeps the pictures.


@pytest.mark.parametrize("locale", ["zh-CN", "en-GB"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844), (320, 640)], ids=["desk", "phone", "small"])
async def test_every_page_fits(
    browser: Any,
    site: str,
    daemon: Daemon,
    tmp_path: Path,
    locale: str,
    dark: bool,
    size: tuple[int, int],
) -> None:
    shots = Path(os.environ.get("REGROW_SHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    zh = locale == "zh-CN"

    async def fits(visit: Visit, name: str) -> None:
        width = await visit.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, f"{name} scrolls sideways by {width} px"
        inner = "() => [...document.querySelectorAll('main, #strip')].map((e) => e.scrollWidth - e.clientWidth)"
        assert max(await visit.page.evaluate(inner)) <= 0, f"{name}: its content scrolls sideways"
        file = f"{name}-{size[0]}x{size[1]}-{locale[:2]}-{'dark' if dark else 'light'}.png"
        await visit.page.screenshot(path=str(shots / file))

    async with visiting(browser, site, daemon.token, locale=locale, size=size, dark=dark) as visit:
        await daemon.until(lambda: daemon.listening == 1)
        await fits(visit, "empty")
        await talk(daemon, zh)
        await visit.page.locator("#m5 pre.diff").wait_for()
        await visit.page.locator("#strip a.job").wait_for()
        await fits(visit, "chat")
        assert daemon.state
        ill = {"state": "down", "crashes": 3, "probes": [types.ProbeState(name="health", ok=False)], "queue": [13]}
        daemon.state = daemon.state.model_copy(
            update={
                "services": [daemon.state.services[0].model_copy(update=ill)],
                "channels": [types.ChannelStatus(name="feishu", healthy=False)],
                "outbox_waiting": 2,
            }
        )
        await daemon.say("⚠️", job=12)
        await visit.page.locator("#strip .state.down").wait_for()
        assert await visit.page.locator("#strip [data-since]").count() == 0, "what is down is not up since anything"
        await daemon.cut()
        await visit.page.locator("#connection.lost").wait_for()
        await fits(visit, "lost")
        daemon.deaf = False
        await visit.page.goto(site + "/jobs/12")
        await visit.page.locator("tr.added").first.wait_for()
        await fits(visit, "job")
        await visit.page.evaluate("() => document.querySelector('#approval').scrollIntoView()")
        await fits(visit, "change")
        await visit.page.goto(site + "/jobs/99")
        await fits(visit, "missing")
        visit.forgive_lost_connections()


# The other pages


async def test_the_overview_is_live_and_says_when_it_is_not(browser: Any, site: str, daemon: Daemon) -> None:
    async with visiting(browser, site, daemon.token, path="/overview") as visit:
        await daemon.until(lambda: "status" in daemon._streams.values())
        await visit.page.get_by_text("no job").first.wait_for()
        daemon.jobs_known[12] = repair(time.time())
        assert daemon.state
        service = daemon.state.services[0].model_copy(update={"job": 12})
        daemon.state = daemon.state.model_copy(update={"services": [service]})
        await daemon.push("status", daemon.state.model_dump_json())
        await visit.page.locator("#asking .lead").wait_for()
        await daemon.cut()
        await visit.page.locator("#connection.lost").wait_for()
        daemon.deaf = False
        await visit.page.locator("#connection button").click()
        await visit.page.locator("#connection.open").wait_for()
        visit.forgive_lost_connections()


@pytest.mark.parametrize("path", ["/overview", "/jobs", "/incidents", "/releases", "/audit", "/jobs/12"])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
async def test_no_page_is_wider_than_a_phone(browser: Any, site: str, daemon: Daemon, path: str, locale: str) -> None:
    daemon.jobs_known[12] = repair(time.time(), locale == "zh-CN")
    async with visiting(browser, site, daemon.token, locale=locale, size=(390, 844), path=path) as visit:
        assert await visit.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert await visit.page.locator("nav.rooms a[aria-current=page]").count() == 1


async def test_an_incident_is_repaired_from_its_page(browser: Any, site: str, daemon: Daemon) -> None:
    daemon.jobs_known[12] = repair(time.time())
    async with visiting(browser, site, daemon.token, path="/incidents") as visit:
        await visit.page.get_by_role("button", name="Repair it").click()
        await visit.page.wait_for_url("**/jobs/12")
        asked = daemon.pressed[0]
        assert (asked["intent"], asked["args"], asked["service"]) == ("repair", {"incident": "3"}, "claw")
        assert (asked["notify"]["channel"], len(asked["key"])) == ("web", 32)


async def test_rolling_back_from_the_page_is_asked_about_first(browser: Any, site: str, daemon: Daemon) -> None:
    daemon.jobs_known[12] = repair(time.time())
    async with visiting(browser, site, daemon.token, path="/releases") as visit:
        asked: list[str] = []
        answers = iter(["dismiss", "accept"])

        async def answer(dialog: Any) -> None:
            asked.append(dialog.message)
            await getattr(dialog, next(answers))()

        visit.page.on("dialog", answer)
        button = visit.page.get_by_role("button", name="Roll back to it")
        assert await button.count() == 1
        await button.click()
        assert daemon.pressed == []
        await button.click()
        await visit.page.wait_for_url("**/jobs/12")
        assert asked[0].startswith("Roll back to r6a1b2c3?")
        [request] = daemon.pressed
        assert (request["intent"], request["args"], request["service"]) == ("rollback", {"target": "r6"}, "claw")
