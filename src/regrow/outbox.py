"""Messages to be sent: on disk before they are tried, gone only on the platform's message id (F26, F27).

A row can be edited as long as it lives: the newest content wins, what lies between is never sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
import structlog

from regrow.channels.base import Address, Channel, Content, Edits, Outgoing, Paced
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound, RegrowError
from regrow.events import Events
from regrow.store import Store, outbox

log = structlog.get_logger("outbox")

_EXPIRE_S = 24 * 3600.0
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
_LOOK_AGAIN_S = 30.0
_REPORTED = 20
_HOLDS_UP = 5
"""Tries of a message that those after it in its chat wait for, so that they keep their order."""


class Outbox:
    """The queue between jobs and channels."""

    def __init__(self, store: Store, events: Events, clock: Clock | None = None) -> None:
        self._store = store
        self._events = events
        self._clock = clock or SystemClock()

    async def put(self, key: str, address: Address, content: Content, job: int | None = None) -> None:
        """Send `content`, or show it in place of what was sent under the same `key` before.

        Args:
            key: the message's own name, such as "job-7-live"; the same key is one message for ever.
            address: where it goes; fixed by the first put.
            content: what it shows; unchanged content is not sent again.
            job: the job it tells of.
        """
        if await self._store.transact(lambda connection: self.write(connection, key, address, content, job)):
            self._events.touch("outbox")

    def write(
        self, connection: sa.Connection, key: str, address: Address, content: Content, job: int | None = None
    ) -> bool:
        """As `put`, inside a transaction of the caller's, who touches the topic "outbox" after it.

        Returns:
            Whether there is something to send.
        """
        now = self._clock.now()
        shown = content.to_json()
        row = connection.execute(sa.select(outbox).where(outbox.c.key == key)).mappings().first()
        if row is None:
            connection.execute(
                outbox.insert().values(
                    key=key,
                    job=job,
                    channel=address.channel,
                    chat=address.chat,
                    reply_to=address.message,
                    content=shown,
                    revision=1,
                    sent_revision=0,
                    platform_id="",
                    attempts=0,
                    next_at=now,
                    expires_at=now + _EXPIRE_S,
                    created_at=now,
                    failure="",
                    state="waiting",
                )
            )
            return True
        if row["content"] == shown:
            return False
        changed = {"content": shown, "revision": row["revision"] + 1, "state": "waiting"}
        connection.execute(outbox.update().where(outbox.c.id == row["id"]).values(**changed))
        return True

    async def waiting(self) -> int:
        """How many messages have not reached their platform."""
        count = sa.select(sa.func.count()).where(outbox.c.state == "waiting")
        return await self._store.read(lambda c: c.execute(count).scalar_one())

    async def knows(self, key: str) -> bool:
        """Whether a message of this name was ever put."""
        return await self._store.row(sa.select(outbox.c.id).where(outbox.c.key == key)) is not None

    async def expired(self) -> list[tuple[str, str]]:
        """The newest messages that nobody was ever shown because their time ran out: key and channel."""
        query = sa.select(outbox.c.key, outbox.c.channel).where(outbox.c.state == "expired", outbox.c.platform_id == "")
        rows = await self._store.rows(query.order_by(outbox.c.id.desc()).limit(_REPORTED))
        return [(row["key"], row["channel"]) for row in rows]

    async def shown(self, channel: str, platform_id: str) -> Outgoing | None:
        """The message that was sent as `platform_id`, as it stands now; None when it is none of ours."""
        where = (outbox.c.channel == channel, outbox.c.platform_id == platform_id)
        row = await self._store.row(sa.select(outbox).where(*where)) if platform_id else None
        return None if row is None else _message(row)

    async def run(self, channels: Mapping[str, Channel]) -> None:
        """Send what waits, retry what failed, until cancelled. Chats do not wait for one another."""
        lanes: dict[tuple[str, str], asyncio.Task[None]] = {}
        with self._events.watch("outbox") as watch:
            async with asyncio.TaskGroup() as group:
                while True:
                    soonest = _LOOK_AGAIN_S
                    for lane, (wait, numbers) in (await self._due(channels)).items():
                        if lane in lanes and not lanes[lane].done():
                            continue  # its end wakes this loop
                        if numbers:
                            lanes[lane] = group.create_task(self._lane(numbers, channels), name=f"outbox {lane[0]}")
                        else:
                            lanes.pop(lane, None)
                        soonest = min(soonest, wait)
                    await watch.changed(soonest)

    async def _due(self, channels: Mapping[str, Channel]) -> dict[tuple[str, str], tuple[float, list[int]]]:
        """By chat: seconds until the next message is due, and those that are due now, new ones first."""
        columns = (
            outbox.c.id,
            outbox.c.channel,
            outbox.c.chat,
            outbox.c.platform_id,
            outbox.c.next_at,
            outbox.c.attempts,
        )
        query = sa.select(*columns).where(outbox.c.state == "waiting").order_by(outbox.c.platform_id != "", outbox.c.id)
        found: dict[tuple[str, str], tuple[float, list[int]]] = {}
        held_up: set[tuple[str, str]] = set()
        for row in await self._store.rows(query):
            lane = (row["channel"], row["chat"])
            later = row["next_at"] - self._clock.now()
            paced: object = channels.get(row["channel"])
            if row["platform_id"] and isinstance(paced, Paced):
                later = max(later, paced.wait_s(row["platform_id"]))
            wait, numbers = found.setdefault(lane, (_LOOK_AGAIN_S, []))
            if later > 0:
                found[lane] = (min(wait, later), numbers)
                if not row["platform_id"] and row["attempts"] <= _HOLDS_UP:
                    held_up.add(lane)
            elif lane not in held_up or row["platform_id"]:
                numbers.append(row["id"])
        return found

    async def _lane(self, numbers: list[int], channels: Mapping[str, Channel]) -> None:
        """Try messages of one chat, one after the other."""
        for number in numbers:
            where = outbox.c.id == number
            row = await self._store.row(sa.select(outbox).where(where, outbox.c.state == "waiting"))
            if row is None:
                continue
            changed = await self._try(row, channels)

            def record(connection: sa.Connection, where: Any = where, changed: Any = changed) -> None:
                connection.execute(outbox.update().where(where).values(**changed))
                # A newer content that came while this one was being sent stays "waiting".
                done = (where, outbox.c.state == "waiting", outbox.c.sent_revision >= outbox.c.revision)
                connection.execute(outbox.update().where(*done).values(state="sent"))

            await self._store.transact(record)
            if not row["platform_id"] and "next_at" in changed and row["attempts"] < _HOLDS_UP:
                break
        self._events.touch("outbox")

    async def _try(self, row: Mapping[str, Any], channels: Mapping[str, Channel]) -> dict[str, object]:
        """Send one message; return the columns that change."""
        now = self._clock.now()
        if now > row["expires_at"]:
            log.warning("a message expired unsent", action="outbox_expired", key=row["key"])
            return {"state": "expired"}
        channel = channels.get(row["channel"])
        if channel is None:
            return {"state": "failed", "failure": f"no channel {row['channel']}"}
        message = _message(row)
        sent: dict[str, object] = {"sent_revision": row["revision"], "failure": "", "attempts": 0}
        try:
            if not row["platform_id"]:
                return sent | {"platform_id": await channel.send(message)}
            if isinstance(channel, Edits) and (moved := await channel.edit(row["platform_id"], message)):
                return sent | {"platform_id": moved}
            return sent
        except NotFound as error:
            # Nobody will ever see it there; the channel has said so in the log.
            return {"state": "failed", "failure": str(error)}
        except (RegrowError, OSError) as error:
            log.warning("a message could not be sent", action="outbox_retry", key=row["key"], error=str(error))
            failure = str(error)
        except Exception as error:
            log.exception("a message broke its channel", action="outbox_failure", key=row["key"])
            failure = type(error).__name__
        wait = _BACKOFF_S[min(row["attempts"], len(_BACKOFF_S) - 1)]
        return {"attempts": row["attempts"] + 1, "next_at": self._clock.now() + wait, "failure": failure}


def _message(row: Mapping[str, Any]) -> Outgoing:
    return Outgoing(
        key=row["key"],
        address=Address(row["channel"], row["chat"], row["reply_to"]),
        content=Content.from_json(row["content"]),
        job=row["job"],
    )
