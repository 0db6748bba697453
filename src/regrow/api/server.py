"""The HTTP API: the intents, the state, the chats. The same routes serve the unix socket and the console's port.

Who may call is decided before a request gets here: the unix socket is this user's alone, the console's port asks for
its token. Both are the local person; what the person may do is decided by `requests`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
import uvicorn
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from regrow.api import metrics, openapi, types
from regrow.api.callers import Callers
from regrow.api.operations import AFTER, AFTER_ROW, BEFORE, LIMIT, LINES, OF_JOB, OPERATIONS, ROWS, SINCE, Parameter
from regrow.asking import SAY, Asked, button, from_body
from regrow.backups import Backups
from regrow.catalogue import Language, accepted_language
from regrow.channels.base import Address
from regrow.channels.hosted import HostedChannel
from regrow.errors import NotFound, Refused, RegrowError
from regrow.events import Events
from regrow.http_server import Server
from regrow.intents import Args, Intent
from regrow.jobs.ledger import Ledger
from regrow.permissions import LOCAL
from regrow.pool import in_thread
from regrow.requests import Requests
from regrow.views import Views

log = structlog.get_logger("api")

B = TypeVar("B", bound=BaseModel)

_BODY_BYTES = 1024 * 1024
_STREAM_EVERY_S = 1.0
_STREAM_PAUSE_S = 0.1
_STATE_EVERY_S = 5.0
_GRACE_S = 2
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_STATUS = {"forbidden": 403, "forbidden_here": 403, "bad_request": 400, "config": 400}


@dataclass(frozen=True)
class Parts:
    """What the API speaks for."""

    requests: Requests
    ledger: Ledger
    views: Views
    events: Events
    hosted: Mapping[str, HostedChannel]
    findings: Callable[[], Awaitable[list[types.Finding]]]
    people: Callable[[], Awaitable[types.People]]
    permissions: Callable[[str, str, str], types.Permissions]
    stop: Callable[[bool], None]
    upgrade: Callable[[], Awaitable[None]]
    backups: Backups
    stopping: asyncio.Event
    callers: Callers


Endpoint = Callable[[Request], Awaitable[Response]]


def _error(error: RegrowError) -> Response:
    status = 404 if isinstance(error, NotFound) else _STATUS.get(error.kind, 409 if isinstance(error, Refused) else 503)
    return _shape(types.ErrorBody(kind=error.kind, error=str(error)), status)


def _shape(value: BaseModel, status: int = 200) -> Response:
    return Response(value.model_dump_json(), status, media_type="application/json")


def _shapes(values: list[Any], kind: Any) -> Response:
    return Response(TypeAdapter(list[kind]).dump_json(values), media_type="application/json")


def _guarded(endpoint: Endpoint, parts: Parts, programs: Intent | None) -> Endpoint:
    """Expected errors become `ErrorBody`; anything else is logged and says nothing of the inside."""

    async def call(request: Request) -> Response:
        try:
            if parts.callers.program(request):
                if programs is None:
                    raise Refused("cannot do this for a program: a person does it, in the console", kind="forbidden")
                await parts.requests.allow(parts.callers.asked(request), programs)
            return await endpoint(request)
        except RegrowError as error:
            return _error(error)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            return _error(Refused(f"cannot use {where}: {first['msg'].lower()}", kind="bad_request"))

    return call


async def _body(request: Request, shape: type[B]) -> B:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _BODY_BYTES:
            raise Refused(f"cannot take more than {_BODY_BYTES} bytes at once", kind="bad_request")
    return shape.model_validate_json(bytes(content) or b"{}")


def _number(request: Request, parameter: Parameter) -> int:
    return _given(request, parameter) if parameter.name in request.query_params else parameter.default or 0


def _given(request: Request, parameter: Parameter) -> int:
    text = request.query_params[parameter.name]
    if not (text.isascii() and text.isdigit()):
        raise Refused(f"cannot use {parameter.name}={text[:40]}: it is a number", kind="bad_request")
    # Not int() of what may have thousands of digits.
    return parameter.most if len(text.lstrip("0")) > 15 else min(int(text[-15:]), parameter.most)


def routes(parts: Parts) -> list[BaseRoute]:
    """The routes of `regrow.api.operations`."""

    async def status(_: Request) -> Response:
        return _shape(await parts.views.status())

    async def status_events(_: Request) -> Response:
        async def changes() -> AsyncIterator[tuple[str, str]]:
            topics = [("service", service.name) for service in (await parts.views.status()).services]
            async for _ in _looks(parts, "jobs", "incidents", *topics, at_least_every_s=_STATE_EVERY_S):
                yield "status", (await parts.views.status()).model_dump_json()

        return _stream(changes())

    async def requests(request: Request) -> Response:
        body = await _body(request, types.RequestBody)
        intent, args = from_body(body)
        said = " ".join([body.intent, *(f"{name}={value}" for name, value in body.args.items())])
        asked = parts.callers.asked(request, body.language, body.key, body.notify, said=said)
        done = await parts.requests.carry_out(intent, args, asked, body.service, body.args.get("agent", ""))
        return _shape(done)

    async def jobs(request: Request) -> Response:
        before = _given(request, BEFORE) if BEFORE.name in request.query_params else None
        kind, outcome = request.query_params.get("kind", ""), request.query_params.get("status", "")
        records = await parts.ledger.last(_number(request, LIMIT), kind=kind, status=outcome, before=before)
        return _shapes(await parts.views.jobs(records), types.Job)

    async def job_view(number: int) -> types.Job:
        return await parts.views.job(await parts.ledger.get(number))

    async def job(request: Request) -> Response:
        return _shape(await job_view(request.path_params["number"]))

    async def job_events(request: Request) -> Response:
        number = request.path_params["number"]
        await parts.ledger.get(number)

        async def changes() -> AsyncIterator[tuple[str, str]]:
            async for _ in _looks(parts, ("job", number)):
                view = await job_view(number)
                yield "job", view.model_dump_json()
                if view.status in types.ENDED:
                    return

        return _stream(changes())

    async def job_log(request: Request) -> Response:
        return PlainTextResponse(await parts.views.job_log(request.path_params["number"]))

    def deciding(intent: Intent) -> Endpoint:
        async def decide(request: Request) -> Response:
            number = request.path_params["number"]
            digest = (await _body(request, types.ApproveBody)).digest if intent is Intent.approve else ""
            asked = parts.callers.asked(request, said=f"{intent} job={number}")
            await parts.requests.carry_out(intent, Args(job=number, target=digest), asked)
            return _shape(await job_view(number))

        return decide

    async def releases(request: Request) -> Response:
        care = parts.requests.care(request.query_params.get("service", ""))
        return _shapes(await parts.views.releases(care), types.Release)

    async def snapshots(request: Request) -> Response:
        care = parts.requests.care(request.query_params.get("service", ""))
        return _shapes(await parts.views.snapshots(care), types.Snapshot)

    async def restore_plan(request: Request) -> Response:
        care = parts.requests.care(request.query_params.get("service", ""))
        return _shape(await parts.views.restore_plan(care, request.path_params["number"]))

    async def incidents(request: Request) -> Response:
        care = parts.requests.care(request.query_params.get("service", ""))
        return _shapes(await parts.views.incidents(care, _number(request, LIMIT)), types.Incident)

    async def logs(request: Request) -> Response:
        care = parts.requests.care(request.query_params.get("service", ""))
        lines, release = _number(request, LINES), request.query_params.get("release", "")
        text = await parts.views.logs(care, lines, release)
        if request.query_params.get("follow") != "1":
            return PlainTextResponse(text)

        async def following() -> AsyncIterator[bytes]:
            yield (text + "\n").encode() if text and lines else b""
            async for line in parts.views.follow(care, parts.stopping):
                yield (line + "\n").encode()

        return StreamingResponse(following(), media_type="text/plain; charset=utf-8")

    def hosted(channel: str) -> HostedChannel:
        if channel not in parts.hosted:
            raise NotFound(
                f"cannot find the channel {channel}; there are {', '.join(parts.hosted)}", kind="no_such_channel"
            )
        return parts.hosted[channel]

    async def say(request: Request) -> Response:
        body = await _body(request, types.ChatBody)
        return _shape(await hosted(body.channel).say(body.chat, body.text, body.key, LOCAL.id, LOCAL.name))

    def chat_of(request: Request) -> tuple[HostedChannel, str]:
        return hosted(request.query_params.get("channel", "web")), request.query_params.get("chat", "main")

    async def messages(request: Request) -> Response:
        channel, chat = chat_of(request)
        return _shapes(await channel.after(chat, _number(request, AFTER)), types.Message)

    async def chat_events(request: Request) -> Response:
        channel, chat = chat_of(request)
        # Before the answer begins: what is stored from here on is told, what was before the client can read.
        shown = {message.id: message.revision for message in await channel.after(chat, 0)}

        async def changes() -> AsyncIterator[tuple[str, str]]:
            async for _ in _looks(parts, ("chat", channel.name, chat), at_least_every_s=15.0):
                for message in await channel.after(chat, 0):
                    if shown.get(message.id, -1) < message.revision:
                        shown[message.id] = message.revision
                        yield "message", message.model_dump_json()
                yield "", ""

        return _stream(changes())

    async def actions(request: Request) -> Response:
        body = await _body(request, types.ActionBody)
        # A press counts only for a button that this very message shows now (F35).
        for channel in parts.hosted.values():
            with contextlib.suppress(NotFound):
                message = await channel.get(body.message)
                break
        else:
            raise NotFound(f"cannot find message {body.message}", kind="no_such_message")
        if body.action not in {shown.action for shown in message.buttons}:
            return _shape(
                types.ActionResult(ok=False, text="cannot press: this message has changed meanwhile; look again")
            )
        if body.action.startswith(SAY):
            await channel.say(message.chat, body.action.removeprefix(SAY), "", LOCAL.id, LOCAL.name)
            return _shape(types.ActionResult(ok=True, text=""))
        intent, args = button(body.action)
        label = next(shown.label for shown in message.buttons if shown.action == body.action)
        address = Address(message.channel, message.chat, str(message.id))
        asked = Asked(LOCAL, LOCAL.name, address, _language(request), words=label, understood="button")
        try:
            done = await parts.requests.carry_out(intent, args, asked)
        except RegrowError as error:
            return _shape(types.ActionResult(ok=False, text=str(error)))
        return _shape(types.ActionResult(ok=True, text=done.text if isinstance(done, types.Answer) else ""))

    async def settings(request: Request) -> Response:
        care = parts.requests.care(request.query_params.get("service", ""))
        return _shapes(parts.views.settings(care, _language(request)), types.Setting)

    async def preview(request: Request) -> Response:
        body = await _body(request, types.RequestBody)
        _, args = from_body(body)
        return _shape(await parts.requests.preview(args.changes, parts.callers.asked(request), body.service))

    async def doctor(_: Request) -> Response:
        return _shapes(await parts.findings(), types.Finding)

    async def people(_: Request) -> Response:
        return _shape(await parts.people())

    async def permissions(request: Request) -> Response:
        query = request.query_params
        return _shape(parts.permissions(query.get("person", ""), query.get("channel", ""), query.get("chat", "")))

    async def audit(request: Request) -> Response:
        log = await parts.requests.audit(parts.callers.asked(request, said="audit"))
        query = request.query_params
        found = await log.find(
            since=_number(request, SINCE),
            who=query.get("who", ""),
            job=_given(request, OF_JOB) if OF_JOB.name in query else None,
            after=_given(request, AFTER_ROW) if AFTER_ROW.name in query else None,
            limit=_number(request, ROWS),
        )
        return _shapes([types.AuditRow(**row) for row in found], types.AuditRow)

    async def audit_verify(request: Request) -> Response:
        verdict = await (await parts.requests.audit(parts.callers.asked(request, said="audit"))).verify()
        return _shape(types.AuditVerdict(**vars(verdict)))

    async def backups(_: Request) -> Response:
        return _shapes(await parts.backups.all(), types.Backup)

    async def back_up(request: Request) -> Response:
        await _body(request, types.Nothing)
        taken = await parts.backups.take()
        await parts.requests.record(parts.callers.asked(request, said="backup"), "backed_up", path=taken.path)
        return _shape(taken)

    async def stop(request: Request) -> Response:
        body = await _body(request, types.StopBody)
        await parts.requests.record(parts.callers.asked(request, said="down"), "stopped", services=body.services)
        parts.stop(body.services)
        return Response(status_code=202)

    async def upgrade(request: Request) -> Response:
        await _body(request, types.Nothing)
        await parts.upgrade()
        await parts.requests.record(parts.callers.asked(request, said="upgrade-self"), "upgraded")
        return Response(status_code=202)

    async def measured(_: Request) -> Response:
        source = metrics.Source(await parts.views.status(), await parts.ledger.totals())
        return Response(await in_thread(metrics.exposition, source), media_type=_PROMETHEUS)

    async def description(_: Request) -> Response:
        return JSONResponse(await in_thread(openapi.document))

    endpoints: dict[str, Endpoint] = {
        "status": status,
        "status_events": status_events,
        "requests": requests,
        "jobs": jobs,
        "job": job,
        "job_events": job_events,
        "job_log": job_log,
        "cancel": deciding(Intent.cancel),
        "approve": deciding(Intent.approve),
        "reject": deciding(Intent.reject),
        "releases": releases,
        "snapshots": snapshots,
        "restore_plan": restore_plan,
        "logs": logs,
        "incidents": incidents,
        "say": say,
        "messages": messages,
        "chat_events": chat_events,
        "actions": actions,
        "settings": settings,
        "preview": preview,
        "doctor": doctor,
        "people": people,
        "permissions": permissions,
        "audit": audit,
        "audit_verify": audit_verify,
        "backups": backups,
        "back_up": back_up,
        "stop": stop,
        "upgrade": upgrade,
        "metrics": measured,
        "openapi": description,
    }
    found: dict[str, dict[str, Endpoint]] = {}
    for one in OPERATIONS:
        path = one.path.replace("{number}", "{number:int}")
        found.setdefault(path, {})[one.method] = _guarded(endpoints[one.name], parts, one.programs)
    return [Route(path, _by_method(methods), methods=[*methods]) for path, methods in found.items()]


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    async def call(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return call


def _language(request: Request) -> Language:
    return accepted_language(request.headers.get("accept-language", "")) or "en"


async def _looks(parts: Parts, *topics: Hashable, at_least_every_s: float = _STREAM_EVERY_S) -> AsyncIterator[None]:
    """Yield at once and after changes, not more often than people can see, until the daemon stops."""
    with parts.events.watch(*topics, "stopping") as watch:
        while not parts.stopping.is_set():
            yield
            await watch.changed(at_least_every_s)
            await asyncio.sleep(_STREAM_PAUSE_S)


def _stream(changes: AsyncIterator[tuple[str, str]]) -> Response:
    """Server-sent events; an empty one is a comment that keeps proxies awake. A repeated value is sent once."""

    async def lines() -> AsyncIterator[bytes]:
        last = ("", "")
        yield b": open\n\n"
        async for name, data in changes:
            if not name:
                yield b": here\n\n"
            elif (name, data) != last:
                last = (name, data)
                yield f"event: {name}\ndata: {data}\n\n".encode()

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def server(app: ASGIApp) -> uvicorn.Server:
    """An HTTP server for `app`, to be given its sockets."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return Server(config)


def application(parts: Parts, pages: list[BaseRoute]) -> Starlette:
    """The API and the console's pages as one application."""
    return Starlette(routes=[*routes(parts), *pages], exception_handlers={404: _astray, 405: _astray})


async def _astray(request: Request, error: Exception) -> Response:
    """The answer to a call that there is not, as an API gives it."""
    assert isinstance(error, HTTPException)
    if not request.url.path.startswith("/v1/"):
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    allowed = (error.headers or {}).get("Allow", "")
    said = f"cannot {request.method} here: it takes {allowed}" if allowed else "cannot find that; see /v1/openapi.json"
    body = types.ErrorBody(kind="bad_request" if allowed else "not_found", error=said)
    return Response(body.model_dump_json(), error.status_code, error.headers, media_type="application/json")
