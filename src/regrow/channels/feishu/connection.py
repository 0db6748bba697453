"""The long connection: kept open for ever, or ended with an error. Never alive, unconnected and not trying.

An event's frame is acknowledged when its handler has returned, so a handler returns once the event is on disk.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
import websockets
from websockets.asyncio.client import ClientConnection

from regrow import __version__
from regrow.channels.feishu import frames
from regrow.channels.feishu.api import Api
from regrow.channels.feishu.frames import Frame, FrameError
from regrow.channels.feishu.parts import Parts
from regrow.channels.feishu.refusals import FeishuError
from regrow.clock import Clock
from regrow.errors import ConfigError

log = structlog.get_logger("feishu")

_MAX_FRAME = 8 * 1024**2
_MOST_AT_ONCE = 256
_TOO_MANY = 1000040350
_RETRIED = {1, 1000040343}
_WRONG_DOMAIN = 1000040351
_REASONS = {
    403: "the platform forbids it; check that the app is enabled and its long connection is allowed",
    514: "the app id or secret is wrong; set [channels.feishu] app_id and app_secret anew",
    _WRONG_DOMAIN: 'the app lives on the other domain; set [channels.feishu] domain to "feishu" or "lark"',
}


@dataclass(frozen=True)
class Timing:
    """Seconds, all of them.

    Attributes:
        endpoint: longest wait for an address.
        opening: longest wait for the websocket to open.
        closing: longest wait for it to close.
        ping: between two pings of the websocket, and the longest wait for the answer of one.
        answer: longest time of a handler; the platform gives an event 3 s, both ways included.
        backoff, backoff_most: the wait before a new connection is random between 0 and a limit that doubles from the
            one to the other.
        stable: a connection of this length makes the limit small again.
        crowded: shortest wait after the platform said that there are too many connections.
    """

    endpoint: float = 15.0
    opening: float = 10.0
    closing: float = 2.0
    ping: float = 15.0
    answer: float = 2.5
    backoff: float = 1.0
    backoff_most: float = 60.0
    stable: float = 60.0
    crowded: float = 30.0


@dataclass(frozen=True)
class Answer:
    """What a handler says.

    Attributes:
        data: the answer of a click; None acknowledges only.
        sent: called once the acknowledgement is out, or will never be.
    """

    data: dict[str, Any] | None = None
    sent: Callable[[], None] | None = None


Handle = Callable[[dict[str, Any]], Awaitable[Answer]]


class Lost(Exception):
    """The connection ended, or could not be made, in a way that another try may cure."""

    def __init__(self, reason: str, *, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Connection:
    """The connection of one app.

    Args:
        api: for the address.
        handle: takes each event; an error becomes code 500, and the event comes again.
        opened: called after each connect.
        clock: for durations.
        proxy: "" for none.
        timing: how long everything may take.
    """

    def __init__(
        self,
        api: Api,
        handle: Handle,
        opened: Callable[[], None],
        clock: Clock,
        *,
        proxy: str = "",
        timing: Timing | None = None,
    ) -> None:
        self._api = api
        self._handle = handle
        self._opened = opened
        self._clock = clock
        self._proxy = proxy
        self.timing = timing or Timing()
        self._ping_s = 120.0
        self._ping_changed = asyncio.Event()
        self._heard = 0.0  # a frame
        self._alive = 0.0  # a frame, or the websocket's own pong
        self._frame_came = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()
        self._stale_tickets = 0
        self.connected = False
        self.connects = 0
        self.error = "not connected yet"

    @property
    def silence_s(self) -> float:
        """Seconds since anything was heard from the platform; infinite before the first time."""
        return self._clock.monotonic() - self._alive if self._alive else float("inf")

    @property
    def patience_s(self) -> float:
        """Seconds of silence after which the connection counts as dead."""
        return self._probe_s + self._deadline_s

    @property
    def _probe_s(self) -> float:
        return min(self.timing.ping, self._ping_s)

    @property
    def _deadline_s(self) -> float:
        return min(self.timing.ping, 2 * self._ping_s)

    async def run(self) -> None:
        """Be connected until cancelled. On cancellation stored events are still acknowledged and the socket is closed.

        Raises:
            ConfigError: the platform will not have this app; trying on is no use before somebody changed something.
        """
        try:
            await self._keep_open()
        finally:
            await self._drain()

    async def _keep_open(self) -> None:
        limit = self.timing.backoff
        while True:
            began = self._clock.monotonic()
            try:
                await self._session(await self._address())
                self.error = "the platform closed the connection"
                wait = 0.0
            except Lost as lost:
                self.error, wait = str(lost), lost.wait_s
            except ConfigError as refused:
                self.error = str(refused)
                raise
            finally:
                self.connected = False
            if self._clock.monotonic() - began > self.timing.stable:
                limit = self.timing.backoff
            pause = wait + random.uniform(0.0, limit)  # noqa: S311
            limit = min(2 * limit, self.timing.backoff_most)
            log.info("not connected", action="feishu_reconnect", reason=self.error, again_in_s=round(pause, 1))
            await self._clock.sleep(pause)

    async def _drain(self) -> None:
        """Let events that are being stored be acknowledged."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=self.timing.answer)
            await _end(list(self._answering))

    # Opening

    async def _address(self) -> str:
        try:
            code, text, data = await self._api.endpoint(self.timing.endpoint)
        except FeishuError as error:
            raise Lost(str(error)) from None
        if code == 0:
            config = data.get("ClientConfig")
            self._configure(config if isinstance(config, dict) else {})
            address = data.get("URL")
            if isinstance(address, str) and urlsplit(address).scheme in {"ws", "wss"}:
                return address
            raise Lost("the platform gave no address")
        if code == -1 or code in _RETRIED:
            raise Lost(f"no address: {text} ({code})" if code != -1 else f"no address: {text}")
        if code == _TOO_MANY:
            raise self._crowded()
        raise self._refused(code, text)

    def _crowded(self) -> Lost:
        log.warning(
            "too many connections: another process uses this app; stop it, or use an app of its own",
            action="feishu_crowded",
        )
        reason = "too many connections: another process uses this app"
        return Lost(reason, wait_s=random.uniform(1, 2) * self.timing.crowded)  # noqa: S311

    @staticmethod
    def _refused(code: int, text: str) -> ConfigError:
        reason = _REASONS.get(code, f"{text or 'no reason given'}; see the app in the platform's console")
        return ConfigError(f"cannot connect to Feishu: {reason} (code {code})", kind="feishu_refused")

    async def _open(self, address: str) -> ClientConnection:
        # A logger of its own that writes nothing: the library's would print the address, which is a credential.
        quiet = logging.Logger("feishu.websocket", logging.CRITICAL + 1)
        try:
            return await websockets.connect(
                address,
                max_size=_MAX_FRAME,
                open_timeout=self.timing.opening,
                close_timeout=self.timing.closing,
                ping_interval=None,
                compression=None,
                proxy=self._proxy or None,
                user_agent_header=f"regrow/{__version__}",
                logger=quiet,
            )
        except websockets.InvalidStatus as refusal:
            headers = refusal.response.headers
            status = headers.get("Handshake-Status", "")
            inner = headers.get("Handshake-Autherrcode", "")
            text = self._api.scrub(headers.get("Handshake-Msg", ""))[:200]
            http = refusal.response.status_code
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            raise Lost(f"the websocket did not open: {type(error).__name__}") from None
        if status == "514" and inner == str(_TOO_MANY):
            raise self._crowded()
        if status == "403":
            raise self._refused(403, text)
        if status == "514":
            # Perhaps only a used ticket; a fresh one that is refused as well means the app.
            self._stale_tickets += 1
            if self._stale_tickets > 1:
                raise self._refused(514, text)
        raise Lost(f"the websocket was refused: {text or 'HTTP ' + str(http)} ({status or http})")

    # Being open

    async def _session(self, address: str) -> None:
        query = parse_qs(urlsplit(address).query)
        service, device = query.get("service_id", [""])[0], query.get("device_id", [""])[0]
        if not service.isascii() or not service.lstrip("-").isdigit():
            raise Lost("the platform's address names no service_id")
        socket = await self._open(address)
        self._stale_tickets = 0
        self._heard = self._alive = self._clock.monotonic()
        self.connected, self.error = True, ""
        self.connects += 1
        log.info("connected", action="feishu_connected", device=device, number=self.connects)
        loops = [
            asyncio.create_task(self._read(socket), name="feishu read"),
            asyncio.create_task(self._ping(socket, int(service)), name="feishu ping"),
            asyncio.create_task(self._watch(socket), name="feishu watch"),
        ]
        try:
            self._opened()
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            await next(iter(done))
        except asyncio.CancelledError:
            # Told to stop: nothing more is read, what is being stored is still acknowledged.
            await _end(loops[:1])
            await self._drain()
            raise
        except (websockets.ConnectionClosed, OSError) as error:
            raise Lost(_closed(error)) from None
        finally:
            self.connected = False
            await _end(loops)
            with contextlib.suppress(Exception):
                await socket.close()

    async def _read(self, socket: ClientConnection) -> None:
        parts = Parts(self._clock)
        async for message in socket:
            self._heard = self._alive = self._clock.monotonic()
            self._frame_came.set()
            if isinstance(message, str):
                continue
            try:
                frame = Frame.decode(message)
            except FrameError as error:
                log.warning("a frame could not be read", action="feishu_bad_frame", reason=str(error))
                continue
            if frame.method == frames.CONTROL:
                self._control(frame)
            elif frame.method == frames.DATA and (payload := parts.add(frame)) is not None:
                await self._take(socket, frame, payload)

    def _control(self, frame: Frame) -> None:
        if frame.header("type") != "pong" or not frame.payload:
            return
        try:
            config = json.loads(frame.payload)
        except ValueError:
            return
        if isinstance(config, dict):
            self._configure(config)

    def _configure(self, config: dict[str, Any]) -> None:
        """Take the server's settings; what is missing or senseless keeps its old value."""
        interval = config.get("PingInterval")
        if isinstance(interval, int | float) and 0.05 <= interval <= 3600 and interval != self._ping_s:
            self._ping_s = float(interval)
            self._ping_changed.set()

    async def _ping(self, socket: ClientConnection, service: int) -> None:
        """The application's ping: at once, then in the interval the server wishes."""
        while True:
            self._frame_came.clear()
            asked = self._clock.monotonic()
            await socket.send(frames.ping(service))
            if not await _within(self._frame_came, self._deadline_s):
                raise Lost("the platform no longer answers pings")
            while (left := asked + self._ping_s - self._clock.monotonic()) > 0:
                self._ping_changed.clear()
                await _within(self._ping_changed, left)

    async def _watch(self, socket: ClientConnection) -> None:
        """The websocket's ping: finds a peer that is gone while the socket is open."""
        while True:
            before = self._clock.monotonic()
            pong = asyncio.ensure_future(await socket.ping())
            await asyncio.wait({pong}, timeout=self._deadline_s)
            if not pong.done() and self._heard < before:
                raise Lost("the platform no longer answers")
            if pong.done():
                self._alive = self._clock.monotonic()
            await self._clock.sleep(max(0.0, self._probe_s - (self._clock.monotonic() - before)))

    # Events

    async def _take(self, socket: ClientConnection, frame: Frame, payload: bytes) -> None:
        while len(self._answering) >= _MOST_AT_ONCE:
            await asyncio.wait(self._answering, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._answer(socket, frame, payload), name="feishu event")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, socket: ClientConnection, frame: Frame, payload: bytes) -> None:
        began = self._clock.monotonic()
        answer = Answer()
        ack: dict[str, Any] = {"code": 200}
        try:
            event = _event(payload)
            if event is None:
                # It would be just as unreadable four more times.
                log.warning("an event could not be read", action="feishu_bad_event", trace=frame.header("trace_id"))
            else:
                async with asyncio.timeout(self.timing.answer):
                    answer = await self._handle(event)
        except Exception as error:
            ack["code"] = 500
            log.warning(
                "an event could not be taken; it comes again",
                action="feishu_event_failure",
                error=self._api.scrub(f"{type(error).__name__}: {error}"),
                trace=frame.header("trace_id"),
            )
        if answer.data is not None:
            ack["data"] = base64.b64encode(json.dumps(answer.data, ensure_ascii=False).encode()).decode()
        took = round((self._clock.monotonic() - began) * 1000)
        try:
            # On a connection that is gone meanwhile there is nobody to tell: the event comes again.
            with contextlib.suppress(websockets.ConnectionClosed, OSError):
                await socket.send(frame.answered(took, json.dumps(ack, separators=(",", ":")).encode()).encode())
        finally:
            if answer.sent is not None:
                answer.sent()


def _event(payload: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


async def _within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _closed(error: Exception) -> str:
    if isinstance(error, websockets.ConnectionClosed) and error.rcvd is not None:
        return f"the platform closed the connection ({error.rcvd.code})"
    return "the connection broke"


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
