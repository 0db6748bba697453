"""The long connection: addresses with tickets, connections, frames, deliveries with their schedule, and faults."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import random
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from regrow.testing.feishu import frames
from regrow.testing.feishu.clock import EmulatorClock
from regrow.testing.feishu.codes import ApiError
from regrow.testing.feishu.journal import Journal
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App, Tokens

CLICK = "card.action.trigger"
_CLOSE_S = 1.0


@dataclass(eq=False)
class Connection:
    """One client that is connected.

    Args:
        name: `device_id` of the address.
        app: whose client it is.
        service: `service_id` of the address.
        socket: the websocket.
        pings: how many it sent.
        frozen: nothing is read or sent, as if the network had gone.
    """

    name: str
    app: App
    service: int
    socket: ServerConnection
    pings: int = 0
    frozen: bool = False


@dataclass(eq=False)
class Delivery:
    """One event or click on its way.

    Args:
        app: for whom.
        body: what is inside the frames.
        event_id: of its header.
        event_type: of its header.
        attempts: for each attempt what came of it: `200`, another code, `no client`, `timeout`, `dropped`.
        connections: name of the connection of each attempt that had one.
        outcome: `pending`, `acknowledged`, `abandoned`, `lost`.
        answer: of a click, the decoded `data`; None when there was none.
        acks: how many acknowledgements came, late ones too.
        taken: how long each acknowledgement took, in real seconds.
        deaf: attempts whose acknowledgements are still to be ignored.
        parts: in how many parts it comes at least.
        shuffled: its parts come in a wrong order.
        incomplete: attempts whose last part is still to be left out.
    """

    app: App
    body: dict[str, Any]
    attempts: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    outcome: str = "pending"
    answer: Any = None
    acks: int = 0
    taken: list[float] = field(default_factory=list)
    deaf: int = 0
    parts: int = 1
    shuffled: bool = False
    incomplete: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def event_id(self) -> str:
        """Of its header."""
        return str(self.body["header"]["event_id"])

    @property
    def event_type(self) -> str:
        """Of its header."""
        return str(self.body["header"]["event_type"])

    @property
    def message_id(self) -> str:
        """Of the chat message inside, or ''."""
        event = self.body["event"]
        return str(event.get("message", {}).get("message_id", "") or event.get("message_id", ""))


@dataclass(eq=False)
class Attempt:
    """Frames that were sent and are to be acknowledged."""

    delivery: Delivery
    connection: Connection
    parts: dict[str, frames.Frame]
    sent: float
    result: asyncio.Future[dict[str, Any]]


@dataclass
class Faults:
    """What goes wrong with the next events (each is taken when an event is published) and connections.

    Args:
        lose: events that are never sent, though a client is connected.
        duplicate: how events come twice: `same`, `event_id` (a new one), `message_id` (new event and message).
        deaf: for how many attempts acknowledgements are ignored.
        parts: in how many parts, whether in a wrong order, whether incomplete at first.
        refuse: headers of refused upgrades.
        repeat_clicks: presses that come twice at once.
    """

    lose: int = 0
    duplicate: deque[str] = field(default_factory=deque)
    deaf: deque[int] = field(default_factory=deque)
    parts: deque[tuple[int, bool, bool]] = field(default_factory=deque)
    refuse: deque[dict[str, str]] = field(default_factory=deque)
    repeat_clicks: int = 0

    def take(self, name: str) -> bool:
        """Use up one of a number."""
        left = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return bool(left > 0)


class Gateway:
    """The endpoint and the websocket server.

    Args:
        clock, settings, journal, tokens: the platform's.
        renamed: makes the body of a duplicate with a new message id.
    """

    def __init__(
        self,
        clock: EmulatorClock,
        settings: Settings,
        journal: Journal,
        tokens: Tokens,
        renamed: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self._tokens = tokens
        self._renamed = renamed
        self._random = random.Random()  # noqa: S311 - which connection gets an event is no secret
        self._tickets: dict[str, tuple[App, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: dict[str, Attempt] = {}
        self._past: dict[str, Attempt] = {}
        self._server: Server | None = None
        self._sequence = 0
        self.faults = Faults()
        self.connections: list[Connection] = []
        self.deliveries: list[Delivery] = []
        self.port = 0

    # Life

    async def start(self, host: str, port: int = 0) -> None:
        """Listen on loopback."""
        self._server = await serve(
            self._serve,
            host,
            port,
            process_request=self._admit,
            ping_interval=None,
            max_size=None,
            close_timeout=_CLOSE_S,
        )
        self._host = host
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """End every delivery and connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.connections):
            if connection.frozen:
                connection.socket.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def spawn(self, work: Awaitable[None]) -> None:
        """Do something beside; it ends with the emulator."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Endpoint and handshake

    def endpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /callback/ws/endpoint: an address that can be opened once.

        Raises:
            ApiError: 514 wrong credentials, 1000040351 an app of the other domain, 403 app disabled, 1000040350 too
                many connections. Its body has an empty `data`, without which the Node SDK takes the refusal for a
                fault of the network.
        """
        app = self._tokens.app(body.get("AppID"), body.get("AppSecret"))
        if app is None:
            # The code of a wrong secret is an assumption.
            raise refusal(514, "authentication failed")
        if app.elsewhere:
            raise refusal(1000040351, "Incorrect domain name")
        if not app.enabled:
            raise refusal(403, "forbidden")
        if len(self.of(app)) >= self._settings.connections:
            raise refusal(1000040350, "the number of connections exceeded the limit")
        ticket = secrets.token_urlsafe(16)
        self._tickets[ticket] = (app, time.monotonic() + self._settings.ticket_life)
        # Neither device_id nor service_id may come first: the Node SDK parses the whole address as a query.
        query = (
            f"fpid=493&aid=552564&device_id={secrets.randbits(62)}&access_key={secrets.token_hex(8)}"
            f"&service_id={self.service_id}&ticket={ticket}"
        )
        return {"URL": f"ws://{self._host}:{self.port}/ws/v2?{query}", "ClientConfig": self._settings.client_config()}

    service_id = 33554678

    def of(self, app: App) -> list[Connection]:
        """The connections of an app."""
        return [connection for connection in self.connections if connection.app is app]

    async def _admit(self, socket_: ServerConnection, request: Request) -> Response | None:
        """Refuse an upgrade with the three headers, or let it happen."""
        query = {key: values[-1] for key, values in parse_qs(urlsplit(request.path).query).items()}
        app, until = self._tickets.pop(query.get("ticket", ""), (None, 0.0))
        headers: dict[str, str] | None = None
        if self.faults.refuse:
            headers = self.faults.refuse.popleft()
        elif app is None or until < time.monotonic():
            # Any code but that of the limit means the ticket or the credentials; this one is made up.
            headers = {
                "Handshake-Status": "514",
                "Handshake-Msg": "invalid ticket",
                "Handshake-Autherrcode": "1000040342",
            }
        elif len(self.of(app)) >= self._settings.connections:
            headers = {
                "Handshake-Status": "514",
                "Handshake-Msg": "exceed connection limit",
                "Handshake-Autherrcode": "1000040350",
            }
        if headers is not None:
            self._journal.record("connection", did="refused", headers=headers)
            # The HTTP status of a refused upgrade is an assumption.
            response = socket_.respond(HTTPStatus.BAD_REQUEST, headers.get("Handshake-Msg", "") + "\n")
            for name, value in headers.items():
                response.headers[name] = value
            return response
        socket_.regrow_app = app  # type: ignore[attr-defined]
        socket_.regrow_query = query  # type: ignore[attr-defined]
        return None

    async def _serve(self, socket_: ServerConnection) -> None:
        query: dict[str, str] = socket_.regrow_query  # type: ignore[attr-defined]
        app: App = socket_.regrow_app  # type: ignore[attr-defined]
        connection = Connection(query["device_id"], app, int(query["service_id"]), socket_)
        self.connections.append(connection)
        self._journal.record("connection", did="opened", connection=connection.name, app=app.name)
        try:
            async for data in socket_:
                if connection.frozen:
                    continue
                await self._receive(connection, data)
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)
            self._journal.record(
                "connection", did="closed", connection=connection.name, app=app.name, code=socket_.close_code
            )

    # Frames in

    async def _receive(self, connection: Connection, data: bytes | str) -> None:
        if isinstance(data, str):
            self._bad(connection, "a text message where a frame was expected")
            return
        try:
            frame = frames.decode(data)
        except frames.BadFrame as error:
            self._bad(connection, str(error))
            return
        if frame.missing:
            self._bad(connection, f"missing required {', '.join(frame.missing)}")
            if self._settings.strict:
                await self._close(connection, 1002, "missing required field")
            return
        if frame.service != connection.service:
            self._bad(connection, f"service is {frame.service}, not the service_id of the address")
        if frame.method == frames.CONTROL:
            await self._control(connection, frame)
        elif frame.method == frames.DATA:
            self._acknowledge(connection, frame)
        else:
            self._bad(connection, f"method is {frame.method}")

    def _bad(self, connection: Connection, why: str) -> None:
        self._journal.record("bad_frame", connection=connection.name, app=connection.app.name, why=why)

    async def _control(self, connection: Connection, frame: frames.Frame) -> None:
        kind = frame.header("type")
        if kind != "ping":
            self._bad(connection, f"control frame of type {kind!r}")
            return
        connection.pings += 1
        self._journal.record("frame", did="ping", connection=connection.name, app=connection.app.name)
        if self._settings.answer_pings:
            payload = self._settings.pong_payload
            if payload is None:
                payload = json.dumps(self._settings.client_config()).encode()
            pong = frames.Frame(0, 0, connection.service, frames.CONTROL, (("type", "pong"),), payload)
            await self._send(connection, pong)

    def _acknowledge(self, connection: Connection, frame: frames.Frame) -> None:
        number = frame.header("message_id")
        attempt = self._attempts.get(number) or self._past.get(number)
        if attempt is None:
            self._bad(connection, f"acknowledgement of an unknown frame message_id {number[:40]!r}")
            return
        sent = attempt.parts.get(frame.header("seq"))
        if sent is None:
            self._bad(connection, f"acknowledgement with seq {frame.header('seq')!r}")
            return
        for wrong in _not_echoed(sent, frame):
            self._bad(connection, wrong)
        if attempt.connection is not connection:
            self._bad(connection, "acknowledgement on another connection than the event's")
        try:
            payload = json.loads(frame.payload or b"")
            code = payload["code"]
        except (ValueError, KeyError, TypeError):
            self._bad(connection, f"payload of an acknowledgement is {(frame.payload or b'')[:60]!r}")
            payload, code = {"code": None}, None
        delivery = attempt.delivery
        delivery.acks += 1
        delivery.taken.append(time.monotonic() - attempt.sent)
        late = attempt.result.done()
        ignored = not late and delivery.deaf > 0
        self._journal.record(
            "frame",
            did="ack",
            connection=connection.name,
            app=connection.app.name,
            event_id=delivery.event_id,
            code=code,
            late=late,
            ignored=ignored,
        )
        if ignored:
            delivery.deaf -= 1
        elif not late:
            attempt.result.set_result(payload)

    # Frames out

    async def _send(self, connection: Connection, frame: frames.Frame) -> None:
        await self.send_bytes(connection, frames.encode(frame))

    async def send_bytes(self, connection: Connection, data: bytes) -> None:
        """Send raw bytes; nothing happens on a frozen or closed connection."""
        if not connection.frozen:
            with contextlib.suppress(ConnectionClosed):
                await connection.socket.send(data)

    async def _push(self, delivery: Delivery, connection: Connection) -> Attempt:
        payload = json.dumps(delivery.body, ensure_ascii=False).encode()
        count = delivery.parts
        if self._settings.shard_size:
            count = max(count, -(-len(payload) // self._settings.shard_size))
        pieces = frames.cut(payload, count)
        number, trace = secrets.token_hex(16), secrets.token_hex(16)
        kind = "card" if delivery.event_type == CLICK and self._settings.clicks_as_card_frames else "event"
        parts: dict[str, frames.Frame] = {}
        for index, piece in enumerate(pieces):
            self._sequence += 1
            headers = {
                "type": kind,
                "message_id": number,
                "sum": str(len(pieces)),
                "seq": str(index),
                "trace_id": trace,
                "timestamp": str(self._clock.now_ms()),
            }
            # The highest bit is set: a client that keeps fewer is found out.
            top = self._settings.log_id_bits - 1
            log_id = secrets.randbits(top) | 1 << top
            parts[str(index)] = frames.Frame(
                self._sequence, log_id, connection.service, frames.DATA, tuple(headers.items()), piece
            )
        loop = asyncio.get_running_loop()
        attempt = Attempt(delivery, connection, parts, time.monotonic(), loop.create_future())
        self._attempts[number] = attempt
        order = list(parts.values())
        if delivery.shuffled:
            order = order[1:] + order[:1]
        if delivery.incomplete > 0:
            delivery.incomplete -= 1
            order.pop()
        self._journal.record(
            "frame",
            did="event",
            connection=connection.name,
            app=connection.app.name,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            parts=len(parts),
        )
        for frame in order:
            await self._send(connection, frame)
        return attempt

    # Deliveries

    def publish(
        self, app: App, event_type: str, event: dict[str, Any], *, header: dict[str, Any] | None = None
    ) -> Delivery:
        """Put an event on its way to one of the app's connections; `done` of the result is set at its end.

        Args:
            app: for whom.
            event_type: for instance `im.message.receive_v1`.
            event: the part `event` of the body.
            header: parts of the header to replace.
        """
        delivery = Delivery(app, self.envelope(app, event_type, event, header))
        self.deliveries.append(delivery)
        if self.faults.take("lose"):
            delivery.outcome = "lost"
            delivery.attempts.append("dropped")
            self._end(delivery)
            return delivery
        if self.faults.deaf:
            delivery.deaf = self.faults.deaf.popleft()
        if self.faults.parts:
            delivery.parts, delivery.shuffled, incomplete = self.faults.parts.popleft()
            delivery.incomplete = int(incomplete)
        self.spawn(self._deliver(delivery))
        if self.faults.duplicate:
            self.repeat(delivery, self.faults.duplicate.popleft())
        return delivery

    def repeat(self, delivery: Delivery, how: str = "same") -> Delivery:
        """Deliver it once more.

        Args:
            delivery: which.
            how: `same`, `event_id` for a new event id, `message_id` for new event and message ids.
        """
        body: dict[str, Any] = json.loads(json.dumps(delivery.body))
        if how in ("event_id", "message_id"):
            body["header"]["event_id"] = secrets.token_hex(16)
        if how == "message_id":
            body["event"] = self._renamed(body["event"])
        again = Delivery(delivery.app, body, deaf=delivery.deaf)
        self.deliveries.append(again)
        self.spawn(self._deliver(again))
        return again

    def envelope(
        self, app: App, event_type: str, event: dict[str, Any], header: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The body of an event, version 2.0. The header's token is empty on the long connection."""
        now = self._clock.now()
        return {
            "schema": "2.0",
            "header": {
                "event_id": secrets.token_hex(16),
                "token": "",
                # Microseconds for clicks, as the documents have it.
                "create_time": str(int(now * 1_000_000) if event_type == CLICK else int(now * 1000)),
                "event_type": event_type,
                "tenant_key": self.tenant_key,
                "app_id": app.app_id,
                **(header or {}),
            },
            "event": event,
        }

    tenant_key = ""

    async def _deliver(self, delivery: Delivery) -> None:
        """Attempt, wait, attempt again: at once and after each of `retries`.

        That a repeated event keeps its ids and comes in frames with a new `message_id` is an assumption.
        """
        for wait in (0.0, *self._settings.retries):
            if wait:
                await self._clock.sleep(wait)
            payload = await self._attempt(delivery)
            if payload is not None and payload.get("code") == 200:
                delivery.outcome = "acknowledged"
                break
        else:
            delivery.outcome = "abandoned"
        self._end(delivery)

    async def call(self, delivery: Delivery) -> str:
        """One attempt of a click, never repeated.

        Returns:
            what came of it: `200`, another code, `no client`, `timeout`. The answer is in `delivery.answer`.
        """
        self.deliveries.append(delivery)
        payload = await self._attempt(delivery)
        if payload is not None and payload.get("code") == 200:
            delivery.outcome = "acknowledged"
            delivery.answer = answer_of(payload)
        else:
            delivery.outcome = "abandoned"
        self._end(delivery)
        return delivery.attempts[-1]

    async def _attempt(self, delivery: Delivery) -> dict[str, Any] | None:
        ready = self.of(delivery.app)
        if not ready:
            # That an event without a client counts as a failed attempt is an assumption.
            delivery.attempts.append("no client")
            self._note(delivery)
            return None
        connection = self._random.choice(ready)
        delivery.connections.append(connection.name)
        attempt = await self._push(delivery, connection)
        number = attempt.parts["0"].header("message_id")
        payload: dict[str, Any] | None = None
        try:
            async with asyncio.timeout(self._settings.ack_timeout):
                payload = await asyncio.shield(attempt.result)
            delivery.attempts.append(str(payload.get("code")))
        except TimeoutError:
            attempt.result.cancel()
            delivery.attempts.append("timeout")
        finally:
            del self._attempts[number]
            self._past[number] = attempt
            while len(self._past) > 1000:
                del self._past[next(iter(self._past))]
        self._note(delivery)
        return payload

    def _note(self, delivery: Delivery) -> None:
        self._journal.record(
            "delivery",
            did="attempt",
            app=delivery.app.name,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            message_id=delivery.message_id,
            number=len(delivery.attempts),
            result=delivery.attempts[-1],
        )

    def _end(self, delivery: Delivery) -> None:
        self._journal.record(
            "delivery",
            did=delivery.outcome,
            app=delivery.app.name,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            message_id=delivery.message_id,
        )
        delivery.done.set()

    # Faults of connections

    async def _close(self, connection: Connection, code: int, reason: str = "") -> None:
        with contextlib.suppress(ConnectionClosed):
            await connection.socket.close(code, reason)

    async def close(self, app: App | None = None, code: int = 1001) -> int:
        """Close connections with a close frame; the result is how many."""
        chosen = self._chosen(app)
        await asyncio.gather(*(self._close(connection, code) for connection in chosen))
        return len(chosen)

    def reset(self, app: App | None = None) -> int:
        """End connections with a TCP reset; the result is how many."""
        chosen = self._chosen(app)
        for connection in chosen:
            transport = connection.socket.transport
            raw: socket.socket = transport.get_extra_info("socket")
            # Lingering for zero seconds turns the close into a reset.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        return len(chosen)

    def freeze(self, app: App | None = None) -> int:
        """Leave connections half-open: nothing is read or sent, pings of both kinds go unanswered."""
        chosen = self._chosen(app)
        for connection in chosen:
            connection.frozen = True
            connection.socket.transport.pause_reading()
            self._journal.record("connection", did="frozen", connection=connection.name, app=connection.app.name)
        return len(chosen)

    def _chosen(self, app: App | None) -> list[Connection]:
        return [
            connection for connection in self.connections if app in (None, connection.app) and not connection.frozen
        ]


def refusal(code: int, msg: str, *, status: int = 200, data: bool = True) -> ApiError:
    """A refusal of the endpoint: HTTP 200, a code, and (probably so on the real platform) an empty `data`."""
    body: dict[str, Any] = {"code": code, "msg": msg}
    if data:
        body["data"] = {}
    return ApiError(code, msg, status=status, body=body)


def answer_of(payload: dict[str, Any]) -> Any:
    """The JSON in `data` of an acknowledgement: base64 once, JSON once; None when there is no data.

    A value that is not such a thing comes back as it is, for the caller to refuse.
    """
    data = payload.get("data")
    if data is None or data == "":
        return None
    try:
        return json.loads(base64.b64decode(data, validate=True))
    except (ValueError, TypeError, binascii.Error):
        return data


def _not_echoed(sent: frames.Frame, got: frames.Frame) -> list[str]:
    """What an acknowledgement changed of the frame it answers."""
    wrong = [
        f"acknowledgement changed {name} from {getattr(sent, name)!r} to {getattr(got, name)!r}"
        for name in ("seq_id", "log_id", "method", "payload_encoding", "payload_type", "log_id_new")
        if getattr(sent, name) != getattr(got, name)
    ]
    wrong += [
        f"acknowledgement changed header {key!r}" for key, value in sent.headers if got.header(key, "\0") != value
    ]
    if not got.header("biz_rt").lstrip("-").isdigit():
        wrong.append(f"acknowledgement has biz_rt {got.header('biz_rt')!r}")
    return wrong
