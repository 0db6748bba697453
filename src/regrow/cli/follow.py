"""Asking for a job and following it to its end, with its question to the person on the way."""

from __future__ import annotations

import queue
import select
import sys
import threading
import uuid
from typing import TYPE_CHECKING

from regrow.cli import exits, terminal, views
from regrow.cli.options import Session
from regrow.cli.words import language, say
from regrow.errors import RegrowError

if TYPE_CHECKING:
    from regrow.api.client import Client
    from regrow.api.types import Approval, Job

TICK_S = 0.1
YES = frozenset({"y", "yes", "是", "好", "批准"})
NO = frozenset({"n", "no", "否", "不", "拒绝"})


def ask(session: Session, intent: str, args: dict[str, str], no_wait: bool = False) -> int:
    """Ask for a job and follow it.

    Args:
        session: the daemon and how to answer.
        intent: restart, build, deploy, repair, rollback.
        args: what the intent takes; empty values are left out.
        no_wait: return once the job is accepted.

    Returns:
        the job's exit code, or 0 when it is not waited for.
    """
    from regrow.api.types import Answer, RequestBody

    given = {name: value for name, value in args.items() if value}
    body = RequestBody(
        intent=intent, args=given, service=session.service, key=f"cli-{uuid.uuid4()}", language=language()
    )
    client = session.client()
    accepted = client.request(body)
    if isinstance(accepted, Answer):
        terminal.document({"text": accepted.text}) if session.as_json else terminal.line(accepted.text)
        return exits.DONE
    if no_wait:
        return _accepted(session, accepted.job, accepted.joined)
    if accepted.joined and not session.as_json:
        terminal.line(say("joined", job=accepted.job))
    return follow(session, client, accepted.job)


def _accepted(session: Session, number: int, joined: bool) -> int:
    if session.as_json:
        terminal.document({"job": number, "joined": joined})
    else:
        terminal.line(say("accepted", job=number))
    return exits.DONE


def follow(session: Session, client: Client, number: int) -> int:
    """Show job `number` until it has ended and return its exit code. Ctrl-C leaves the job alone."""
    view = views.choose(session.as_json)
    try:
        job = _watch(session, client, number, view)
    except KeyboardInterrupt:
        view.end()
        terminal.note("\n" + say("goes_on", job=number))
        return exits.INTERRUPTED
    finally:
        view.end()
    if not session.as_json:
        views.story(job)
    return exits.exit_code(job)


def _watch(session: Session, client: Client, number: int, view: views.View) -> Job:
    events: queue.Queue[Job | BaseException | None] = queue.Queue()
    # Events are read beside the question, which may be answered elsewhere while this person thinks.
    threading.Thread(target=_pump, args=(client, number, events), daemon=True).start()
    question = Question(client, number, view, told=session.as_json)
    last: Job | None = None
    while True:
        try:
            event = events.get(timeout=TICK_S)
        except queue.Empty:
            question.hear(last)
            continue
        if event is None:
            assert last is not None
            return last
        if isinstance(event, BaseException):
            raise event
        last = event
        question.see(last)


def _pump(client: Client, number: int, events: queue.Queue[Job | BaseException | None]) -> None:
    try:
        for job in client.job_events(number):
            events.put(job)
        events.put(None)
    except BaseException as error:  # told to the thread that shows it
        events.put(error)


class Question:
    """The approval a job waits for, put to the person once.

    Args:
        client: where the answer goes.
        number: the job.
        view: steps aside while the question stands.
        told: the person needs no telling (JSON: the snapshot says it all).
    """

    def __init__(self, client: Client, number: int, view: views.View, told: bool) -> None:
        self._client = client
        self._number = number
        self._view = view
        self._silent = told
        self._asked = ""
        self._open = False
        self._told_keep = False

    def see(self, job: Job) -> None:
        """Show the job, or its question, or what became of the question."""
        approval = job.approval
        if self._open and (approval is None or approval.state != "open" or approval.digest != self._asked):
            self._open = False
            if approval is not None:
                terminal.line("\n" + say("approve_other", state=approval.state, who=approval.decided_by))
        if self._open:
            return
        self._view.show(job)
        if job.waiting_for == "keep" and not self._silent and not self._told_keep:
            self._told_keep = True
            terminal.line(say("keep_how", job=self._number))
        if approval is not None and approval.state == "open" and approval.digest != self._asked:
            self._asked = approval.digest
            if not self._silent:
                self._put(approval)

    def hear(self, job: Job | None) -> None:
        """Take the person's answer if there is one."""
        if not self._open or job is None or not select.select([sys.stdin], [], [], 0)[0]:
            return
        typed = sys.stdin.readline()
        answer = typed.strip().lower()
        self._open = bool(typed) and answer not in YES | NO
        if self._open:
            self._prompt()
            return
        try:
            if not typed:  # end of input is no answer
                terminal.line("\n" + say("approve_how", job=self._number))
            elif answer in YES:
                self._client.approve(self._number, self._asked)
            else:
                self._client.reject(self._number)
        except RegrowError as error:  # someone else was faster: the next event says how it was decided
            terminal.note(str(error))

    def _put(self, approval: Approval) -> None:
        if not terminal.can_ask():
            terminal.line(say("approve_how", job=self._number))
            return
        self._view.pause()
        show_approval(approval)
        self._prompt()
        self._open = True

    @staticmethod
    def _prompt() -> None:
        sys.stdout.write(say("approve_ask"))
        sys.stdout.flush()


def show_approval(approval: Approval) -> None:
    """What is to be approved: the summary, the files, the change."""
    terminal.line(approval.summary, "bold")
    for name in approval.files:
        terminal.line(f"  {name}")
    terminal.diff(approval.diff)
    show_reasons(approval)


def show_reasons(approval: Approval) -> None:
    """Why somebody should look closely, and who may not say yes."""
    if approval.reasons:
        terminal.line(say("approve_reasons"), "bold")
    for reason in approval.reasons:
        terminal.line(f"  • {reason}")
    if approval.barred:
        terminal.line(say("approve_barred", name=approval.barred))
