"""The HTTP face: which calls there are, what each needs, what is counted, and which faults hit it."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import fnmatch
import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from regrow.testing.feishu.cardkit import CardKit
from regrow.testing.feishu.clicks import Clicks
from regrow.testing.feishu.clock import EmulatorClock, Limit
from regrow.testing.feishu.codes import ApiError
from regrow.testing.feishu.console import Console
from regrow.testing.feishu.gateway import Gateway
from regrow.testing.feishu.journal import Journal
from regrow.testing.feishu.messages import Messages
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App, Tokens

ENDPOINT = "POST /callback/ws/endpoint"
_READ = ("im:message", "im:message:readonly", "im:message.history:readonly")
_SEND = ("im:message", "im:message:send_as_bot", "im:message:send")
_EDIT = (*_SEND, "im:message:update")
_REACT = ("im:message", "im:message.reactions:write_only")
_KIT = ("cardkit:card:write",)
_CHAT = ("im:chat", "im:chat:readonly")
_OWN = ("application:application:self_manage", "admin:app.info:readonly")
_VERSION = ("application:application:self_manage", "application:application.app_version:readonly")
_USER = ("contact:user.base:readonly", "contact:contact.base:readonly")


@dataclass
class Ask:
    """One request, read.

    Args:
        app: who calls; a nameless app where no token is needed.
        ids: of the path.
        query: of the address.
        body: the JSON object.
        form: the parts of a form: file name and bytes.
    """

    app: App
    ids: tuple[str, ...]
    query: dict[str, str]
    body: dict[str, Any]
    form: dict[str, tuple[str, bytes]]


@dataclass(frozen=True)
class Call:
    """One call the platform has.

    Args:
        name: `METHOD /path/:id`.
        do: what it does; the result is `data`.
        scopes: one of them is needed; none: no permission is needed.
        token: whether it needs an access token.
        top: the result is put beside `code` and not into `data`.
        counted: whether the monthly quota counts it.
    """

    name: str
    do: Callable[[Ask], dict[str, Any]]
    scopes: tuple[str, ...] = ()
    token: bool = True
    top: bool = False
    counted: bool = True

    def match(self, verb: str, path: str) -> tuple[str, ...] | None:
        """The ids in `path`, or None when it is another call."""
        own, _, template = self.name.partition(" ")
        if own != verb:
            return None
        found = re.fullmatch(re.sub(r":\w+", r"([^/]+)", re.escape(template).replace(r"\:", ":")), path)
        return None if found is None else found.groups()


@dataclass
class HttpFault:
    """What happens to the next calls that match.

    Args:
        pattern: `METHOD /path` as a shell pattern, of the name of the call or of the path itself.
        count: how many calls are left.
        status, code, msg, headers: of the answer, when `status` is not 0.
        raw: a body that is not JSON, in place of one with a code.
        data: whether an answer has an empty `data` (as the endpoint's have).
        delay: seconds before anything.
        hang: never answer.
        lose_answer: do what was asked, then cut the connection.
    """

    pattern: str
    count: int
    status: int = 0
    code: int = 0
    msg: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    raw: str | None = None
    data: bool = False
    delay: float = 0.0
    hang: bool = False
    lose_answer: bool = False


class Api:
    """The ASGI application."""

    def __init__(
        self,
        clock: EmulatorClock,
        settings: Settings,
        journal: Journal,
        *,
        tokens: Tokens,
        gateway: Gateway,
        messages: Messages,
        kit: CardKit,
        clicks: Clicks,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self._tokens = tokens
        self._gateway = gateway
        self.faults: list[HttpFault] = []
        self.used = 0
        self._by_second = Limit(clock, lambda: settings.per_api_second, 1.0)
        self._by_minute = Limit(clock, lambda: settings.per_api_minute, 60.0)
        self._closing = asyncio.Event()
        self.calls = _calls(tokens, gateway, messages, kit=kit, clicks=clicks, console=Console(settings))

    def close(self) -> None:
        """Let every call that hangs end."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        with contextlib.suppress(ClientDisconnect):
            answer = await self._answer(request)
            answer.headers["Date"] = email.utils.formatdate(self._clock.now(), usegmt=True)
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        verb, path = request.method, request.url.path
        raw = await request.body()
        call: Call | None = None
        ids: tuple[str, ...] = ()
        for known in self.calls:
            if (found := known.match(verb, path)) is not None:
                call, ids = known, found
                break
        fault = self._fault(call.name if call else "", f"{verb} {path}")
        if fault is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if fault.hang else fault.delay):
                    if fault.hang or fault.delay:
                        await self._closing.wait()
            if fault.hang:
                self._journal.record(
                    "http", call=f"{verb} {path}", api=call.name if call else "", code=-1, injected=True
                )
                return Response(status_code=503)
            if fault.status:
                return self._injected(fault, verb, path, call)
        app_name, error, data = "", None, {}
        try:
            if call is None:
                raise ApiError(99991201, "404 page not found", status=404)
            app = self._caller(call, request)
            app_name = app.name
            data = call.do(Ask(app, ids, dict(request.query_params), *_read(request, raw)))
        except ApiError as refused:
            error = refused
        log_id = secrets.token_hex(12)
        code = error.code if error else 0
        facts: dict[str, Any] = {"call": f"{verb} {path}", "api": call.name if call else "", "code": code}
        if error is not None:
            facts["msg"] = error.msg
        if call is None:
            facts["unknown"] = True
        lost = fault is not None and fault.lose_answer
        if lost:
            facts["answer_lost"] = True
        self._journal.record("http", app=app_name, log_id=log_id, **facts)
        if lost:
            return _Cut()
        if error is not None:
            body = error.body or {"code": error.code, "msg": error.msg, "error": {"log_id": log_id}}
            return JSONResponse(body, error.status, {"X-Tt-Logid": log_id, **error.headers})
        assert call is not None
        body = {"code": 0, "msg": "success" if not call.top else "ok", **(data if call.top else {"data": data})}
        return JSONResponse(body, headers={"X-Tt-Logid": log_id})

    def _fault(self, *names: str) -> HttpFault | None:
        for fault in self.faults:
            verb, _, path = fault.pattern.partition(" ")
            patterns = (fault.pattern, f"{verb} /open-apis{path}")
            if any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns):
                fault.count -= 1
                if fault.count <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    def _injected(self, fault: HttpFault, verb: str, path: str, call: Call | None) -> Response:
        self._journal.record(
            "http", call=f"{verb} {path}", api=call.name if call else "", code=fault.code, injected=True
        )
        if fault.raw is not None:
            return Response(fault.raw, fault.status, fault.headers, media_type="text/html")
        body: dict[str, Any] = {"code": fault.code, "msg": fault.msg}
        body["data" if fault.data else "error"] = {}
        return JSONResponse(body, fault.status, {"X-Tt-Logid": secrets.token_hex(12), **fault.headers})

    def _caller(self, call: Call, request: Request) -> App:
        if not call.token:
            return App("", app_id="")
        app = self._tokens.check(request.headers.get("authorization"))
        for limit, most in (
            (self._by_second, self._settings.per_api_second),
            (self._by_minute, self._settings.per_api_minute),
        ):
            if (wait := limit.take((app, call.name))) > 0:
                headers = {"x-ogw-ratelimit-limit": str(most), "x-ogw-ratelimit-reset": str(int(wait) + 1)}
                raise ApiError(99991400, "request trigger frequency limit", status=429, headers=headers)
        if call.counted:
            self.used += 1
            quota = self._settings.monthly_quota
            if quota is not None and self.used > quota:
                raise ApiError(99991403, "This month's API call quota has been exceeded")
        if call.scopes and not app.scopes & set(call.scopes):
            raise ApiError(
                99991672,
                f"Access denied. One of the following scopes is required: [{', '.join(call.scopes)}].",
            )
        return app


class _Cut(Response):
    """An answer that never arrives: the connection is closed after its head."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _read(request: Request, raw: bytes) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
    """The JSON object and the form of a request.

    Raises:
        ApiError: 99992402, it is neither.
    """
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        return {}, _form(kind, raw)
    if not raw:
        return {}, {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(99992402, "field validation failed: the body is not JSON") from error
    if not isinstance(body, dict):
        raise ApiError(99992402, "field validation failed: the body is no object")
    return body, {}


def _form(kind: str, raw: bytes) -> dict[str, tuple[str, bytes]]:
    boundary = re.search(r'boundary="?([^";]+)"?', kind)
    if boundary is None:
        raise ApiError(234001, "Invalid request param: no boundary")
    fields: dict[str, tuple[str, bytes]] = {}
    for part in (b"\r\n" + raw).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        text = head.decode(errors="replace")
        name = re.search(r'\bname="([^"]*)"', text)
        file = re.search(r'\bfilename="([^"]*)"', text)
        if name is not None:
            fields[name[1]] = (file[1] if file else "", data)
    return fields


def _calls(
    tokens: Tokens, gateway: Gateway, messages: Messages, *, kit: CardKit, clicks: Clicks, console: Console
) -> list[Call]:
    """Every call there is. Order matters: a fixed path stands before one with an id."""
    im, cards = "/open-apis/im/v1", "/open-apis/cardkit/v1/cards"
    message = f"{im}/messages/:id"
    own = "/open-apis/application/v6/applications/:id"

    def token(name: str) -> Callable[[Ask], dict[str, Any]]:
        def issue(ask: Ask) -> dict[str, Any]:
            value, left = tokens.issue(ask.body.get("app_id"), ask.body.get("app_secret"))
            return {"tenant_access_token": value, name: value, "expire": left}

        return issue

    def online(ask: Ask) -> dict[str, Any]:
        return {"online_instance_cnt": len(gateway.of(ask.app))}

    def user_kind(ask: Ask) -> str:
        return ask.query.get("user_id_type", "open_id")

    def users(ask: Ask) -> dict[str, Any]:
        return messages.users(ask.app, user_kind(ask), ask.query.get("user_ids", "").split(","))

    def element(verb: str) -> Call:
        return Call(
            f"{verb} {cards}/:id/elements/:element",
            lambda ask: kit.element(ask.app, ask.ids[0], ask.ids[1], ask.body, verb),
            _KIT,
        )

    table: Iterable[Call] = (
        Call(ENDPOINT, lambda ask: gateway.endpoint(ask.body), token=False),
        Call(
            "POST /open-apis/auth/v3/tenant_access_token/internal", token("tenant_access_token"), token=False, top=True
        ),
        Call("POST /open-apis/auth/v3/app_access_token/internal", token("app_access_token"), token=False, top=True),
        Call("GET /open-apis/bot/v3/info", lambda ask: console.bot(ask.app), top=True),
        Call("GET /open-apis/event/v1/connection", online, counted=False),
        Call("GET /open-apis/application/v6/scopes", lambda ask: console.scopes(ask.app), counted=False),
        Call(f"GET {own}", lambda ask: console.application(ask.app, ask.ids[0]), _OWN),
        Call(f"GET {own}/app_versions/:version", lambda ask: console.version(ask.app, *ask.ids), _VERSION),
        Call(
            f"POST {im}/messages",
            lambda ask: messages.send(ask.app, ask.query.get("receive_id_type", ""), ask.body),
            _SEND,
        ),
        Call(f"GET {im}/messages", lambda ask: messages.history(ask.app, ask.query), _READ),
        Call(f"POST {message}/reply", lambda ask: messages.reply(ask.app, ask.ids[0], ask.body), _SEND),
        Call(f"PATCH {message}/urgent_app", lambda ask: messages.urgent(ask.app, ask.ids[0], ask.body)),
        Call(f"POST {message}/reactions", lambda ask: messages.react(ask.app, ask.ids[0], ask.body), _REACT),
        Call(f"GET {message}/reactions", lambda ask: messages.reactions(ask.app, ask.ids[0]), (*_READ, *_REACT)),
        Call(
            f"DELETE {message}/reactions/:reaction",
            lambda ask: messages.unreact(ask.app, ask.ids[0], ask.ids[1]),
            _REACT,
        ),
        Call(f"PATCH {message}", lambda ask: messages.patch(ask.app, ask.ids[0], ask.body), _EDIT),
        Call(f"PUT {message}", lambda ask: messages.edit(ask.app, ask.ids[0], ask.body), _EDIT),
        Call(f"DELETE {message}", lambda ask: messages.recall(ask.app, ask.ids[0]), _SEND),
        Call(f"GET {message}", lambda ask: messages.read(ask.app, ask.ids[0]), _READ),
        Call(f"POST {im}/images", lambda ask: messages.upload(ask.app, "image", ask.form), ("im:resource",)),
        Call(f"POST {im}/files", lambda ask: messages.upload(ask.app, "file", ask.form), ("im:resource",)),
        Call(f"GET {im}/chats", lambda ask: messages.joined(ask.app), _CHAT),
        Call(f"GET {im}/chats/:id/members", lambda ask: messages.members(ask.app, ask.ids[0]), _CHAT),
        Call(f"GET {im}/chats/:id", lambda ask: messages.chat(ask.app, ask.ids[0]), _CHAT),
        Call("GET /open-apis/contact/v3/users/batch", users, _USER, counted=False),
        Call(
            "POST /open-apis/contact/v3/users/batch_get_id",
            lambda ask: messages.found(ask.app, user_kind(ask), ask.body),
            ("contact:user.id:readonly",),
            counted=False,
        ),
        Call(
            "GET /open-apis/contact/v3/users/:id",
            lambda ask: messages.user(ask.app, user_kind(ask), ask.ids[0]),
            _USER,
            counted=False,
        ),
        Call("POST /open-apis/interactive/v1/card/update", lambda ask: clicks.update(ask.app, ask.body)),
        Call(f"POST {cards}", lambda ask: kit.create(ask.app, ask.body), _KIT),
        Call(f"POST {cards}/id_convert", lambda ask: kit.convert(ask.app, ask.body, messages.messages), _KIT),
        Call(f"PUT {cards}/:id", lambda ask: kit.put(ask.app, ask.ids[0], ask.body), _KIT),
        Call(f"PATCH {cards}/:id/settings", lambda ask: kit.settings(ask.app, ask.ids[0], ask.body), _KIT),
        Call(f"POST {cards}/:id/batch_update", lambda ask: kit.batch(ask.app, ask.ids[0], ask.body), _KIT),
        Call(f"POST {cards}/:id/elements", lambda ask: kit.add(ask.app, ask.ids[0], ask.body), _KIT),
        Call(
            f"PUT {cards}/:id/elements/:element/content",
            lambda ask: kit.content(ask.app, ask.ids[0], ask.ids[1], ask.body),
            _KIT,
        ),
        element("PUT"),
        element("PATCH"),
        element("DELETE"),
    )
    return list(table)
