"""What a message can ask for: the table of intents, and what a request is. understanding.py finds them in messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from regrow.catalogue import Language
from regrow.permissions import Role


class Intent(StrEnum):
    """What a message can ask for; `none` is a message that is not for Regrow."""

    restart = "restart"
    build = "build"
    deploy = "deploy"
    repair = "repair"
    rollback = "rollback"
    configure = "configure"
    status = "status"
    logs = "logs"
    releases = "releases"
    history = "history"
    job = "job"
    snapshots = "snapshots"
    snapshot = "snapshot"
    cancel = "cancel"
    approve = "approve"
    reject = "reject"
    undo = "undo"
    keep = "keep"
    doctor = "doctor"
    people = "people"
    admit = "admit"
    dismiss = "dismiss"
    remove = "remove"
    freeze = "freeze"
    unfreeze = "unfreeze"
    settings = "settings"
    incidents = "incidents"
    ignore = "ignore"
    notify = "notify"
    help = "help"
    none = "none"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        intent: what is asked for.
        role: the least role that may ask.
        effect: whether carrying it out changes anything at all, a job's course included.
        changes_service: whether the running service may be another one afterwards.
        confirm: whether the person is asked "really?" before a job is made.
        title: catalogue key of the one-line description.
        example: catalogue key of one sentence that asks for it.
    """

    intent: Intent
    role: Role
    effect: bool = False
    changes_service: bool = False
    confirm: bool = False

    @property
    def title(self) -> str:
        return f"intents.{self.intent}.title"

    @property
    def example(self) -> str:
        return f"intents.{self.intent}.example"


# Operators keep it running, maintainers change what runs.
TABLE: Mapping[Intent, Row] = {
    row.intent: row
    for row in (
        Row(Intent.restart, Role.operator, effect=True, changes_service=True),
        Row(Intent.build, Role.maintainer, effect=True),
        Row(Intent.deploy, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.repair, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.rollback, Role.operator, effect=True, changes_service=True),
        Row(Intent.configure, Role.maintainer, effect=True, changes_service=True, confirm=True),
        Row(Intent.settings, Role.operator),
        Row(Intent.status, Role.viewer),
        Row(Intent.logs, Role.operator),
        Row(Intent.releases, Role.viewer),
        Row(Intent.history, Role.viewer),
        Row(Intent.job, Role.viewer),
        Row(Intent.snapshots, Role.viewer),
        Row(Intent.snapshot, Role.operator, effect=True),
        Row(Intent.cancel, Role.operator, effect=True),
        Row(Intent.approve, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.reject, Role.maintainer, effect=True),
        Row(Intent.undo, Role.maintainer, effect=True, changes_service=True, confirm=True),
        Row(Intent.keep, Role.maintainer, effect=True),
        Row(Intent.doctor, Role.operator),
        Row(Intent.people, Role.maintainer),
        Row(Intent.admit, Role.owner, effect=True),
        Row(Intent.dismiss, Role.owner, effect=True),
        Row(Intent.remove, Role.owner, effect=True),
        Row(Intent.freeze, Role.maintainer, effect=True),
        Row(Intent.unfreeze, Role.maintainer, effect=True),
        Row(Intent.incidents, Role.viewer),
        Row(Intent.ignore, Role.operator, effect=True),
        Row(Intent.notify, Role.viewer, effect=True),
        Row(Intent.help, Role.viewer),
    )
}
ROLES: Mapping[str, Role] = {intent.value: row.role for intent, row in TABLE.items()}
"""The role each intent needs, for `permissions.Permissions`; settings may override single entries."""


HELD: frozenset[Intent] = frozenset(row.intent for row in TABLE.values() if row.changes_service) - {
    Intent.rollback,
    Intent.undo,
    Intent.approve,
}
"""What a freeze refuses and quiet hours put off: whatever changes the service and is no way back. An approval is no
change itself: the job that it lets go on is held."""

CHANGES: frozenset[Intent] = HELD | {Intent.rollback, Intent.undo}
"""What a person may be asked about before it is done: whatever changes the service."""


@dataclass(frozen=True)
class Args:
    """What a request says beyond its intent.

    Attributes:
        target: a branch, tag, commit or release as written; "latest" (deploy) and "previous" (rollback) unless named;
            the code of a pairing (admit, dismiss), a person (remove).
        role: the role to give (admit).
        name: what to call a person (admit).
        data: whether the data goes back together with the code (rollback, undo).
        snapshot: the number of the snapshot to restore (rollback).
        when: "idle", "now" or "force"; "" as the settings say: at once, but not in quiet hours.
        reason: why (freeze), in the person's own words.
        job: a job's number; the earlier one that is gone on with (repair).
        kind: the kind of job named with an answer ("cancel the deploy"): an intent's name.
        lines: how many log lines.
        since: how far back in the log, in seconds.
        bug: the words about a bug, exactly as written.
        reproduction: shell text that shows the bug, from a fenced block marked sh, bash or not at all.
        evidence: other fenced blocks and quoted lines.
        incident: an incident's number (repair, ignore).
        off: no longer (notify).
    """

    target: str = ""
    job: int | None = None
    kind: str = ""
    lines: int | None = None
    since: float | None = None
    bug: str = ""
    reproduction: str = ""
    evidence: tuple[str, ...] = ()
    role: str = ""
    name: str = ""
    data: bool = False
    snapshot: int | None = None
    when: str = ""
    reason: str = ""
    changes: tuple[str, ...] = ()
    incident: int | None = None
    off: bool = False

    def given(self) -> dict[str, Any]:
        """The arguments that were given, as JSON knows them."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", (), False)}


@dataclass(frozen=True)
class Request:
    """A message, understood.

    Attributes:
        intent: what to do; `Intent.none` when nothing is to be started.
        args: the arguments; with one candidate in `doubt`, those it would be started with.
        language: the language to answer in.
        doubt: what the person may have meant, to be asked back; empty with any intent but none. Candidates that answer
            a question (approve, reject, cancel, keep) are only worth asking about while something waits.
        text: the message as it came.
        service: the service named, or "" for the only one.
    """

    intent: Intent
    args: Args
    language: Language
    doubt: tuple[Intent, ...]
    text: str
    service: str = ""
