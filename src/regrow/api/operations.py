"""Every call of the API, as data: the routes are made of it, and so is the OpenAPI document that describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from regrow.api import types
from regrow.intents import Intent

MOST = 1000
"""The longest list that one call gives."""
MOST_LINES = 10_000

_FUTURE = 2**40
"""Further than any time in seconds since 1970, and any number of a message."""
_ROW = 2**31 - 1


@dataclass(frozen=True)
class Parameter:
    """Something in the query of a call; none has to be given.

    Attributes:
        name: as it is written.
        about: what it does, a part of a sentence.
        most: the largest number that counts, a larger one counts as this; 0: it is a text.
        default: the number where none is given; None: then nothing is looked for by it.
    """

    name: str
    about: str
    most: int = 0
    default: int | None = None


@dataclass(frozen=True)
class Operation:
    """One call.

    Attributes:
        name: of the call, and of its endpoint.
        method: GET reads and POST changes.
        path: with `{number}` where a number stands.
        about: what it does, a sentence.
        answer: the shape of what comes back: one, a list of one, one of several; None for text or nothing.
        body: the shape of what is sent.
        query: what its query may hold.
        programs: the intent that a program's role must reach; None: it is not for programs.
        gives: what comes back: JSON of `answer`, text, server-sent events whose data are `answer`, or nothing.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    about: str
    answer: Any = None
    body: type[BaseModel] | None = None
    query: Sequence[Parameter] = ()
    programs: Intent | None = None
    gives: Literal["json", "text", "events", "nothing"] = "json"


SERVICE = Parameter("service", "the service's name; not needed where there is one")
_CHAT = (Parameter("channel", "web where none is named"), Parameter("chat", "main where none is named"))
LIMIT = Parameter("limit", "how many at the most", MOST, 50)
LINES = Parameter("lines", "how many of the newest lines", MOST_LINES, 100)
AFTER = Parameter("after", "only what has a greater number", _FUTURE, 0)
SINCE = Parameter("since", "only what was later, seconds since 1970", _FUTURE, 0)
ROWS = Parameter("limit", "how many at the most", MOST, 100)
OF_JOB = Parameter("job", "only what belongs to this job", _ROW)
BEFORE = Parameter("before", "only what has a smaller number", _ROW)
AFTER_ROW = Parameter("after", "the first rows above this number, instead of the newest ones", _ROW)

OPERATIONS = (
    Operation("status", "GET", "/v1/status", "The whole state.", types.Status, programs=Intent.status),
    Operation(
        "status_events",
        "GET",
        "/v1/status/events",
        "Events `status` with the whole state, at once and after each change.",
        types.Status,
        programs=Intent.status,
        gives="events",
    ),
    Operation(
        "requests",
        "POST",
        "/v1/requests",
        "Ask for something, by its intent: a job comes of it, or an answer.",
        types.Accepted | types.Answer,
        types.RequestBody,
        programs=Intent.status,
    ),
    Operation(
        "jobs",
        "GET",
        "/v1/jobs",
        "Jobs, the newest first.",
        list[types.Job],
        None,
        (LIMIT, BEFORE, Parameter("kind", "only of this kind"), Parameter("status", "only with this status")),
        Intent.job,
    ),
    Operation("job", "GET", "/v1/jobs/{number}", "One job.", types.Job, programs=Intent.job),
    Operation(
        "job_events",
        "GET",
        "/v1/jobs/{number}/events",
        "Events `job` with the job as it is, at once and after each change, until it has ended.",
        types.Job,
        programs=Intent.job,
        gives="events",
    ),
    Operation(
        "job_log",
        "GET",
        "/v1/jobs/{number}/log",
        "The job's log, without secrets.",
        programs=Intent.logs,
        gives="text",
    ),
    Operation(
        "cancel",
        "POST",
        "/v1/jobs/{number}/cancel",
        "Call a job off; what it has done is undone.",
        types.Job,
        programs=Intent.cancel,
    ),
    Operation(
        "approve",
        "POST",
        "/v1/jobs/{number}/approve",
        "Approve the change that has this digest.",
        types.Job,
        types.ApproveBody,
    ),
    Operation("reject", "POST", "/v1/jobs/{number}/reject", "Reject the change that waits.", types.Job),
    Operation(
        "releases",
        "GET",
        "/v1/releases",
        "Releases, the newest first.",
        list[types.Release],
        None,
        (SERVICE,),
        Intent.releases,
    ),
    Operation(
        "snapshots",
        "GET",
        "/v1/snapshots",
        "Snapshots of the data, the newest first.",
        list[types.Snapshot],
        None,
        (SERVICE,),
    ),
    Operation(
        "restore_plan",
        "GET",
        "/v1/snapshots/{number}",
        "What restoring a snapshot would do.",
        types.RestorePlan,
        None,
        (SERVICE,),
    ),
    Operation(
        "logs",
        "GET",
        "/v1/logs",
        "What the service printed, without secrets.",
        None,
        None,
        (
            SERVICE,
            LINES,
            Parameter("release", "of one release; of the one that serves where none is named"),
            Parameter("follow", "1: what comes next, too, until the caller hangs up"),
        ),
        Intent.logs,
        "text",
    ),
    Operation(
        "incidents",
        "GET",
        "/v1/incidents",
        "Incidents, the one seen last first.",
        list[types.Incident],
        None,
        (SERVICE, LIMIT),
    ),
    Operation(
        "say",
        "POST",
        "/v1/chat/messages",
        "Say something in a chat; the message comes back as stored.",
        types.Message,
        types.ChatBody,
    ),
    Operation(
        "messages",
        "GET",
        "/v1/chat/messages",
        "Messages of a chat, the oldest first.",
        list[types.Message],
        None,
        (*_CHAT, AFTER),
    ),
    Operation(
        "chat_events",
        "GET",
        "/v1/chat/events",
        "Events `message` with each message that is new or edited.",
        types.Message,
        None,
        _CHAT,
        gives="events",
    ),
    Operation(
        "actions", "POST", "/v1/chat/actions", "Press a button of a message.", types.ActionResult, types.ActionBody
    ),
    Operation(
        "settings",
        "GET",
        "/v1/settings",
        "The settings that may be changed by saying so.",
        list[types.Setting],
        None,
        (SERVICE,),
    ),
    Operation(
        "preview",
        "POST",
        "/v1/settings/preview",
        "What a change of settings would do; nothing is changed.",
        types.Preview,
        types.RequestBody,
    ),
    Operation("doctor", "GET", "/v1/doctor", "Whether all that a job needs is there.", list[types.Finding]),
    Operation("people", "GET", "/v1/people", "Who may ask, and who asks to be let in.", types.People),
    Operation(
        "permissions",
        "GET",
        "/v1/permissions",
        "The table of rights, in a chat and for a person where they are named.",
        types.Permissions,
        None,
        (Parameter("person", "a person's id"), Parameter("channel", "a channel"), Parameter("chat", "a chat of it")),
    ),
    Operation(
        "audit",
        "GET",
        "/v1/audit",
        "Rows of the audit log, the newest, the oldest of them first.",
        list[types.AuditRow],
        None,
        (SINCE, Parameter("who", "only this person's, by id"), OF_JOB, AFTER_ROW, ROWS),
    ),
    Operation(
        "audit_verify", "GET", "/v1/audit/verify", "Whether anything was taken out of the log.", types.AuditVerdict
    ),
    Operation(
        "backups", "GET", "/v1/backups", "Backups of Regrow's own records, the newest first.", list[types.Backup]
    ),
    Operation("back_up", "POST", "/v1/backups", "Take a backup now.", types.Backup, types.Nothing),
    Operation("stop", "POST", "/v1/daemon/stop", "End the daemon.", None, types.StopBody, gives="nothing"),
    Operation(
        "upgrade",
        "POST",
        "/v1/daemon/upgrade",
        "Become the version of Regrow that is in use, if it is fit.",
        None,
        types.Nothing,
        gives="nothing",
    ),
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "The state and the totals of jobs, for Prometheus.",
        programs=Intent.status,
        gives="text",
    ),
    Operation("openapi", "GET", "/v1/openapi.json", "This description.", dict[str, Any]),
)
