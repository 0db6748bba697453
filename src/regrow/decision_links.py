"""Links by which one person answers one question of a job, where a pressed button would reach another program.

A link is a name signed by this daemon: of the job, of what is approved, and of the person it was sent to, alone.
Whoever opens it is that person for this question and for nothing else; what the person may do is asked when the answer
is given. It is worth nothing once the question is answered, has expired, or is about another change. No row is kept of
it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Collection
from dataclasses import dataclass

from regrow.api import types
from regrow.catalogue import say, say_fitting
from regrow.channels.base import Address, Content
from regrow.errors import NotFound
from regrow.intents import Intent
from regrow.outbox import Outbox
from regrow.permissions import Permissions

PATH = "/decide"
_SIGNATURE_BYTES = 20


@dataclass(frozen=True)
class Decision:
    """What a link is for.

    Attributes:
        job: the job's number.
        digest: of what is approved.
        person: id of who it was sent to.
    """

    job: int
    digest: str
    person: str


class DecisionLinks:
    """Makes and reads links.

    Args:
        secret: this daemon's own; with another one no earlier link holds.
        base: address of the console as people reach it, without a slash at its end.
    """

    def __init__(self, secret: str, base: str) -> None:
        self._key = hmac.digest(secret.encode(), b"regrow decision links", hashlib.sha256)
        self._base = base

    def url(self, decision: Decision) -> str:
        """The address to be sent to the person, alone."""
        return f"{self._base}{PATH}/{self._name(decision)}"

    def read(self, name: str) -> Decision:
        """What the last part of an address stands for.

        Raises:
            NotFound: kind "no_such_link": it is none of ours.
        """
        content, _, _ = name.partition(".")
        try:
            job, digest, person = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
            decision = Decision(int(job), str(digest), str(person))
            same = hmac.compare_digest(self._name(decision).encode(), name.encode())
        except (ValueError, TypeError):
            same = False
        if not same:
            raise NotFound(
                "cannot open this link: it is cut off or from before; ask for a new one", kind="no_such_link"
            )
        return decision

    def _name(self, decision: Decision) -> str:
        row = json.dumps([decision.job, decision.digest, decision.person], separators=(",", ":")).encode()
        signed = hmac.digest(self._key, row, hashlib.sha256)[:_SIGNATURE_BYTES]
        parts = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (row, signed))
        return ".".join(parts)


class AskedAlone:
    """Puts a job's question to each person who may answer it, in their private chat, with a link of their own.

    Args:
        links: makes the links.
        permissions: who may answer.
        outbox: carries them.
        channels: names of the channels whose buttons reach another program.
    """

    def __init__(
        self,
        *,
        links: DecisionLinks,
        permissions: Permissions,
        outbox: Outbox,
        channels: Collection[str],
    ) -> None:
        self._links = links
        self._permissions = permissions
        self._outbox = outbox
        self._channels = channels

    async def tell(self, job: types.Job, barred: str) -> None:
        """Ask about a job's open question, or show how it was answered to those who were asked.

        Args:
            job: told of in one of the channels, or in any other: then nothing is done.
            barred: id of who may not approve, having asked for it; "" when it is nobody.
        """
        question = job.approval
        if job.channel not in self._channels or question is None:
            return
        for person in self._permissions.by_role(Intent.approve):
            identity = person.alone_on(job.channel)
            if not identity or person.id == barred:
                continue
            key = f"job-{job.id}-{question.digest[:12]}-decide-{person.id}"
            if question.state == "open":
                url = self._links.url(Decision(job.id, question.digest, person.id))
                text = say(job.language, "alone.asks", job=job.id, title=job.title, summary=question.summary, url=url)
            elif await self._outbox.knows(key):
                text = say_fitting(job.language, f"alone.{question.state}", job=job.id, by=question.decided_by)
            else:
                continue
            await self._outbox.put(key, Address(job.channel, identity), Content(text))
