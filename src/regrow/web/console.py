"""The console's routes: the conversation, the page of a job, signing in, static files.

    GET /                 the state strip and the conversation
    GET /strip            the state strip alone, which the pages fetch to keep theirs fresh
    GET /jobs/N           one job: steps, approval, change, result, log
    GET /login?token=T    sets the session cookie and goes to /
    GET /decide/LINK      the question of a job, for the one person whom the link was sent to
    POST /decide/LINK     that person's answer
    GET /static/…         styles and scripts

The pages beside the conversation are in regrow.web.rooms.

The pages only read. What changes anything is a call of the browser to /v1, behind regrow.web.guards; or an answer that
the link itself gives the right to, which a browser never sends by itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from regrow.api.types import ENDED, Job, Message, ServiceStatus, Status
from regrow.catalogue import Language
from regrow.errors import NotFound, Refused, RegrowError
from regrow.web import diff, rooms, view
from regrow.web.guards import SecurityHeaders
from regrow.web.session import LIFETIME_S, Session

CHANNEL = "web"
CHAT = "main"
SHOWN_MESSAGES = 200
SHOWN_LOG_CHARS = 200_000

_READ_S = 5.0
_FORM_BYTES = 1024
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")

T = TypeVar("T")


class Pages(rooms.Source, Protocol):
    """What the console shows, read from the daemon. Each call may raise RegrowError; a number nobody knows NotFound."""

    @property
    def token(self) -> str: ...

    async def status(self) -> Status: ...

    async def job(self, number: int, /) -> Job: ...

    async def job_log(self, number: int, /) -> str: ...

    async def messages(self, channel: str, chat: str, /) -> list[Message]: ...

    async def question(self, link: str, /) -> Question: ...

    async def answer(self, link: str, approve: bool, language: Language, /) -> str: ...


@dataclass(frozen=True)
class Question:
    """What a link asks: the job, who is asked by name, and whether it may still be answered."""

    job: Job
    person: str
    open: bool


@dataclass(frozen=True)
class ServiceRow:
    """A service in the state strip, with the job that changes it now."""

    service: ServiceStatus
    job: Job | None

    @property
    def step(self) -> str:
        """The title of the step under way, or what the job waits for."""
        if self.job is None:
            return ""
        doing = [step.title for step in self.job.steps if step.status in {"doing", "waiting", "undoing"}]
        return doing[-1] if doing else self.job.waiting_for

    @property
    def progress(self) -> float | None:
        """How far the step under way is, 0 to 1, where it can be estimated."""
        steps = self.job.steps if self.job else []
        return next((step.progress for step in steps if step.status == "doing"), None)


def routes(pages: Pages) -> list[BaseRoute]:
    """The console's routes.

    Args:
        pages: where the pages are read from; its token is what /login compares with.

    Raises:
        ValueError: the token is too short.
    """
    console = _Console(pages)
    headers = [Middleware(SecurityHeaders)]
    others = rooms.Rooms(pages, _soon, console.state)
    return [
        Route("/", console.home, middleware=headers),
        Route("/strip", console.strip, middleware=headers),
        Route("/jobs/{number:int}", console.job, middleware=headers),
        Route("/login", console.login, middleware=headers),
        Route("/decide/{link}", console.decide, methods=["GET", "POST"], middleware=headers),
        *others.routes(headers),
        Mount("/static", _Static(directory=_static_directory()), middleware=headers),
    ]


class _Console:
    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.session = Session(pages.token)

    async def home(self, request: Request) -> Response:
        try:
            said = await _soon(self.pages.messages(CHANNEL, CHAT))
        except (RegrowError, TimeoutError):
            return self._trouble(request)
        return view.page(
            request,
            "chat.html",
            self.pages.language,
            messages=said[-SHOWN_MESSAGES:],
            more=len(said) > SHOWN_MESSAGES,
            **await self.state(),
        )

    async def strip(self, request: Request) -> Response:
        return view.page(request, "strip.html", self.pages.language, **await self.state())

    async def job(self, request: Request) -> Response:
        number = request.path_params["number"]
        try:
            job = await _soon(self.pages.job(number))
            log = await _soon(self.pages.job_log(number))
        except NotFound:
            return view.refusal(
                request, self.pages.language, 404, "missing_title", "missing_job", hint=False, link=True, id=number
            )
        except (RegrowError, TimeoutError):
            return self._trouble(request)
        text = job.approval.diff if job.approval else ""
        # Colouring a long change takes a while; the loop has other people to serve.
        files = await asyncio.to_thread(diff.read, text) if text else []
        shown = _ESCAPES.sub("", log[-SHOWN_LOG_CHARS:])
        return view.page(
            request,
            "job.html",
            self.pages.language,
            job=job,
            files=files,
            ended=job.status in ENDED,
            log=shown,
            span=_span(job),
            log_cut=len(log) > SHOWN_LOG_CHARS,
            **await self.state(),
        )

    async def decide(self, request: Request) -> Response:
        language, link = view.language_of(request, self.pages.language), request.path_params["link"]
        answered, refused = "", ""
        try:
            if request.method == "POST":
                word = (await _form(request)).get("answer", [""])[0]
                try:
                    if word not in {"approve", "reject"}:
                        raise Refused("cannot take that for an answer; press one of the two", kind="bad_request")
                    answered = await _soon(self.pages.answer(link, word == "approve", language))
                except Refused as error:
                    refused = str(error)
            question = await _soon(self.pages.question(link))
        except NotFound:
            return view.refusal(request, self.pages.language, 404, "decide_link", "decide_link_text", hint=False)
        except (RegrowError, TimeoutError):
            return self._trouble(request)
        text = question.job.approval.diff if question.job.approval else ""
        return view.page(
            request,
            "decide.html",
            self.pages.language,
            code=409 if refused else 200,
            job=question.job,
            files=await asyncio.to_thread(diff.read, text) if text else [],
            person=question.person,
            open=question.open,
            answered=answered,
            refused=refused,
        )

    async def login(self, request: Request) -> Response:
        if not self.session.is_token(request.query_params.get("token", "")):
            return view.refusal(request, self.pages.language, 403, "refused_title", "refused_token")
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            self.session.name,
            self.session.issue(),
            max_age=LIFETIME_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def state(self) -> dict[str, Any]:
        """What the strip shows; a state that cannot be read is said so there and takes nothing else with it."""
        try:
            status = await _soon(self.pages.status())
        except (RegrowError, TimeoutError):
            return {"status": None, "rows": [], "rooms": view.ROOMS}
        rows = [await self._row(service) for service in status.services]
        return {"status": status, "rows": rows, "rooms": view.ROOMS}

    async def _row(self, service: ServiceStatus) -> ServiceRow:
        if service.job is None:
            return ServiceRow(service, None)
        try:
            return ServiceRow(service, await _soon(self.pages.job(service.job)))
        except (RegrowError, TimeoutError):
            return ServiceRow(service, None)

    def _trouble(self, request: Request) -> Response:
        return view.refusal(request, self.pages.language, 503, "trouble_title", "trouble", hint=False, link=True)


@dataclass(frozen=True)
class Span:
    """From when to when the steps of a job's timeline are drawn, seconds since 1970 and seconds."""

    start: float
    seconds: float


def _span(job: Job) -> Span | None:
    """What a job's timeline covers; None before anything has begun."""
    begun = [step.started_at for step in job.steps if step.started_at is not None]
    if not begun:
        return None
    ends = [step.started_at + step.seconds for step in job.steps if step.started_at and step.seconds is not None]
    end = max([*ends, *begun]) if job.status in ENDED else time.time()
    return Span(min(begun), max(end - min(begun), 0.001))


class _Static(StaticFiles):
    """Static files, which a browser keeps and asks about each time: a new release shows at once."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response


async def _form(request: Request) -> dict[str, list[str]]:
    """The fields of a form of ours; anything longer is none."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _FORM_BYTES:
            return {}
    return parse_qs(content.decode(errors="replace"))


async def _soon(answer: Awaitable[T]) -> T:
    async with asyncio.timeout(_READ_S):
        return await answer


def _static_directory() -> Path:
    return Path(str(resources.files("regrow") / "web" / "static"))
