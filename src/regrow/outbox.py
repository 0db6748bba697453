"""Messages to be sent: on disk before they are tried, gone only on the platform's message id (F26, F27).

A row can be edited as long as it lives: the newest content wins, what lies between is never sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
import structlog

from regrow.channels.base import Address, Channel, Content, Edits, Outgoing
from regrow.clock import Clock, SystemClock
from regrow.errors import RegrowError
from regrow.events import Events
from regrow.store import Store, outbox

log = structlog.get_logger("outbox")

_EXPIRE_S = 24 * 3600.0
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
_LOOK_AGAIN_S = 30.0


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
        now = self._clock.now()
        shown = content.to_json()

        def upsert(connection: sa.Connection) -> bool:
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

        if await self._store.transact(upsert):
            self._events.touch("outbox")

    async def waiting(self) -> int:
        """How many messages have not reached their platform."""
        count = sa.select(sa.func.count()).where(outbox.c.state == "waiting")
        return await self._store.read(lambda c: c.execute(count).scalar_one())

    async def run(self, channels: Mapping[str, Channel]) -> None:
        """Send what waits, retry what failed, until cancelled."""
        with self._events.watch("outbox") as watch:
            while True:
                next_at = await self._round(channels)
                pause = _LOOK_AGAIN_S if next_at is None else min(max(next_at - self._clock.now(), 0.0), _LOOK_AGAIN_S)
                await watch.changed(pause)

    async def _round(self, channels: Mapping[str, Channel]) -> float | None:
        """Try everything that is due once; return when the next try is."""
        query = sa.select(outbox).where(outbox.c.state == "waiting").order_by(outbox.c.id)
        soonest: float | None = None
        for row in await self._store.rows(query):
            if row["next_at"] > self._clock.now():
                soonest = min(soonest or row["next_at"], row["next_at"])
                continue
            changed = await self._try(row, channels)
            where = outbox.c.id == row["id"]
            await self._store.transact(lambda c, w=where, v=changed: c.execute(outbox.update().where(w).values(**v)))  # type: ignore[misc]
            if changed.get("state") != "expired" and "next_at" in changed:
                when = float(str(changed["next_at"]))
                soonest = min(soonest or when, when)
            # A newer content that came while this one was being sent stays "waiting".
            await self._store.transact(
                lambda c, w=where: c.execute(  # type: ignore[misc]
                    outbox.update().where(w, outbox.c.sent_revision >= outbox.c.revision).values(state="sent")
                )
            )
        return soonest

    async def _try(self, row: dict[str, object], channels: Mapping[str, Channel]) -> dict[str, object]:
        """Send one row; return the columns that change."""
        now = self._clock.now()
        expires_at, attempts = float(str(row["expires_at"])), int(str(row["attempts"]))
        if now > expires_at:
            log.warning("a message expired unsent", action="outbox_expired", key=row["key"])
            return {"state": "expired"}
        channel = channels.get(str(row["channel"]))
        if channel is None:
            return {"state": "failed", "failure": f"no channel {row['channel']}"}
        content = row["content"]
        assert isinstance(content, dict)
        job = row["job"]
        message = Outgoing(
            key=str(row["key"]),
            address=Address(str(row["channel"]), str(row["chat"]), str(row["reply_to"])),
            content=Content.from_json(content),
            job=None if job is None else int(str(job)),
        )
        try:
            if not row["platform_id"]:
                return {"platform_id": await channel.send(message), "sent_revision": row["revision"], "failure": ""}
            if isinstance(channel, Edits):
                await channel.edit(str(row["platform_id"]), message)
            return {"sent_revision": row["revision"], "failure": ""}
        except (RegrowError, OSError) as error:
            wait = _BACKOFF_S[min(attempts, len(_BACKOFF_S) - 1)]
            log.warning("a message could not be sent", action="outbox_retry", key=row["key"], error=str(error))
            return {"attempts": attempts + 1, "next_at": now + wait, "failure": str(error)}
