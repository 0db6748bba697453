"""The shapes that cross the API. Times are seconds since 1970, durations seconds, sizes bytes.

Which call takes and gives which is in `operations`.
Errors are `ErrorBody` with status 400 (bad request), 401, 403 (forbidden), 404 (not_found), 409 (refused), 503.
Over the unix socket the caller is known by peer credentials; over TCP by the console's token (cookie or bearer).
A caller that says `Regrow-Principal: mcp` speaks as the program of `[mcp]`, with that role and no more.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["restart", "build", "deploy", "repair", "rollback", "configure"]
JobStatus = Literal["todo", "doing", "waiting", "undoing", "done", "failed", "undone", "cancelled"]
StepStatus = Literal["todo", "doing", "waiting", "done", "failed", "undoing", "undone"]
ENDED: frozenset[str] = frozenset({"done", "failed", "undone", "cancelled"})


class Shape(BaseModel):
    """Frozen; a field nobody knows is ignored by an older client and refused in what a client sends."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Body(BaseModel):
    """What a client sends: an unknown field is a mistake worth saying."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(Shape):
    """One step of a job. `title` is in the job's language; `progress` 0 to 1 where it can be estimated."""

    name: str
    title: str
    status: StepStatus = "todo"
    started_at: float | None = None
    seconds: float | None = None
    detail: str = ""
    progress: float | None = None
    estimate_s: tuple[float, float] | None = None


class Approval(Shape):
    """What a job asks to be approved: bound to `digest`. `reasons` for doubt are in the job's language; `barred` is the
    name of whoever may not approve, having asked for it."""

    digest: str
    summary: str
    files: list[str]
    diff: str
    state: Literal["open", "approved", "rejected", "expired"] = "open"
    decided_by: str = ""
    reasons: list[str] = []
    barred: str = ""


class Error(Shape):
    """Why a job failed: `kind` for programs, `text` for people, `step` where it happened; of what the program printed
    the end, and the lines that say why."""

    kind: str
    text: str
    step: str = ""
    log_tail: str = ""
    decisive: str = ""


class Job(Shape):
    """A job as people see it. `result` holds release, version, commit, previous_version, files, summary,
    build_seconds, build_bytes, tests_seconds, down_ms, serving (the version that serves now), culprit … as known.
    `page` is the address of its page in the console."""

    id: int
    service: str
    kind: Kind
    status: JobStatus
    title: str
    language: str = "en"
    asked_by: str
    channel: str
    chat: str
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    waiting_for: str = ""
    steps: list[Step] = []
    approval: Approval | None = None
    result: dict[str, Any] = {}
    error: Error | None = None
    story: str = ""
    page: str = ""


class Release(Shape):
    """An immutable built version; `state` says what it is to the service now."""

    id: str
    version: str
    commit: str
    subject: str
    digest: str
    bytes: int
    built_at: float
    build_seconds: float
    job: int
    state: Literal["active", "standby", "candidate", "fallback", "good", "built", "pinned"] = "built"
    pinned_reason: str = ""


class ProbeState(Shape):
    """The last answer of one probe."""

    name: str
    ok: bool
    detail: str = ""
    at: float | None = None


class Running(Shape):
    """A running copy of a release."""

    release: str
    version: str
    commit: str
    pid: int
    since: float


class FreezeStatus(Shape):
    """Why nobody may change a service, on whose word and since when."""

    reason: str
    by: str
    at: float


class ServiceStatus(Shape):
    """One service. `state`: up, down, starting, stopped. `quiet_until`: the end of the quiet hours that last now."""

    name: str
    state: Literal["up", "down", "starting", "stopped"]
    active: Running | None = None
    standby: Running | None = None
    candidate: Running | None = None
    fallback: str = ""
    baking_until: float | None = None
    pinned: list[str] = []
    probes: list[ProbeState] = []
    address: str = ""
    job: int | None = None
    queue: list[int] = []
    supervisor_pid: int | None = None
    crashes: int = 0
    freeze: FreezeStatus | None = None
    quiet_until: float | None = None
    incidents: int = 0


class ChannelStatus(Shape):
    """Whether a channel can hear and speak."""

    name: str
    healthy: bool
    detail: str = ""


class DaemonStatus(Shape):
    """The daemon itself."""

    version: str
    pid: int
    started_at: float
    ready_ms: float
    rss_bytes: int
    console: str = ""


class Status(Shape):
    """Everything at a glance."""

    daemon: DaemonStatus
    services: list[ServiceStatus]
    channels: list[ChannelStatus] = []
    outbox_waiting: int = 0


class Snapshot(Shape):
    """A copy of the service's databases. `reason`: change, schedule, asked, displaced; `releases` fit its data."""

    id: int
    at: float
    reason: str
    job: int | None = None
    bytes: int
    files: list[str]
    releases: list[str] = []


class RestorePlan(Shape):
    """What restoring a snapshot would do: the release that goes with it, and the rows written since, which are set
    aside."""

    snapshot: Snapshot
    release: str
    version: str
    serving: str = ""
    rows: str


class Notify(Body):
    """A chat in which a job is told of: its channel, the chat, and the message that asked, where there is one."""

    channel: str
    chat: str
    message: str = ""


class RequestBody(Body):
    """A typed request. `args`: deploy and build {target}, rollback {target, data: "yes", snapshot: its number},
    configure {set: lines of NAME=VALUE, or FILE:NAME=VALUE}, undo {job, data: "yes"}, snapshot {}, repair {bug,
    reproduction, agent, job: the earlier repair that it goes on with} or {incident: its number}, ignore {incident},
    restart {}, freeze {reason},
    unfreeze {}; those that change the service {when: now, idle, force}, with {job} of one that waits for its time.

    The same `key` never makes a second job (retries after a lost answer). `notify` is the chat that hears of the job.
    """

    intent: str
    args: dict[str, str] = {}
    service: str = ""
    key: str = ""
    language: str = "en"
    notify: Notify | None = None


class Preview(Shape):
    """What a change of settings would do: the files' difference, the role it takes, whether a fresh process starts."""

    diff: str
    role: str
    restarts: bool


class Setting(Shape):
    """A setting that can be changed by saying so."""

    name: str
    value: Any
    default: Any
    role: str
    title: str = ""


class Accepted(Shape):
    """The job that does what was asked; `joined` when an equal one was already under way."""

    job: int
    joined: bool = False


class Answer(Shape):
    """A text, where nothing needs a job."""

    text: str


class ApproveBody(Body):
    """Approve exactly what was shown."""

    digest: str = ""


class Button(Shape):
    """A choice under a message; `action` is sent back as it is."""

    label: str
    action: str
    style: Literal["primary", "danger", "plain"] = "plain"


class Message(Shape):
    """A chat message. `revision` grows with each edit; `bar` is a progress bar, 0 to 1."""

    id: int
    channel: str
    chat: str
    author: str
    mine: bool
    text: str
    at: float
    revision: int = 0
    job: int | None = None
    buttons: list[Button] = []
    bar: float | None = None


class ChatBody(Body):
    """Something said in a chat that Regrow itself hosts; the same `key` is one message."""

    channel: Literal["web", "terminal"]
    chat: str = "main"
    text: str
    key: str = ""


class ActionBody(Body):
    """A pressed button."""

    message: int
    action: str


class ActionResult(Shape):
    """What a press led to: `ok` false with the reason in `text`."""

    ok: bool
    text: str = ""


class Person(Shape):
    """Somebody who may ask for things."""

    id: str
    name: str
    role: str
    identities: list[str]


class Pairing(Shape):
    """Somebody who waits to be let in."""

    code: str
    channel: str
    identity: str
    name: str
    expires_at: float


class Right(Shape):
    """Who may ask for one intent. `role`: the least role, or "nobody"; `allowed`: whether the person asked about may;
    `confirm`: asked "really?" first; `ask_when_busy`: asked "now, or when idle?" where something would be interrupted;
    `held`: refused by a freeze and put off in quiet hours; `limited`: counts for the limits of one person."""

    intent: str
    role: str
    allowed: bool | None = None
    confirm: bool = False
    ask_when_busy: bool = False
    held: bool = False
    limited: bool = False


class PlaceRule(Shape):
    """What a channel or a chat asks for beyond the table."""

    place: str
    most: str
    roles: dict[str, str] = {}
    confirm: list[str] = []


class Permissions(Shape):
    """The table as it is in one chat, or without one in general; and the places with rules of their own."""

    person: str = ""
    person_role: str = ""
    channel: str = ""
    chat: str = ""
    rights: list[Right]
    places: list[PlaceRule] = []
    per_minute: int = 0
    jobs_per_hour: int = 0


class People(Shape):
    """Who is on the list, and who would like to be."""

    people: list[Person]
    waiting: list[Pairing]


class AuditRow(Shape):
    """One row of the audit log; `hash` is of its content and of the row before."""

    id: int
    at: float
    who: str
    person: str
    via: str
    what: str
    job: int | None
    detail: dict[str, Any]
    hash: str


class AuditVerdict(Shape):
    """What a walk along the audit log's chain has found; `broken` is the first row that does not fit."""

    rows: int
    broken: int | None = None
    reason: str = ""


class Backup(Shape):
    """A copy of the store."""

    path: str
    bytes: int
    at: float


IncidentState = Literal["open", "repairing", "mended", "came_back", "tried", "ignored", "quiet", "told"]


class Incident(Shape):
    """What goes wrong in the same way again and again. `state`: open; repairing, by `job`; mended; came_back after a
    repair; tried, which failed; ignored; quiet, not seen for long; told, nothing of the code to repair. `lines` are the
    newest decisive ones; `releases` where it was seen, the newest last."""

    id: int
    service: str
    kind: str
    state: IncidentState
    fingerprint: str
    cause: str
    lines: list[str] = []
    first_at: float
    last_at: float
    count: int
    last_hour: int = 0
    releases: list[str] = []
    job: int | None = None
    why: str = ""
    ignored_until: float | None = None


class Finding(Shape):
    """One line of `regrow doctor`."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


class Nothing(Body):
    """No arguments."""


class StopBody(Body):
    """`services`: stop the services too."""

    services: bool = False


class ErrorBody(Shape):
    """An error with its stable kind."""

    kind: str
    error: str
