"""A Feishu platform on the loopback, for tests and for trying things by hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import uvicorn

from regrow.testing.feishu.api import Api, HttpFault
from regrow.testing.feishu.cardkit import CardKit
from regrow.testing.feishu.chats import Chat, Message, Person
from regrow.testing.feishu.clicks import Clicks
from regrow.testing.feishu.clock import EmulatorClock
from regrow.testing.feishu.gateway import Connection, Delivery, Gateway
from regrow.testing.feishu.journal import Journal
from regrow.testing.feishu.messages import Messages
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App, Tokens
from regrow.testing.feishu.users import User

HOST = "127.0.0.1"
_START_S = 10.0
_UVICORN = logging.getLogger("uvicorn.error")


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers (whoever uses the emulator has their own), which says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class FeishuEmulator:
    """The platform: `async with FeishuEmulator() as feishu:`.

    A client is pointed at it by its base URL alone; credentials are made at run time.

    Args:
        settings: its numbers; those of `Settings.quick()` when not given.
        port: of HTTP on the loopback, 0 for a free one.

    Attributes:
        settings, clock, journal: see their classes; all may be used while it runs.
        app: the first app, whose bot is called `bot`.
    """

    def __init__(self, settings: Settings | None = None, *, port: int = 0) -> None:
        self.settings = settings or Settings.quick()
        self.clock = EmulatorClock(speed=self.settings.speed, running=self.settings.running)
        self.journal = Journal(self.clock.now)
        self.tokens = Tokens(self.clock, self.settings)
        self.kit = CardKit(self.clock, self.settings)
        tenant = secrets.token_hex(8)
        self.messages = Messages(self.clock, self.settings, self.journal, kit=self.kit, tenant_key=tenant)
        self.gateway = Gateway(self.clock, self.settings, self.journal, self.tokens, self._renamed)
        self.gateway.tenant_key = tenant
        self.clicks = Clicks(self.clock, self.settings, self.journal, self.gateway, self.kit)
        self._api = Api(
            self.clock,
            self.settings,
            self.journal,
            tokens=self.tokens,
            gateway=self.gateway,
            messages=self.messages,
            kit=self.kit,
            clicks=self.clicks,
        )
        self._port = port
        self._level = logging.NOTSET
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.app = self.add_app("bot")

    async def __aenter__(self) -> Self:
        """Listen; `base_url` is known afterwards."""
        listening = socket.create_server((HOST, self._port))
        # asyncio sets this only on sockets made with IPPROTO_TCP; without it every answer waits 40 ms for an ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._api,
            log_config=None,
            access_log=False,
            date_header=False,  # the platform's clock is not the machine's
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        # A lost answer is a fault that was asked for; uvicorn would tell it as an error of the application.
        self._level = _UVICORN.level
        _UVICORN.setLevel(logging.CRITICAL)
        await self.gateway.start(HOST)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        async with asyncio.timeout(_START_S):
            await self._server.ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything; nothing is left running."""
        self._api.close()
        await self.gateway.stop()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
        _UVICORN.setLevel(self._level)

    @property
    def base_url(self) -> str:
        """What a client takes for `https://open.feishu.cn`."""
        return f"http://{HOST}:{self._port}"

    # Who and where

    def add_app(self, name: str, *, scopes: Iterable[str] = ()) -> App:
        """Another app with credentials of its own.

        Args:
            name: of its bot.
            scopes: permissions beyond the usual ones.
        """
        app = self.tokens.add(App(name))
        app.scopes.update(scopes)
        self.messages.apps.append(app)
        return app

    def user(self, name: str, *, guest: bool = False) -> User:
        """The person of this name, made when there is none.

        Args:
            name: what others write after the @.
            guest: of another tenant.
        """
        for person in self.messages.people:
            if person.name == name:
                return User(self, person)
        tenant = secrets.token_hex(8) if guest else self.messages.tenant_key
        person = Person(name, tenant, email=f"{name}@example.invalid")
        self.messages.people.append(person)
        return User(self, person)

    def group(self, name: str, users: Iterable[User] = (), apps: Iterable[App] | None = None) -> Chat:
        """A new group.

        Args:
            name: for people.
            users: who is in it.
            apps: whose bots are in it; the first app's when not given.
        """
        chat = Chat(name, "group", [user.person for user in users], [self.app] if apps is None else list(apps))
        self.messages.chats[chat.id] = chat
        return chat

    def use_long_connection(self, app: App | None = None) -> None:
        """Set events and callbacks of an app to the long connection, subscribe what a bot needs, publish a version.

        Raises:
            PermissionError: no client is connected: the console refuses this setting then.
        """
        app = app or self.app
        if not self.gateway.of(app):
            raise PermissionError("cannot save: no long connection of this app is open")
        app.event_mode = app.callback_mode = "websocket"
        app.events.add("im.message.receive_v1")
        app.callbacks.add("card.action.trigger")
        app.published = True

    # What was said

    def message(self, which: Message | str) -> Message:
        """A message by its id.

        Raises:
            LookupError: there is none.
        """
        if isinstance(which, Message):
            return which
        found = self.messages.messages.get(which)
        if found is None:
            raise LookupError(f"cannot find message {which}: it was never sent")
        return found

    def sent(self, chat: Chat | None = None, app: App | None = None) -> list[Message]:
        """What bots said, oldest first, as people see it now; `history` of each has what it said before.

        Args:
            chat: only there.
            app: only this one's bot.
        """
        return [
            message
            for message in self.messages.messages.values()
            if message.from_bot
            and message.forwarded is None
            and chat in (None, message.chat)
            and app in (None, message.sender)
        ]

    def transcript(self, chat: Chat) -> str:
        """Everything in a chat as plain text, a line `name: text` for each message."""
        return "\n".join(
            f"{message.sender.name}: {'(recalled)' if message.recalled else message.text}" for message in chat.messages
        )

    async def wait_for(
        self,
        chat: Chat,
        wanted: str | Callable[[Message], bool],
        *,
        after: Message | None = None,
        timeout: float = 10.0,
    ) -> Message:
        """Wait for a bot's message that says something.

        Args:
            chat: where.
            wanted: a part of what people read, or a condition.
            after: only messages that came later than this one.
            timeout: seconds of real time.

        Raises:
            TimeoutError: the text has the end of the chat and of the journal.
        """

        def found() -> Message | None:
            seen = after is None
            for message in chat.messages:
                if (
                    seen
                    and message.from_bot
                    and (wanted in message.text if isinstance(wanted, str) else wanted(message))
                ):
                    return message
                seen = seen or message is after
            return None

        try:
            message = await self.journal.wait(found, timeout=timeout, for_what=f"{wanted!r} in {chat.name}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\nchat:\n{self.transcript(chat)}") from None
        assert isinstance(message, Message)
        return message

    def deliveries(self, message: Message | str, app: App | None = None) -> list[Delivery]:
        """The ways a person's message took to the apps, duplicates (with other ids too) among them."""
        found = self.message(message)
        return [
            delivery
            for delivery in self.gateway.deliveries
            if self.messages.messages.get(delivery.message_id) is found and app in (None, delivery.app)
        ]

    async def delivered(self, message: Message | str, *, timeout: float = 10.0) -> list[Delivery]:
        """Wait until every delivery of a message has ended."""
        async with asyncio.timeout(timeout):
            for delivery in self.deliveries(message):
                await delivery.done.wait()
        return self.deliveries(message)

    async def connected(self, app: App | None = None, *, count: int = 1, timeout: float = 10.0) -> list[Connection]:
        """Wait until at least `count` connections of an app are open, have sent a ping and are not frozen.

        Args:
            app: the first when not given.
            count: how many.
            timeout: seconds of real time.
        """

        def ready() -> list[Connection]:
            return [each for each in self.gateway.of(app or self.app) if each.pings and not each.frozen]

        await self.journal.wait(
            lambda: len(ready()) >= count, timeout=timeout, for_what=f"{count} connections of an app"
        )
        return ready()

    async def disconnected(self, app: App | None = None, *, timeout: float = 10.0) -> None:
        """Wait until no connection of an app is open."""
        await self.journal.wait(
            lambda: not self.gateway.of(app or self.app), timeout=timeout, for_what="the end of every connection"
        )

    def announce(self, message: Message) -> list[Delivery]:
        """Tell of a person's message the apps that are mentioned, that may read all, or that are spoken to alone."""
        told = []
        for app in message.chat.apps:
            if message.chat.kind == "p2p":
                allowed = "im:message.p2p_msg:readonly" in app.scopes
            else:
                mentioned = any(mention.who is app for mention in message.mentions)
                allowed = (mentioned and "im:message.group_at_msg:readonly" in app.scopes) or (
                    "im:message.group_msg" in app.scopes
                )
            heard = app.event_mode == "websocket" and "im.message.receive_v1" in app.events
            if allowed and app.bot and app.published and heard:
                told.append(self.gateway.publish(app, "im.message.receive_v1", self.messages.event(message, app)))
        return told

    def inject(
        self, event_type: str, event: dict[str, Any], *, app: App | None = None, header: dict[str, Any] | None = None
    ) -> Delivery:
        """Send any event.

        Args:
            event_type: of the header.
            event: the part `event`.
            app: for whom; the first when not given.
            header: parts of the header to replace.
        """
        return self.gateway.publish(app or self.app, event_type, event, header=header)

    def _renamed(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event of a message under another message id; calls find the same message by both."""
        old = event.get("message", {}).get("message_id")
        if old in self.messages.messages:
            new = f"om_{secrets.token_hex(16)}"
            self.messages.messages[new] = self.messages.messages[old]
            event["message"]["message_id"] = new
        return event

    # What goes wrong

    async def drop_connections(self, app: App | None = None, *, code: int = 1001) -> int:
        """Close connections with a close frame of `code`; the result is how many."""
        return await self.gateway.close(app, code)

    def reset(self, app: App | None = None) -> int:
        """End connections with a TCP reset; the result is how many."""
        return self.gateway.reset(app)

    def freeze(self, app: App | None = None) -> int:
        """Leave connections half-open; the result is how many. New ones work."""
        return self.gateway.freeze(app)

    def lose_next(self, count: int = 1) -> None:
        """Never send the next events, though a client is connected; history has their messages."""
        self.gateway.faults.lose += count

    def ignore_next_ack(self, count: int = 1, *, attempts: int = 1) -> None:
        """Do not see the acknowledgements of the next events, so that they come again.

        Args:
            count: of events that are published from now on.
            attempts: how often for each.
        """
        self.gateway.faults.deaf.extend([attempts] * count)

    def duplicate(self, count: int = 1, *, new_id: bool = False, new_event_id: bool = False) -> None:
        """Send the next events twice, though they are acknowledged.

        Args:
            count: of events.
            new_id: the second time with a new message id (and event id).
            new_event_id: the second time with a new event id.
        """
        how = "message_id" if new_id else "event_id" if new_event_id else "same"
        self.gateway.faults.duplicate.extend([how] * count)

    def repeat_clicks(self, count: int = 1) -> None:
        """Send the next presses twice at once, with the same event id."""
        self.gateway.faults.repeat_clicks += count

    def shard_next(self, parts: int = 3, *, count: int = 1, shuffled: bool = False, incomplete: bool = False) -> None:
        """Send the next events in parts, cut inside of characters where there are any of several bytes.

        Args:
            parts: how many.
            count: of events.
            shuffled: in a wrong order.
            incomplete: without the last one at the first attempt.
        """
        self.gateway.faults.parts.extend([(parts, shuffled, incomplete)] * count)

    def refuse_next_handshake(
        self, status: int = 514, msg: str = "refused", auth_code: int = 0, *, count: int = 1
    ) -> None:
        """Refuse the next upgrades.

        Args:
            status: `Handshake-Status`: 514, 403 or another.
            msg: `Handshake-Msg`.
            auth_code: `Handshake-Autherrcode`; 1000040350 is the limit of connections. 0: the header is not there.
            count: how many.
        """
        headers = {"Handshake-Status": str(status), "Handshake-Msg": msg}
        if auth_code:
            headers["Handshake-Autherrcode"] = str(auth_code)
        self.gateway.faults.refuse.extend([headers] * count)

    def fail_next(
        self,
        api: str,
        status: int = 400,
        code: int = 0,
        *,
        headers: dict[str, str] | None = None,
        count: int = 1,
        raw: str | None = None,
        data: bool | None = None,
        msg: str = "injected",
    ) -> None:
        """Answer the next calls of an API with a failure, doing nothing.

        Args:
            api: `METHOD /path`, a shell pattern; ids as in `PATCH /im/v1/messages/:id` or `*`; `/open-apis` may be left
                out. The endpoint is `POST /callback/ws/endpoint`.
            status, code, headers, msg: of the answer.
            count: how many.
            raw: a body that is not JSON.
            data: with an empty `data` beside the code; the endpoint does unless told otherwise.
        """
        with_data = "/callback/ws/endpoint" in api if data is None else data
        self._api.faults.append(
            HttpFault(api, count, status, code, msg, headers=headers or {}, raw=raw, data=with_data)
        )

    def delay_next(self, api: str, seconds: float, *, count: int = 1) -> None:
        """Do the next calls of an API only after real seconds."""
        self._api.faults.append(HttpFault(api, count, delay=seconds))

    def hang_next(self, api: str, *, count: int = 1) -> None:
        """Never answer the next calls of an API."""
        self._api.faults.append(HttpFault(api, count, hang=True))

    def lose_next_answer(self, api: str, *, count: int = 1) -> None:
        """Do what the next calls of an API ask for, and cut the connection in place of an answer."""
        self._api.faults.append(HttpFault(api, count, lose_answer=True))

    async def send_garbage(self, data: bytes, app: App | None = None) -> None:
        """Send bytes over every connection that are (perhaps) no frame."""
        for connection in self.gateway.of(app or self.app):
            await self.gateway.send_bytes(connection, data)

    def expire_tokens(self) -> None:
        """Forget every access token: the next calls are answered with 99991663."""
        self.tokens.clear()

    def another_bot_talks(self, chat: Chat) -> None:
        """Use up what bots may say in a chat in this second."""
        self.messages.crowd(chat)

    def advance(self, seconds: float) -> None:
        """Move the clock forward: retries come due, tokens and cards age."""
        self.clock.advance(seconds)

    def verify(self, *, allow_codes: Iterable[int] = ()) -> None:
        """The final assertions of every conversation: see `Journal.verify`."""
        self.journal.verify(allow_codes=frozenset(allow_codes))
