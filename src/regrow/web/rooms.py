"""The console's pages beside the conversation: what each shows, read from the daemon a page at a time.

GET /overview         the services, what runs now, what waits for an answer, the last jobs
GET /jobs             jobs, the newest first, by kind and outcome
GET /incidents        incidents with their evidence; one that the code may mend can be repaired from here
GET /releases         the releases of every service, and the way back to one
GET /audit            who did what on whose word, a page at a time, of one person or one job
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, get_args

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from regrow.api.types import AuditRow, Incident, Job, JobStatus, Kind, Release
from regrow.catalogue import Language, say_fitting
from regrow.errors import NotFound, Refused, RegrowError
from regrow.web import view

JOBS_A_PAGE = 50
LAST_JOBS = 8
INCIDENTS_A_PAGE = 50
ROWS_A_PAGE = 100
WAYS_BACK = frozenset({"standby", "fallback", "good"})
"""States of a release to which a person may go back from here."""
MENDED_BY_REPAIR = frozenset({"open", "came_back", "tried", "ignored", "quiet"})
"""States of an incident in which a person may ask for a repair of it."""

_DIGITS = 9
_NAME = 100

T = TypeVar("T")


class Source(Protocol):
    """What these pages show, read from the daemon. Each call may raise RegrowError."""

    @property
    def language(self) -> Language: ...

    async def jobs(self, limit: int, kind: str, status: str, before: int | None, /) -> Sequence[Job]: ...

    async def asking(self) -> Sequence[Job]: ...

    async def incidents(self, limit: int, /) -> Sequence[Incident]: ...

    async def releases(self) -> Mapping[str, Sequence[Release]]: ...

    async def audit(self, limit: int, before: int | None, who: str, job: int | None, /) -> Sequence[AuditRow]: ...


class Soon(Protocol):
    """Waits for an answer of the daemon, not for ever."""

    def __call__(self, answer: Awaitable[T], /) -> Awaitable[T]: ...


Endpoint = Callable[[Request], Awaitable[Response]]
State = Callable[[], Awaitable[dict[str, Any]]]


class Rooms:
    """The pages.

    Args:
        source: where they are read from.
        soon: bounds each reading.
        state: what the head of every page shows.
    """

    def __init__(self, source: Source, soon: Soon, state: State) -> None:
        self._source = source
        self._soon = soon
        self._state = state

    def routes(self, middleware: Sequence[Middleware]) -> list[BaseRoute]:
        """Their routes."""
        pages: dict[str, Endpoint] = {
            "/overview": self.overview,
            "/jobs": self.jobs,
            "/incidents": self.incidents,
            "/releases": self.releases,
            "/audit": self.audit,
        }
        return [Route(path, self._kept(page), middleware=middleware) for path, page in pages.items()]

    def _kept(self, page: Endpoint) -> Endpoint:
        """A page that says so when the daemon does not answer, or not to this."""

        async def call(request: Request) -> Response:
            language = self._source.language
            try:
                return await page(request)
            except NotFound as error:
                return self._refused(request, 404, error)
            except Refused as error:
                return self._refused(request, 403, error)
            except (RegrowError, TimeoutError):
                return view.refusal(request, language, 503, "trouble_title", "trouble", hint=False, link=True)

        return call

    def _refused(self, request: Request, code: int, error: RegrowError) -> Response:
        title = "missing_title" if code == 404 else "trouble_title"
        return view.refusal(
            request, self._source.language, code, title, "said", hint=False, link=True, reason=str(error)
        )

    async def _page(self, request: Request, room: str, *, live: bool = True, **context: Any) -> Response:
        """A page by its name, which is that of its template and of its heading's word; a live one follows the state."""
        given = {"room": room, "live": live, **context, **await self._state()}
        return view.page(request, f"{room}.html", self._source.language, **given)

    async def overview(self, request: Request) -> Response:
        """Everything at a glance."""
        return await self._page(
            request,
            "overview",
            asking=await self._soon(self._source.asking()),
            jobs=await self._soon(self._source.jobs(LAST_JOBS, "", "", None)),
        )

    async def jobs(self, request: Request) -> Response:
        """One page of jobs."""
        kind, status = _one_of(request, "kind", get_args(Kind)), _one_of(request, "outcome", get_args(JobStatus))
        found = await self._soon(self._source.jobs(JOBS_A_PAGE + 1, kind, status, _number(request, "before")))
        first = _is_first(request)
        return await self._page(
            request,
            "jobs",
            live=first,
            jobs=found[:JOBS_A_PAGE],
            kinds=get_args(Kind),
            statuses=get_args(JobStatus),
            kind=kind,
            outcome=status,
            first=first,
            older=_older(found, JOBS_A_PAGE),
        )

    async def incidents(self, request: Request) -> Response:
        """The incidents seen last, of every service."""
        language = view.language_of(request, self._source.language)
        found = await self._soon(self._source.incidents(INCIDENTS_A_PAGE))
        titles = {one.id: say_fitting(language, f"incident.{one.kind}", cause=one.cause) for one in found}
        return await self._page(request, "incidents", incidents=found, titles=titles, mendable=MENDED_BY_REPAIR)

    async def releases(self, request: Request) -> Response:
        """The releases of every service, the newest first."""
        found = await self._soon(self._source.releases())
        return await self._page(request, "releases", services=found, ways_back=WAYS_BACK)

    async def audit(self, request: Request) -> Response:
        """One page of the audit log, the newest row first."""
        who, job = request.query_params.get("who", "")[:_NAME], _number(request, "job")
        found = await self._soon(self._source.audit(ROWS_A_PAGE + 1, _number(request, "before"), who, job))
        return await self._page(
            request,
            "audit",
            live=False,
            audited=found[:ROWS_A_PAGE],
            who=who,
            of_job=job,
            first=_is_first(request),
            older=_older(found, ROWS_A_PAGE),
        )


def _is_first(request: Request) -> bool:
    """Whether this is the page with the newest."""
    return "before" not in request.query_params


def _older(found: Sequence[Job] | Sequence[AuditRow], size: int) -> int | None:
    """What the next page is before, of rows that were asked for with one more than a page has; None on the last."""
    return found[size - 1].id if len(found) > size else None


def _one_of(request: Request, name: str, known: Sequence[str]) -> str:
    """A word of the query, where it is a known one; an unknown one filters nothing."""
    given = request.query_params.get(name, "")
    return given if given in known else ""


def _number(request: Request, name: str) -> int | None:
    given = request.query_params.get(name, "")
    return int(given) if re.fullmatch(rf"[0-9]{{1,{_DIGITS}}}", given) else None
