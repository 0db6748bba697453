"""Chat forwarding: what is not for Regrow is posted to the service, and what the service says goes back to the chat.

A message waits on disk until the service has answered it, so that a service that is being switched, is dead or hangs
loses none (F33). Each try carries the same Idempotency-Key, and the answer is put in the outbox in the transaction that
ends the message: a daemon killed between the two asks again and sends once.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog

from regrow.catalogue import Language, say
from regrow.channels.base import Address, Content, Incoming
from regrow.clock import Clock, SystemClock
from regrow.config import ChatSection
from regrow.events import Events
from regrow.outbox import Outbox
from regrow.pool import in_thread
from regrow.redact import Redactor
from regrow.store import Store, cursors, forwards

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger("forwarding")

_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LOOK_AGAIN_S = 30.0
_AT_ONCE = 128
_LONGEST_ANSWER = 256 * 1024
_LONGEST_TEXT = 20_000
_LATER = frozenset({408, 409, 425, 429})
"""Refusals that mean "not yet". 409 is how a service says that it is still busy with an earlier try of the same key."""


@dataclass(frozen=True)
class Reply:
    """How one try ended.

    Attributes:
        state: "answered", "refused", or "waiting" when it is to be tried again.
        text: the answer; "" when the service had nothing to say.
        failure: why it was not answered.
    """

    state: str
    text: str = ""
    failure: str = ""


class Forwarding:
    """The way between chats and one service.

    Args:
        service: its name.
        settings: its `[chat]`, with `forward` set.
        store: where messages wait.
        outbox: takes the answers.
        events: told when a message came.
        redactor: knows the secrets that no answer may show.
        clock: tests put a manual one here.
    """

    def __init__(
        self,
        *,
        service: str,
        settings: ChatSection,
        store: Store,
        outbox: Outbox,
        events: Events,
        redactor: Redactor,
        clock: Clock | None = None,
    ) -> None:
        self._service = service
        self._settings = settings
        self._store = store
        self._outbox = outbox
        self._events = events
        self._redactor = redactor
        self._clock = clock or SystemClock()
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def put(self, message: Incoming, language: Language) -> None:
        """Make a message durable for the service; one that is known changes nothing.

        Args:
            message: from a channel.
            language: in which the person is told when the service does not answer.
        """
        values = {
            "service": self._service,
            "channel": message.address.channel,
            "chat": message.address.chat,
            "message": message.address.message,
            "sender": message.sender,
            "sender_name": message.sender_name,
            "text": message.text,
            "language": language,
            "created_at": message.created_at,
            "received_at": self._clock.now(),
            "state": "waiting",
            "failure": "",
        }
        same = (forwards.c.channel == values["channel"], forwards.c.message == values["message"])

        def insert(connection: sa.Connection) -> None:
            if connection.execute(sa.select(forwards.c.id).where(*same)).first() is None:
                connection.execute(forwards.insert().values(**values))

        await self._store.transact(insert)
        self._events.touch("forwards")

    async def waiting(self) -> int:
        """How many messages the service has not answered yet."""
        query = sa.select(sa.func.count()).select_from(forwards).where(*self._open())
        return await self._store.read(lambda c: c.execute(query).scalar_one())

    async def run(self) -> None:
        """Post what waits, in order per chat, until cancelled. Chats do not wait for one another."""
        lanes: dict[tuple[str, str], asyncio.Task[None]] = {}
        chats = sa.select(forwards.c.channel, forwards.c.chat).where(*self._open()).distinct()
        async with await in_thread(make_client, self._settings.forward, self._settings.forward_timeout) as client:
            with self._events.watch("forwards") as watch:
                async with asyncio.TaskGroup() as group:
                    while True:
                        for row in await self._store.rows(chats):
                            lane = (row["channel"], row["chat"])
                            if lane not in lanes:
                                lanes[lane] = group.create_task(self._lane(lane, client), name=f"forward {lane[0]}")
                        await watch.changed(_LOOK_AGAIN_S)
                        for lane in [lane for lane, task in lanes.items() if task.done()]:
                            del lanes[lane]

    async def _lane(self, lane: tuple[str, str], client: httpx.AsyncClient) -> None:
        """Post the messages of one chat, one after the other, until none waits."""
        where = (*self._open(), forwards.c.channel == lane[0], forwards.c.chat == lane[1])
        # One that came late goes before what was said after it, where that has not been posted yet.
        query = sa.select(forwards).where(*where).order_by(forwards.c.created_at, forwards.c.id)
        while row := await self._store.row(query):
            await self._deliver(row, client)
        # What came between the last look and the end of this task is found by another look.
        asyncio.get_running_loop().call_soon(self._events.touch, "forwards")

    async def _deliver(self, row: Mapping[str, Any], client: httpx.AsyncClient) -> None:
        """Try one message until it is answered, refused, or too late."""
        tries = 0
        while True:
            async with self._free:
                reply = await self._try(row, client)
            # Not before the first try: what waited behind a poisoned message, or while Regrow was away, gets its turn.
            left = row["received_at"] + self._settings.forward_within - self._clock.now()
            if reply.state == "waiting" and left > 0:
                if tries == 0:
                    log.warning("a message waits for the service", action="forward_retry", error=reply.failure)
                await self._clock.sleep(min(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)], left))
                tries += 1
                continue
            await self.finish(row, Reply("expired", failure=reply.failure) if reply.state == "waiting" else reply)
            return

    async def _try(self, row: Mapping[str, Any], client: httpx.AsyncClient) -> Reply:
        body = {
            "chat": f"{row['channel']}:{row['chat']}",
            "sender": row["sender"],
            "name": row["sender_name"],
            "text": row["text"],
            "id": row["message"],
            "at": row["created_at"],
        }
        headers = {"Idempotency-Key": f"{row['channel']}:{row['message']}"}
        return await post(client, self._settings.forward, self._settings.forward_timeout, headers, body)

    async def finish(self, row: Mapping[str, Any], reply: Reply) -> None:
        """Write down how a message ended, and what the person is told of it, in one transaction."""
        text = self._redactor.known(reply.text)
        if reply.state != "answered":
            text = say(row["language"], f"chat.forward_{reply.state}", service=self._service)
            log.warning(
                "a message got no answer", action="forward_end", state=reply.state, message=row["message"],
                error=reply.failure,
            )  # fmt: skip
        address = Address(row["channel"], row["chat"], row["message"])

        def end(connection: sa.Connection) -> None:
            where = forwards.c.id == row["id"]
            connection.execute(forwards.update().where(where).values(state=reply.state, failure=reply.failure))
            if text.strip():
                key = f"forward:{row['channel']}:{row['message']}"
                self._outbox.write(connection, key, address, Content(_cut(text)))

        await self._store.transact(end)
        self._events.touch("outbox", "forwarded")

    def _open(self) -> tuple[sa.ColumnElement[bool], ...]:
        # Not the bare column: this keeps SQLite from the index that begins with it and holds all that ever was.
        return (forwards.c.state == "waiting", sa.literal_column("forwards.service || ''") == self._service)

    # What the service says unasked

    async def poll(self) -> None:
        """Fetch what the service has to say of itself and send it, each message once, until cancelled.

        Returns at once where no `outbox` is set.

        The service answers `GET <outbox>?after=ID` with `{"messages": [{"id", "chat", "text"}]}`, ids growing.
        """
        if not self._settings.outbox:
            return
        async with await in_thread(make_client, self._settings.outbox, self._settings.forward_timeout) as client:
            while True:
                while await self._fetch(client):
                    pass
                await self._clock.sleep(self._settings.outbox_every)

    async def _fetch(self, client: httpx.AsyncClient) -> bool:
        """One look; whether there was something new, so that another may find more."""
        import httpx

        name = f"forwarding:{self._service}:outbox"
        row = await self._store.row(sa.select(cursors.c.value).where(cursors.c.name == name))
        after = row["value"] if row else 0
        try:
            async with (
                asyncio.timeout(self._settings.forward_timeout),
                client.stream("GET", self._settings.outbox, params={"after": after}) as response,
            ):
                if not response.is_success:
                    return False  # a service that is being switched, or dead: what it has to say waits there
                found = json.loads(await _read(response))["messages"]
            fresh = sorted((one for one in found if int(one["id"]) > after), key=lambda one: int(one["id"]))
            said = [(int(one["id"]), str(one["chat"]), str(one["text"])) for one in fresh]
        except (httpx.HTTPError, TimeoutError):
            return False
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the service's outbox cannot be read", action="outbox_poll", error=repr(error))
            return False
        for number, chat, text in said:
            await self._say(name, number, chat, text)
        return bool(said)

    async def _say(self, cursor: str, number: int, place: str, text: str) -> None:
        """Send one message and move the cursor past it, in one transaction."""
        channel, _, chat = place.partition(":")
        spoken = sa.select(forwards.c.id).where(
            forwards.c.service == self._service, forwards.c.channel == channel, forwards.c.chat == chat
        )

        def work(connection: sa.Connection) -> bool:
            moved = connection.execute(
                cursors.update().where(cursors.c.name == cursor, cursors.c.value < number).values(value=number)
            )
            if not moved.rowcount:
                if connection.execute(sa.select(cursors.c.value).where(cursors.c.name == cursor)).first():
                    return True  # another look was faster
                connection.execute(cursors.insert().values(name=cursor, value=number))
            # A service speaks only where it was spoken to.
            if connection.execute(spoken.limit(1)).first() is None:
                return False
            if text.strip():
                shown = Content(_cut(self._redactor.known(text)))
                self._outbox.write(connection, f"said:{self._service}:{number}", Address(channel, chat), shown)
            return True

        if not await self._store.transact(work):
            log.warning("the service spoke to a chat that never spoke to it", action="outbox_poll", chat=place)
        self._events.touch("outbox")


async def post(
    client: httpx.AsyncClient, url: str, timeout_s: float, headers: Mapping[str, str], body: Mapping[str, Any]
) -> Reply:
    """Hand one message to a service and read what it says.

    Args:
        client: from `make_client`.
        url: where the service takes messages.
        timeout_s: for the whole of it, in seconds.
        headers: with the Idempotency-Key.
        body: chat, sender, name, text, id, at.
    """
    import httpx

    try:
        # The client's own time-outs are per read: an answer that trickles would have no end.
        async with (
            asyncio.timeout(timeout_s),
            client.stream("POST", url, json=dict(body), headers=dict(headers)) as response,
        ):
            return _reply(response.status_code, await _read(response), response.charset_encoding)
    except TimeoutError:
        return Reply("waiting", failure=f"no answer within {timeout_s:g} s")
    except httpx.HTTPError as error:
        return Reply("waiting", failure=f"{type(error).__name__}: {error}")
    except Exception as error:
        log.exception("a message could not be posted", action="forward_failure", message=body["id"])
        return Reply("waiting", failure=type(error).__name__)


def make_client(url: str, timeout_s: float) -> httpx.AsyncClient:
    """A client for one service, without proxies and kept connections."""
    import httpx  # only where something is forwarded: it stays in memory

    return httpx.AsyncClient(
        timeout=timeout_s,
        # A kept connection would lead to the release that has just been replaced.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        trust_env=False,  # no proxy stands between this machine and itself
        verify=ssl.create_default_context() if url.startswith("https:") else False,
    )


async def _read(response: httpx.Response) -> bytes:
    """The body, up to the longest that is of use."""
    read = bytearray()
    async for part in response.aiter_bytes():
        read += part
        if len(read) > _LONGEST_ANSWER:
            break
    return bytes(read[:_LONGEST_ANSWER])


def _reply(status: int, body: bytes, charset: str | None) -> Reply:
    """What an HTTP answer means."""
    if status in _LATER or status >= 500:
        return Reply("waiting", failure=f"HTTP {status}")
    if not 200 <= status < 300:
        return Reply("refused", failure=f"HTTP {status}")
    try:
        text = body.decode(charset or "utf-8", "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        return Reply("answered", text)
    if not isinstance(value, dict):
        return Reply("answered", text)
    answer = value.get("answer")
    return Reply("answered", answer if isinstance(answer, str) else "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
