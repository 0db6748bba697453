"""The bot over HTTP."""

import asyncio
import json
import logging
import os
import sqlite3
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from claw import answers, conversation, reminders, version
from claw.message import Message, now
from claw.store import Store

log = logging.getLogger("claw")

LONGEST_BODY = 64 * 1024
HEALTH_TIMEOUT_S = 2.0


class BadRequest(Exception):
    """A request that cannot be answered; the text says why."""


def build(store: Store) -> Starlette:
    app = Starlette(
        routes=[
            Route("/", about),
            Route("/version", versions),
            Route("/health", health),
            Route("/chat", chat, methods=["POST"]),
            Route("/conversations/{chat}", history),
            Route("/outbox", outbox),
        ],
        exception_handlers={BadRequest: refuse, sqlite3.OperationalError: unavailable},
    )
    app.state.store = store
    return app


async def about(request: Request) -> Response:
    return PlainTextResponse(f"Claw {version.current()}: POST /chat to talk to me.\n")


async def versions(request: Request) -> Response:
    return JSONResponse({"version": version.current()})


async def health(request: Request) -> Response:
    store: Store = request.app.state.store
    db = "ok"
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            await store.read(lambda db: db.execute("SELECT max(id) FROM messages").fetchone())
    except (sqlite3.Error, TimeoutError) as error:
        log.warning("the database does not answer: %r", error)
        db = "failing"
    return JSONResponse(
        {
            "status": db,
            "version": version.current(),
            "release": os.environ.get("REGROW_RELEASE", ""),
            "pid": os.getpid(),
            "db": db,
        },
        status_code=200 if db == "ok" else 503,
    )


async def chat(request: Request) -> Response:
    body = await _body(request)
    fields = {name: _text(body, name) for name in ("chat", "sender", "text")}
    key = request.headers.get("idempotency-key")
    if key is None and body.get("id") is not None:
        key = f"{fields['chat']}/{_text(body, 'id')}"
    if key is not None and not 0 < len(key) <= 500:
        raise BadRequest("cannot use the idempotency key: it must have 1 to 500 characters")
    message = Message(**fields, at=now())
    store: Store = request.app.state.store
    text, repeated = await store.write(lambda db: answers.answer_once(db, key, message))
    headers = {"Idempotent-Replayed": "true"} if repeated else None
    return JSONResponse({"chat": message.chat, "answer": text}, headers=headers)


async def history(request: Request) -> Response:
    store: Store = request.app.state.store
    name = request.path_params["chat"]
    return JSONResponse({"messages": await store.read(lambda db: conversation.history(db, name))})


async def outbox(request: Request) -> Response:
    store: Store = request.app.state.store
    try:
        after = int(request.query_params.get("after", "0"))
    except ValueError:
        raise BadRequest("cannot read the outbox: `after` must be the id of a message") from None
    return JSONResponse({"messages": await store.read(lambda db: reminders.outgoing(db, after))})


async def refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"kind": "bad_request", "text": str(error)}}, status_code=400)


async def unavailable(request: Request, error: Exception) -> Response:
    log.error("the database failed: %s", error)
    text = "cannot reach the database: try again in a moment"
    return JSONResponse({"error": {"kind": "database", "text": text}}, status_code=503)


async def _body(request: Request) -> dict[str, Any]:
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > LONGEST_BODY:
            raise BadRequest(f"cannot read the message: it is longer than {LONGEST_BODY} bytes")
    try:
        body = json.loads(read)
    except ValueError:
        raise BadRequest("cannot read the message: it is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("cannot read the message: it is not a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"cannot read the message: `{name}` must be a text")
    return value.strip()
