"""What stands between a TCP listener and the pages and the API: host, session, origin, headers.

The order matters and `guarded` keeps it: LoopbackHost, RequireToken, SameOrigin. Whatever is not understood is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regrow.api.types import ErrorBody
from regrow.catalogue import Language
from regrow.web import view
from regrow.web.session import Session

LOOPBACK: frozenset[str] = frozenset({"127.0.0.1", "localhost", "[::1]"})
MARK = "x-regrow"
"""The header of a mutating call: a page of another origin cannot send it without asking first, and is never allowed."""

Means = Literal["bearer", "cookie", "open"]
DECIDE = "/decide/"
"""Below it the path itself is the right to answer one question: nothing that a browser would send by itself."""
_MEANS = "regrow.means"
_PROGRAM = "regrow.program"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        # The pages build every node by its text; with this the browser itself refuses anything else.
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with it a browser may send "Origin: null", and SameOrigin would refuse the console's own calls.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cache-control": "no-store",
}


class SecurityHeaders:
    """Adds HEADERS to every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with)


class LoopbackHost:
    """Refuses a request that names another host, so that a foreign name resolved to this machine reads nothing.

    Args:
        hosts: host names without port that are this console; more than loopback only behind a proxy of one's own.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOOPBACK) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            named = Headers(scope=scope).getlist("host")
            if len(named) != 1 or _host_name(named[0]) not in self.hosts:
                text = "cannot answer for this host name; open the console by 127.0.0.1 or localhost"
                await _refusal(scope, 403, "forbidden", text)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class RequireToken:
    """Lets in who shows the token as bearer or a session cookie; signing in and static files need neither.

    An Authorization header decides alone: one that is wrong is refused whatever the cookie says.
    Only http is let through: the console speaks nothing else.

    Args:
        language: of the page shown to who is not signed in, when the browser asks for none.
        programs: sessions of programs by their names; their tokens open the API alone, and there they are these
            programs.
    """

    def __init__(
        self,
        app: ASGIApp,
        session: Session,
        language: Language = "en",
        programs: Mapping[str, Session] | None = None,
    ) -> None:
        self.app = app
        self.session = session
        self.language = language
        self.programs = programs or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if (name := self._program(scope)) and _wants_api(scope):
            await self.app({**scope, _MEANS: "bearer", _PROGRAM: name}, receive, send)
            return
        means = self._means(scope)
        if means is None:
            await self._not_signed_in(scope)(scope, receive, send)
            return
        await self.app({**scope, _MEANS: means}, receive, send)

    def _means(self, scope: Scope) -> Means | None:
        request = Request(scope)
        if (given := _bearer(request)) is not None:
            return "bearer" if self.session.is_token(given) else None
        if self.session.holds(request.cookies.get(self.session.name, "")):
            return "cookie"
        path = scope["path"]
        return "open" if path == "/login" or path.startswith(("/static/", DECIDE)) else None

    def _program(self, scope: Scope) -> str:
        given = _bearer(Request(scope)) or ""
        return next((name for name, session in self.programs.items() if session.is_token(given)), "")

    def _not_signed_in(self, scope: Scope) -> Response:
        if _wants_api(scope):
            return _refusal(scope, 401, "unauthorized", "cannot let you in without the token; sign in to the console")
        request = Request(scope)
        response = view.refusal(request, self.language, 401, "refused_title", "refused_session", link=True)
        # A link on another site opens this page without the strict cookie. Loading it once more from here sends it.
        if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
            response.headers["refresh"] = "0"
        return response


class SameOrigin:
    """Refuses a mutating request that a page of another origin could have caused.

    A browser sends the cookie by itself, so for it the call must come from the console's own origin and carry MARK.
    A bearer token is never sent by itself; RequireToken, which must stand before this, says which it was.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        carried = scope.get(_MEANS) == "bearer" or scope["path"].startswith(DECIDE)
        if scope["type"] == "http" and scope["method"] not in _READING and not carried:
            headers = Headers(scope=scope)
            own = f"{scope['scheme']}://{headers.get('host', '')}".lower()
            same = headers.get("origin", "").lower() == own and headers.get("sec-fetch-site") in {None, "same-origin"}
            if not same or headers.get(MARK) != "1":
                text = "cannot accept this from another page; press the button in the console itself"
                await _refusal(scope, 403, "forbidden", text)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def guarded(
    app: ASGIApp,
    session: Session,
    *,
    language: Language = "en",
    hosts: Iterable[str] = LOOPBACK,
    programs: Mapping[str, Session] | None = None,
) -> ASGIApp:
    """An application behind every guard, for the TCP listener. The unix socket, which knows its peer, needs none."""
    return SecurityHeaders(LoopbackHost(RequireToken(SameOrigin(app), session, language, programs), hosts))


def _bearer(request: Request) -> str | None:
    """What an Authorization header shows as a bearer token, "" when it shows something else; None without one."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        return None
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _host_name(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _wants_api(scope: Scope) -> bool:
    path: str = scope["path"]
    return path in {"/v1", "/metrics"} or path.startswith("/v1/")


def _refusal(scope: Scope, status: int, kind: str, text: str) -> Response:
    if _wants_api(scope):
        return JSONResponse(ErrorBody(kind=kind, error=text).model_dump(), status_code=status)
    return PlainTextResponse(text + "\n", status_code=status)
