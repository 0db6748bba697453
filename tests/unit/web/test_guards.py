from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regrow.web import guards
from regrow.web.session import Session

ORIGIN = "http://127.0.0.1:8765"
OWN = {"origin": ORIGIN, "x-regrow": "1"}


@pytest.fixture
def session() -> Session:
    return Session(secrets.token_urlsafe(32))


@pytest.fixture
async def client(session: Session) -> AsyncIterator[httpx.AsyncClient]:
    async def echo(request: Request) -> Response:
        return JSONResponse({"method": request.method})

    methods = ["GET", "POST", "DELETE", "PUT", "PATCH"]
    paths = ["/", "/v1/status", "/login", "/static/x.js", "/loginx", "/staticx"]
    app = Starlette(routes=[Route(path, echo, methods=methods) for path in paths])
    transport = httpx.ASGITransport(guards.guarded(app, session))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_without_a_session_only_signing_in_and_static_files_are_open(client: httpx.AsyncClient) -> None:
    codes = {
        path: (await client.get(path)).status_code
        for path in ("/", "/v1/status", "/loginx", "/staticx", "/login", "/static/x.js")
    }
    assert codes == {"/": 401, "/v1/status": 401, "/loginx": 401, "/staticx": 401, "/login": 200, "/static/x.js": 200}


async def test_the_api_refuses_in_its_own_shape_and_a_page_in_words(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/status")).json()
    assert answer["kind"] == "unauthorized"
    assert answer["error"].startswith("cannot ")
    page = await client.get("/", headers={"accept-language": "zh-CN"})
    assert "没有登录" in page.text
    assert "refresh" not in page.headers
    assert (await client.get("/", headers={"sec-fetch-site": "cross-site"})).headers["refresh"] == "0"


async def test_a_cookie_or_the_token_lets_in(client: httpx.AsyncClient, session: Session) -> None:
    token = session._token.decode()
    assert (await client.get("/v1/status", headers=bearer(token))).status_code == 200
    assert (await client.get("/v1/status", headers=bearer(token + "x"))).status_code == 401
    assert (await client.get("/v1/status", headers={"authorization": f"Basic {token}"})).status_code == 401
    client.cookies.set(session.name, session.issue())
    assert (await client.get("/v1/status")).status_code == 200
    assert (await client.get("/v1/status", headers=bearer("wrong"))).status_code == 401, "the header decides alone"
    client.cookies.set(session.name, Session(secrets.token_urlsafe(32)).issue())
    assert (await client.get("/v1/status")).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (OWN, 200),
        ({**OWN, "sec-fetch-site": "same-origin"}, 200),
        ({"origin": ORIGIN}, 403),
        ({"x-regrow": "1"}, 403),
        ({**OWN, "x-regrow": "0"}, 403),
        ({**OWN, "origin": "null"}, 403),
        ({**OWN, "origin": "http://127.0.0.1:9999"}, 403),
        ({**OWN, "origin": "https://127.0.0.1:8765"}, 403),
        ({**OWN, "origin": "http://127.0.0.1:8765.evil.example"}, 403),
        ({**OWN, "sec-fetch-site": "cross-site"}, 403),
        ({**OWN, "sec-fetch-site": "same-site"}, 403),
        ({}, 403),
    ],
)
async def test_a_browser_changes_things_only_from_the_console(
    client: httpx.AsyncClient, session: Session, method: str, headers: dict[str, str], code: int
) -> None:
    client.cookies.set(session.name, session.issue())
    assert (await client.request(method, "/v1/status", headers=headers)).status_code == code


async def test_a_program_with_the_token_needs_no_origin(client: httpx.AsyncClient, session: Session) -> None:
    assert (await client.post("/v1/status", headers=bearer(session._token.decode()))).status_code == 200
    assert (await client.post("/login")).status_code == 403, "what is open is open for reading"


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8765", 200),
        ("127.0.0.1", 200),
        ("LOCALHOST:8765", 200),
        ("[::1]:8765", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8765", 403),
        ("127.0.0.1:8765@evil.example", 403),
        ("evil.example:127.0.0.1", 403),
        ("0.0.0.0:8765", 403),
        ("", 403),
    ],
)
async def test_only_names_of_this_machine_are_answered(
    client: httpx.AsyncClient, session: Session, host: str, code: int
) -> None:
    headers = {**bearer(session._token.decode()), "host": host}
    assert (await client.get("/v1/status", headers=headers)).status_code == code


async def test_two_hosts_are_none(session: Session) -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    headers = [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]
    scope = {"type": "http", "method": "GET", "path": "/static/x.js", "headers": headers, "query_string": b""}
    await guards.guarded(Starlette(), session)(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 403


async def test_a_websocket_is_closed(session: Session) -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"127.0.0.1")], "query_string": b""}
    await guards.guarded(Starlette(), session)(scope, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_every_answer_has_the_headers_even_a_refusal(client: httpx.AsyncClient) -> None:
    for path in ("/", "/v1/status", "/login"):
        headers = (await client.get(path)).headers
        for name, value in guards.HEADERS.items():
            assert headers[name] == value
        assert "unsafe" not in headers["content-security-policy"]
    foreign = await client.get("/", headers={"host": "evil.example"})
    assert foreign.headers["x-content-type-options"] == "nosniff"
