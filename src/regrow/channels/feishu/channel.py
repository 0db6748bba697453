"""The channel: what is heard goes to the inbox, what the outbox holds becomes cards that change in place."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from regrow.api.types import Finding
from regrow.channels.base import Health, Incoming, Outgoing, Press, Pressed, Receive
from regrow.channels.feishu import cards, messages
from regrow.channels.feishu.api import Api, App
from regrow.channels.feishu.catch_up import CatchUp
from regrow.channels.feishu.checks import CLICK, MESSAGE, Check, Checks
from regrow.channels.feishu.clicks import Clicks
from regrow.channels.feishu.connection import Answer, Connection, Timing
from regrow.channels.feishu.lease import lease
from regrow.channels.feishu.messages import Reader, Said
from regrow.channels.feishu.refusals import FeishuError
from regrow.clock import Clock, SystemClock
from regrow.errors import ConfigError, NotFound, RegrowError

log = structlog.get_logger("feishu")

_EDIT_EVERY_S = 1.0  # one card; the platform allows five a second and counts every call
_TEXT_EDIT_EVERY_S = 60.0  # a text may be edited twenty times in all
_SEND_EVERY_S = 0.25  # one chat; all its bots share five a second
_LOCKED_S = 0.25
_QUOTA_S = 900.0
_TEXT = "text/"
_SMALL_CARD = 6_000
_REMEMBERED = 5000
_KNOWN_S = 300.0
_BOT_AGAIN_S = (0.5, 2.0, 10.0, 30.0)

_LEFT = "contact.user.deleted_v3"

Read = Incoming | BaseException | None


class FeishuChannel:
    """One app on Feishu or Lark.

    Args:
        app: which.
        name_of: what people call an open_id or union_id; None for a stranger.
        press: carries out a pressed button.
        known: chats that were ever heard of, with the time of the newest message.
        left: told every id of somebody who left the tenant.
        clock: the time.
        timing: of the connection.
        catch_up_s: seconds between two looks at the history.
        hears: False where another program has the app's connection: it would take away what we hear, and get what is
            pressed. So nothing is connected, and no message shows a button.
    """

    name = messages.NAME

    def __init__(
        self,
        app: App,
        *,
        name_of: Callable[[str], str | None],
        press: Callable[[Press], Awaitable[Pressed]],
        known: Callable[[], Awaitable[Mapping[str, float]]],
        left: Callable[[Sequence[str]], Awaitable[None]] | None = None,
        clock: Clock | None = None,
        timing: Timing | None = None,
        catch_up_s: float = 180.0,
        hears: bool = True,
    ) -> None:
        self._app = app
        self.hears = hears
        self._clock = clock or SystemClock()
        self.api = Api(app, self._clock)
        self._reader = Reader(self.api, name_of)
        self._clicks = Clicks(self._reader, press, self._draw)
        self.catch_up = CatchUp(self.api, known, self._take, self._clock, every_s=catch_up_s)
        self.connection = Connection(
            self.api, self._handle, self.catch_up.wake, self._clock, proxy=app.proxy, timing=timing
        )
        self._left = left
        self._receive: Receive | None = None
        self._bot: asyncio.Future[str] | None = None
        self._last: dict[str, asyncio.Future[None]] = {}  # by chat: the message that is being taken
        self._taken: dict[str, None] = {}  # messages that are on disk, newest last
        self._changed_at: dict[str, float] = {}
        self._turns: dict[str, float] = {}
        self._gone: dict[str, str] = {}
        self._trouble = ""

    async def run(self, receive: Receive) -> None:
        """Hear until cancelled.

        Args:
            receive: makes a message durable; its event is acknowledged afterwards.

        Raises:
            Refused: kind "locked": another process of this machine has the app's connection.
            ConfigError: the platform will not have this app.
        """
        if not self.hears:
            return await self._run_unheard()
        try:
            with lease(self._app.base_url, self._app.app_id):
                self._receive = receive
                self._bot = asyncio.get_running_loop().create_future()
                self._trouble = ""
                parts = [
                    asyncio.create_task(self.connection.run(), name="feishu connection"),
                    asyncio.create_task(self.catch_up.run(), name="feishu catch-up"),
                    asyncio.create_task(self._meet_bot(self._bot), name="feishu bot"),
                ]
                try:
                    # The one that asks who we are ends by itself; the others only with an error.
                    waiting: set[asyncio.Task[None]] = set(parts)
                    while waiting:
                        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                        for task in done:
                            task.result()
                finally:
                    for task in parts:
                        task.cancel()
                    await asyncio.gather(*parts, return_exceptions=True)
                    await self._clicks.close()
                    self._receive = None
        except RegrowError as error:
            self._trouble = str(error)
            raise

    async def _run_unheard(self) -> None:
        """See now and then whether the platform still knows the app; nothing else tells."""
        while True:
            try:
                await self.api.me()
                self._trouble = ""
            except FeishuError as error:
                self._trouble = str(error)
            await self._clock.sleep(_BOT_AGAIN_S[-1] if self._trouble else _KNOWN_S)

    async def close(self) -> None:
        """Give back the connections of the API."""
        await self.api.close()

    def health(self) -> Health:
        """By what was heard last: an open socket says nothing."""
        if self._trouble:
            return Health(False, self._trouble)
        if not self.hears:
            return Health(True, "tells only; another program has the connection")
        silence = self.connection.silence_s
        if not self.connection.connected:
            return Health(False, f"not connected: {self.connection.error or 'opening'}")
        detail = f"connected, heard {silence:.0f} s ago"
        if silence > self.connection.patience_s + 5.0:
            return Health(False, f"connected, but silent for {silence:.0f} s")
        if self.api.quota_out:
            return Health(False, f"{detail}; this month's API calls are used up, progress is not shown")
        if self.api.ahead_s:
            way = "behind" if self.api.ahead_s > 0 else "ahead of"
            clock = f"this machine's clock is {abs(self.api.ahead_s):.0f} s {way} the platform's; set it"
            return Health(False, f"{detail}; {clock}: commands seem older or newer than they are")
        return Health(True, detail)

    async def findings(self) -> list[Finding]:
        """The app as `regrow.channels.feishu.checks` sees it; the connection is the one that is open here.

        What the platform does not tell counts as well: a message and a press have to prove it.
        """
        seen = {check.name: check for check in await Checks(self.api, self._app, "en").look()}
        health = self.health()
        if not self.hears:  # what is needed to hear is the other program's concern
            for name in ("events", "callbacks"):
                seen.pop(name, None)
        if (asked := seen.get("connection")) is None or asked.state == "ok":
            mend = "" if health.healthy else "see the daemon's log"
            seen["connection"] = Check("connection", "ok" if health.healthy else "bad", health.detail, mend)
        return [
            Finding(name=f"{self.name}: {check.name}", ok=check.state != "bad", detail=check.detail, mend=check.mend)
            for check in seen.values()
        ]

    # Hearing

    async def _meet_bot(self, bot: asyncio.Future[str]) -> None:
        """Learn the bot's own id; without it a mention in a group cannot be told from another."""
        tries = 0
        while True:
            try:
                me = await self.api.me()
                if isinstance(me.get("open_id"), str):
                    bot.set_result(me["open_id"])
                    return
                log.warning("the app is no bot yet; enable the bot ability", action="feishu_no_bot")
            except FeishuError as error:
                if error.meaning in {"config", "scope"}:
                    raise ConfigError(
                        f"{error}; see the app in the platform's console", kind="feishu_refused"
                    ) from None
                log.warning("the bot's own id is not known yet", action="feishu_no_bot", error=str(error))
            await self._clock.sleep(_BOT_AGAIN_S[min(tries, len(_BOT_AGAIN_S) - 1)])
            tries += 1

    async def _handle(self, event: dict[str, Any]) -> Answer:
        """One event. Returning acknowledges it; an error brings it back."""
        header = event.get("header")
        kind = header.get("event_type") if isinstance(header, dict) else ""
        if kind == CLICK:
            return await self._clicks.handle(event)
        if kind == MESSAGE:
            said = messages.of_event(event)
            if said is not None:
                try:
                    await self._take(said, look=self.catch_up.heard(said))
                except BaseException:
                    self.catch_up.missed(said)
                    raise
        elif kind == _LEFT and self._left is not None:
            await self._left(messages.ids_of_leaver(event))
        else:
            log.debug("an event nobody needs", action="feishu_other_event", kind=str(kind)[:80])
        return Answer()

    async def _take(self, *spoken: Said, look: asyncio.Future[None] | None = None) -> None:
        """Put messages of one chat on disk, in their order, and behind those of the chat that are on their way there.

        Args:
            spoken: the messages.
            look: what their handling waits for: what was said before them may still be in the history only.
        """
        receive = self._receive
        assert receive is not None
        spoken = tuple(said for said in spoken if said.message not in self._taken)
        if not spoken:
            return
        place = spoken[0].place
        before, mine = self._last.get(place), asyncio.get_running_loop().create_future()
        self._last[place] = mine
        try:
            if len(spoken) == 1:
                read: list[Read] = [await self._read_one(spoken[0])]
            else:
                read = await asyncio.gather(*map(self._read_one, spoken), return_exceptions=True)
            if before is not None:
                # What was said first is on disk first, whatever took how long to read.
                await asyncio.wait({before})
            receiving = [self._receive_one(receive, said, one, look) for said, one in zip(spoken, read, strict=True)]
            taking = receiving[0] if len(receiving) == 1 else asyncio.gather(*receiving)
            # By then they have begun, before the next ones of the chat, and so are on disk before them.
            asyncio.get_running_loop().call_soon(_done, mine)
            await taking
        finally:
            _done(mine)
            if self._last.get(place) is mine:
                del self._last[place]

    async def _receive_one(self, receive: Receive, said: Said, read: Read, look: asyncio.Future[None] | None) -> None:
        if isinstance(read, BaseException):
            raise read
        if read is not None:
            await receive(read, look)
        self._taken[said.message] = None
        if len(self._taken) > _REMEMBERED:
            del self._taken[next(iter(self._taken))]

    async def _read_one(self, said: Said) -> Incoming | None:
        assert self._bot is not None
        bot = "" if said.private else await asyncio.shield(self._bot)
        return await self._reader.read(said, bot)

    # Speaking

    async def send(self, message: Outgoing) -> str:
        """Send a message as a card, or as text where a card cannot go.

        Raises:
            NotFound: kind "gone": the chat is no longer there, or we may not speak in it.
            FeishuError: not now; the same key makes another try safe.
        """
        message = self._shown(message)
        if not cards.wants_card(message):
            return _TEXT + await self._say(message, "text", cards.plain(message.content))
        for budget in (cards.CARD_BYTES, _SMALL_CARD):
            try:
                sent = await self._say(message, "interactive", cards.card(message, budget))
            except FeishuError as error:
                if error.meaning != "content":
                    raise
                log.warning("a card was refused", action="feishu_card_refused", key=message.key, error=str(error))
                continue
            self._remember(sent)
            return sent
        return _TEXT + await self._say(message, "text", cards.plain(message.content))

    async def edit(self, platform_id: str, message: Outgoing) -> str | None:
        """Show new content in a message; a card too old to change is followed by a new one.

        Raises:
            NotFound: kind "gone": the message is no longer there.
            FeishuError: not now.
        """
        self._check_gone(platform_id)
        self._remember(platform_id)
        message = self._shown(message)
        try:
            if platform_id.startswith(_TEXT):
                await self.api.edit_text(platform_id.removeprefix(_TEXT), cards.plain(message.content))
            else:
                await self._patch(platform_id, message)
        except FeishuError as error:
            if error.meaning == "gone":
                raise self._is_gone(platform_id, error) from None
            if error.meaning != "old":
                raise
            # One more message, under a name of its own: the old one's is taken for ever.
            return await self.send(
                Outgoing(f"{message.key}@{platform_id}", message.address, message.content, message.job)
            )
        return None

    def wait_s(self, platform_id: str) -> float:
        """Seconds until a message may be changed again."""
        if self._clicks.locked(platform_id):
            return _LOCKED_S
        if self.api.quota_out:
            return _QUOTA_S
        every = _TEXT_EDIT_EVERY_S if platform_id.startswith(_TEXT) else _EDIT_EVERY_S
        return max(0.0, self._changed_at.get(platform_id, float("-inf")) + every - self._clock.monotonic())

    async def _patch(self, platform_id: str, message: Outgoing) -> None:
        for budget in (cards.CARD_BYTES, _SMALL_CARD, 0):
            try:
                return await self.api.patch_card(platform_id, cards.card(message, budget))
            except FeishuError as error:
                if error.meaning != "content" or budget == 0:
                    raise
                log.warning("a card was refused", action="feishu_card_refused", key=message.key, error=str(error))
        return None

    async def _say(self, message: Outgoing, kind: str, content: str) -> str:
        """A new message where the request came from: an answer to it, else in its chat."""
        room, thread = messages.place(message.address.chat)
        self._check_gone(room)
        await self._turn(room)
        uuid = hashlib.sha256(message.key.encode()).hexdigest()[:40]
        asking = message.address.message
        try:
            if asking:
                try:
                    return await self.api.reply(asking, kind, content, uuid, in_thread=bool(thread))
                except FeishuError as error:
                    # The question was taken back, or cannot be answered there: then into the chat itself.
                    if error.code not in {230011, 230110, 230071, 230072, 99992354}:
                        raise
            return await self.api.send(room, kind, content, uuid)
        except FeishuError as error:
            if error.meaning == "gone":
                raise self._is_gone(room, error) from None
            raise

    def _shown(self, message: Outgoing) -> Outgoing:
        """The message as it can be used here."""
        if self.hears or not message.content.choices:
            return message
        return replace(message, content=replace(message.content, choices=()))

    async def _turn(self, room: str) -> None:
        """Wait for this chat's next place; places are given in the order of asking."""
        now = self._clock.monotonic()
        turn = max(now, self._turns.get(room, 0.0))
        self._turns[room] = turn + _SEND_EVERY_S
        if len(self._turns) > _REMEMBERED:
            self._turns = {name: at for name, at in self._turns.items() if at > now}
        if turn > now:
            await self._clock.sleep(turn - now)

    def _remember(self, platform_id: str) -> None:
        self._changed_at[platform_id] = self._clock.monotonic()
        while len(self._changed_at) > _REMEMBERED:
            del self._changed_at[next(iter(self._changed_at))]

    def _is_gone(self, name: str, error: FeishuError) -> NotFound:
        if name not in self._gone:
            log.warning("nobody can be told there any more", action="feishu_gone", where=name, error=str(error))
            self._gone[name] = str(error)
        return NotFound(f"cannot show it on Feishu: {error}", kind="gone")

    def _check_gone(self, name: str) -> None:
        if name in self._gone:
            raise NotFound(f"cannot show it on Feishu: {self._gone[name]}", kind="gone")

    def _draw(self, pressed: Pressed, message: str) -> dict[str, Any] | None:
        """The card that answers a press; the pressing person's client shows it at once."""
        if pressed.shown is None:
            return None  # what was pressed is a card, also when what it shows from now on has no buttons
        self._remember(message)
        drawn: dict[str, Any] = json.loads(cards.card(pressed.shown))
        return drawn


def _done(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
