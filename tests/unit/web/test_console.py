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
from regrow.errors import NotFound, Refused, RegrowError
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
        self.count = 1
        self.asked_for: list[tuple[int, str, str, int | None]] = []
        self.answers: list[tuple[bool, str]] = []
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

    async def jobs(self, limit: int, kind: str, status: str, before: int | None, /) -> list[types.Job]:
        self.asked_for.append((limit, kind, status, before))
        if self.down:
            raise RegrowError("cannot read the jobs: the store is locked; try again")
        job = await self.job(12)
        return [job.model_copy(update={"id": 100 - each}) for each in range(min(limit, self.count))]

    async def incidents(self, limit: int, /) -> list[types.Incident]:
        fields: dict[str, Any] = {"service": EVIL, "kind": "crash", "fingerprint": EVIL, "cause": EVIL, "count": 3}
        fields |= {"first_at": 1.0, "last_at": 2.0, "releases": [EVIL], "lines": [EVIL]}
        states = ("open", "repairing", "told")
        return [types.Incident(id=n, state=state, **fields) for n, state in enumerate(states, 1)]

    async def releases(self) -> dict[str, list[types.Release]]:
        states = ("active", "good", "pinned")
        fields: dict[str, Any] = {"commit": EVIL, "digest": EVIL, "bytes": 38e6, "built_at": 1.0, "build_seconds": 2.0}
        fields |= {"version": EVIL, "subject": EVIL, "job": 12, "pinned_reason": EVIL}
        return {EVIL: [types.Release(id=f"r{n}", state=state, **fields) for n, state in enumerate(states, 1)]}

    async def audit(self, limit: int, before: int | None, who: str, job: int | None, /) -> list[types.AuditRow]:
        self.asked_for.append((limit, who, before, job))
        fields: dict[str, Any] = {"who": EVIL, "person": EVIL, "via": EVIL, "what": EVIL, "job": 12, "hash": EVIL}
        detail = {"intent": EVIL, "words": EVIL}
        ids = range(200, 200 - min(limit, self.count), -1)
        # Most rows say less than all that one may say.
        return [types.AuditRow(id=each, at=1.0, detail=detail if each % 2 == 0 else {}, **fields) for each in ids]

    async def asking(self) -> list[types.Job]:
        return [await self.job(12)]

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

    async def question(self, link: str, /) -> console.Question:
        if link != "mine":
            raise NotFound("cannot open this link")
        return console.Question(await self.job(12), EVIL, open=self.answers == [])

    async def answer(self, link: str, approve: bool, language: words.Language, /) -> str:
        if link != "mine" or self.answers:
            raise Refused(f"cannot answer: {EVIL}", kind="decided")
        self.answers.append((approve, language))
        return EVIL


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


@pytest.mark.parametrize("path", ["/", "/strip", "/jobs/12", "/overview", "/jobs", "/incidents", "/releases", "/audit"])
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


@pytest.mark.parametrize("path", ["/", "/jobs/12", "/overview", "/jobs", "/strip", "/login", "/static/chat.js"])
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


async def test_a_page_of_jobs_is_one_reading_and_leads_to_the_older_ones(
    inside: httpx.AsyncClient, memory: Memory
) -> None:
    memory.count = 80
    answer = await inside.get("/jobs", params={"kind": "repair", "outcome": "failed", "before": "101", "lang": "en"})
    assert memory.asked_for == [(51, "repair", "failed", 101)]
    links = [each["href"] or "" for tag, each in Markup(answer.text).tags if tag == "a" and "href" in each]
    assert len([each for each in links if re.fullmatch(r"/jobs/\d+", each)]) == 51, "fifty, and the one under way"
    assert "/jobs?kind=repair&outcome=failed&before=51" in links
    assert "/jobs?kind=repair&outcome=failed&before=101&lang=zh" in links


@pytest.mark.parametrize("query", [{"kind": EVIL, "outcome": "1 or 1"}, {"before": "-1"}, {"before": "9" * 5000}])
async def test_a_filter_that_nobody_knows_filters_nothing(
    inside: httpx.AsyncClient, memory: Memory, query: dict[str, str]
) -> None:
    assert (await inside.get("/jobs", params=query)).status_code == 200
    assert memory.asked_for == [(51, "", "", None)]


async def test_the_overview_says_what_waits_and_that_it_cannot_be_read(
    inside: httpx.AsyncClient, memory: Memory
) -> None:
    assert "Waiting for your answer" in (await inside.get("/overview")).text
    memory.down = True
    assert (await inside.get("/overview")).status_code == 503


async def test_only_an_incident_that_waits_for_it_is_offered_for_repair(inside: httpx.AsyncClient) -> None:
    page = Markup((await inside.get("/incidents")).text)
    offered = [each for _, each in page.tags if each.get("data-intent") == "repair"]
    assert [(each["data-args"], each["data-service"]) for each in offered] == [('{"incident": "1"}', EVIL)]


async def test_only_a_release_that_was_good_is_a_way_back(inside: httpx.AsyncClient) -> None:
    page = Markup((await inside.get("/releases", params={"lang": "en"})).text)
    offered = [each for _, each in page.tags if each.get("data-intent") == "rollback"]
    assert [(each["data-args"], each["data-service"]) for each in offered] == [('{"target": "r2"}', EVIL)]
    assert f"Roll back to {EVIL}?" in (offered[0]["data-confirm"] or "")


async def test_the_audit_log_is_paged_and_asked_for_once(inside: httpx.AsyncClient, memory: Memory) -> None:
    memory.count = 150
    query = {"who": "Ada & Co", "job": "12", "before": "300", "lang": "en"}
    answer = await inside.get("/audit", params=query)
    assert memory.asked_for == [(101, "Ada & Co", 300, 12)]
    links = [each["href"] or "" for tag, each in Markup(answer.text).tags if tag == "a" and "href" in each]
    assert "/audit?who=Ada%20%26%20Co&job=12&before=101" in links
    assert answer.text.count("<li>") >= 100


async def test_what_may_not_be_seen_is_refused_in_the_daemons_words(
    inside: httpx.AsyncClient, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(limit: int, kind: str, status: str, before: int | None) -> list[types.Job]:
        raise Refused(f"cannot show this: {EVIL}", kind="forbidden")

    monkeypatch.setattr(memory, "jobs", refuse)
    answer = await inside.get("/jobs")
    assert (answer.status_code, f"cannot show this: {EVIL}" in Markup(answer.text).text) == (403, True)
    assert "<img src=x" not in answer.text


async def test_the_tests_of_a_repair_stand_beside_its_timeline(
    inside: httpx.AsyncClient, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await memory.job(12)
    repaired = job.model_copy(update={"result": {"failed_before": 2, "proving_tests": [EVIL], "lost_tests": []}})

    async def given(number: int) -> types.Job:
        return repaired

    monkeypatch.setattr(memory, "job", given)
    page = Markup((await inside.get("/jobs/12")).text)
    assert "Failing before the change" in page.text
    assert "Failed before, pass now" in page.text
    assert [each["aria-label"] for tag, each in page.tags if tag == "svg"] != []


def test_no_script_can_make_markup_and_no_template_trusts_text() -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|setHTML"
    for script in WEB.glob("static/*.js"):
        assert not re.search(sinks, script.read_text("utf-8")), script.name
    for template in WEB.glob("templates/*.html"):
        text = template.read_text("utf-8")
        assert not re.search(r"\|\s*safe|autoescape|style=|<script(?![^>]*src=)", text), template.name


# A question answered by a link


@pytest.mark.parametrize(("word", "yes"), [("approve", True), ("reject", False)])
async def test_a_link_is_answered_without_signing_in(
    client: httpx.AsyncClient, memory: Memory, word: str, yes: bool
) -> None:
    shown = await client.get("/decide/mine")
    assert shown.status_code == 200
    assert shown.text.count('<form method="post">') == 2
    assert "<img" not in shown.text.replace('<img src="/static/mark.svg"', "")
    assert "set-cookie" not in shown.headers
    answered = await client.post("/decide/mine", data={"answer": word}, headers={"accept-language": "zh"})
    assert (answered.status_code, memory.answers) == (200, [(yes, "zh")])
    assert "<form" not in answered.text
    # Looking and answering again change nothing.
    assert "<form" not in (await client.get("/decide/mine")).text
    again = await client.post("/decide/mine", data={"answer": "approve"})
    assert (again.status_code, memory.answers) == (409, [(yes, "zh")])
    assert "<img" not in again.text.replace('<img src="/static/mark.svg"', "")


@pytest.mark.parametrize("content", ["", "answer=", "answer=maybe", "answer=approve" + "x" * 2000, "\xff"])
async def test_what_is_no_answer_decides_nothing(client: httpx.AsyncClient, memory: Memory, content: str) -> None:
    answered = await client.post("/decide/mine", content=content.encode("latin-1"))
    assert (answered.status_code, memory.answers) == (409, [])
    assert "<form" in answered.text


async def test_a_link_of_somebody_else_leads_nowhere(client: httpx.AsyncClient, memory: Memory) -> None:
    for method in ("GET", "POST"):
        answer = await client.request(method, "/decide/other", data={"answer": "approve"} if method == "POST" else None)
        assert answer.status_code == 404
        assert EVIL not in answer.text
    assert memory.answers == []


async def test_a_link_lets_nobody_in_elsewhere(client: httpx.AsyncClient) -> None:
    await client.get("/decide/mine")
    for path in ("/", "/jobs/12", "/overview", "/jobs", "/v1/status", "/decide", "/decide/mine/../../v1/status"):
        assert (await client.get(path)).status_code in {401, 404}, path
