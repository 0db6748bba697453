"""What may be asked, by whom, and what is made of it: the one place for chat, buttons, command line and API (F37)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.api import types
from regrow.asking import button, from_body
from regrow.channels.base import Address
from regrow.errors import NotFound, Refused, RegrowError
from regrow.intents import TABLE, Args, Intent
from regrow.jobs.plans import plan
from regrow.permissions import Role
from regrow.store import audit
from regrow.testing.parts import PEOPLE, Parts, instance

JOBS = {Intent.restart, Intent.build, Intent.deploy, Intent.repair, Intent.rollback}
WHO = [*(person.id for person in PEOPLE), "stranger"]


async def served(parts: Parts) -> None:
    """Two good releases, the newer one serves."""
    await parts.release()
    parts.checkout.commit("Second", {"src/answer.txt": "better\n"})
    parts.serve(await parts.release())


async def job(
    parts: Parts, kind: str = "deploy", chat: str = "main", steps: Sequence[str] = ("check",), **args: str
) -> int:
    """A job that is under way."""
    record, _ = await parts.ledger.open(
        service="tiny",
        kind=kind,  # type: ignore[arg-type]
        plan=steps,
        args=args,
        key="",
        language="en",
        asked_by="owner",
        person="owner",
        address=Address("memory", chat, "m"),
    )
    return record.id


async def question(parts: Parts, number: int, digest: str = "d1") -> None:
    await parts.approvals.ask(number, digest, "a fix", ["src/a.py"], "+fixed", within_s=60)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("intent", list(TABLE))
async def test_a_person_may_do_what_the_table_says(parts: Parts, who: str, intent: Intent) -> None:
    await served(parts)
    number = await job(parts)
    await question(parts, number)
    allowed = who != "stranger" and Role[who] >= TABLE[intent].role
    try:
        await parts.requests.carry_out(intent, Args(bug="it is wrong", target=""), parts.asked(who))
        refused = ""
    except RegrowError as error:
        refused = error.kind
    assert (refused == "forbidden") is not allowed
    if not allowed:
        assert parts.runner.submitted == []
        assert (await parts.ledger.get(number)).cancelled_by == ""
        question_now = await parts.approvals.of(number)
        assert question_now is not None
        assert question_now.state == "open"
        (row,) = await parts.store.rows(sa.select(audit).where(audit.c.what == "refused"))
        assert (row["who"], row["detail"]) == (who, {"intent": intent.value, "chat": "main"})


@pytest.mark.parametrize("intent", sorted(JOBS))
async def test_a_job_is_written_down_with_who_asked_and_where(parts: Parts, intent: Intent) -> None:
    await served(parts)
    asked = parts.asked("owner", chat="team", language="zh", key="m7")
    done = await parts.requests.carry_out(intent, Args(bug="it is wrong"), asked)
    assert isinstance(done, types.Accepted)
    record = await parts.ledger.get(done.job)
    assert (record.kind, record.service, record.language) == (intent.value, "tiny", "zh")
    assert (record.asked_by, record.person, record.address) == ("owner", "owner", Address("memory", "team", "m7"))
    assert record.plan == plan(intent.value, data=False)  # type: ignore[arg-type]
    assert parts.runner.submitted == [done.job]
    (row,) = await parts.store.rows(sa.select(audit).where(audit.c.what == "asked"))
    assert (row["who"], row["via"], row["job"]) == ("owner", "memory", done.job)
    assert "it is wrong" not in str(row["detail"]), "what people say of a bug stays in the job"


async def test_the_same_delivery_is_the_same_job_also_after_it_ended(parts: Parts) -> None:
    """F5: however often a platform repeats itself."""
    await served(parts)
    first = await parts.requests.carry_out(Intent.restart, Args(), parts.asked(key="m1"))
    await parts.ledger.change(first.job, status="done")  # type: ignore[union-attr]
    again = await parts.requests.carry_out(Intent.restart, Args(), parts.asked(key="m1"))
    assert again == types.Accepted(job=first.job, joined=True)  # type: ignore[union-attr]
    assert len(await parts.ledger.last()) == 1


async def test_an_equal_request_joins_while_the_job_is_under_way(parts: Parts) -> None:
    await served(parts)
    first = await parts.requests.carry_out(Intent.deploy, Args(target="main"), parts.asked(key="m1"))
    assert isinstance(first, types.Accepted)
    second = await parts.requests.carry_out(Intent.deploy, Args(target="main"), parts.asked("maintainer", key="m2"))
    assert second == types.Accepted(job=first.job, joined=True)
    parts.checkout.commit("Newer", {"src/answer.txt": "best\n"})
    third = await parts.requests.carry_out(Intent.deploy, Args(target="main"), parts.asked(key="m3"))
    assert third == types.Accepted(job=first.job + 1), "another commit is another job"


# What each kind of job is about


async def args_of(parts: Parts, intent: Intent, **args: Any) -> dict[str, str]:
    done = await parts.requests.carry_out(intent, Args(**args), parts.asked())
    assert isinstance(done, types.Accepted)
    return (await parts.ledger.get(done.job)).args


async def refusal(parts: Parts, intent: Intent, **args: Any) -> str:
    with pytest.raises((Refused, NotFound)) as raised:
        await parts.requests.carry_out(intent, Args(**args), parts.asked())
    assert str(raised.value).startswith("cannot ")
    assert parts.runner.submitted == []
    return raised.value.kind


async def test_a_deploy_is_of_the_commit_at_the_moment_of_the_request(parts: Parts) -> None:
    await served(parts)
    made = parts.checkout.git("rev-parse", "HEAD")
    assert await args_of(parts, Intent.deploy) == {"commit": made}
    parts.checkout.git("branch", "other", "HEAD~1")
    other = parts.checkout.git("rev-parse", "other")
    assert await args_of(parts, Intent.deploy, target="other") == {"commit": other, "named": "yes"}
    assert await refusal_after(parts, Intent.build, target="nowhere") == "no_such_commit"


async def refusal_after(parts: Parts, intent: Intent, **args: Any) -> str:
    parts.runner.submitted.clear()
    return await refusal(parts, intent, **args)


async def test_a_pinned_commit_is_deployed_only_by_name(parts: Parts) -> None:
    """F9."""
    await served(parts)
    made = parts.checkout.git("rev-parse", "HEAD")
    parts.service.shows(pins=({"id": "r2", "digest": "d", "commit": made, "reason": "died", "cause": "", "at": 1.0},))
    assert await refusal(parts, Intent.deploy) == "pinned"
    assert await args_of(parts, Intent.deploy, target=made[:8]) == {"commit": made, "named": "yes"}


async def test_a_restart_is_of_what_serves_and_else_of_the_last_good_one(parts: Parts) -> None:
    assert await refusal(parts, Intent.restart) == "nothing_runs"
    good = await parts.release()
    parts.checkout.commit("Bad", {"src/answer.txt": "bad\n"})
    await parts.release(good=False)
    assert await args_of(parts, Intent.restart) == {"release": good.id}


async def test_a_repair_needs_words_a_service_and_a_known_agent(parts: Parts) -> None:
    assert await refusal(parts, Intent.repair, bug="wrong") == "nothing_runs"
    await served(parts)
    assert await refusal(parts, Intent.repair, bug=" \n") == "no_bug"
    with pytest.raises(Exception, match="cannot repair with genius: it is none of revert, claude"):
        await parts.requests.carry_out(Intent.repair, Args(bug="wrong"), parts.asked(), agent="genius")
    assert await parts.ledger.last() == []
    args = await args_of(parts, Intent.repair, bug="wrong", reproduction="false", evidence=("Traceback",))
    assert (args["bug"], args["reproduction"], args["evidence"]) == ("wrong", "false", "Traceback")
    assert args["commit"] == parts.checkout.git("rev-parse", "HEAD")


async def test_a_repair_without_a_reproduction_takes_the_failing_probe(parts: Parts) -> None:
    release = await parts.release()
    parts.serve(release, active=instance(release, 1, 1.0, health=3))
    assert "/health" in (await args_of(parts, Intent.repair, bug="wrong"))["reproduction"]


async def test_a_repair_goes_on_with_an_earlier_one_by_its_number(parts: Parts) -> None:
    """The command line and the API: by the same rules as in a chat."""
    await served(parts)
    first = await parts.requests.carry_out(Intent.repair, Args(bug="wrong", reproduction="false"), parts.asked())
    assert isinstance(first, types.Accepted)
    args = Args(bug="also the title", job=first.job)
    with pytest.raises(Refused, match=f"the agent of job {first.job} is still at work"):
        await parts.requests.carry_out(Intent.repair, args, parts.asked())
    await parts.ledger.change(first.job, status="done", result={"agent": "revert"}, ended_at=1.0)
    again = await parts.requests.carry_out(Intent.repair, args, parts.asked(key="k"))
    assert isinstance(again, types.Accepted)
    record = await parts.ledger.get(again.job)
    assert record.args | {"bug": "wrong\n\nalso the title", "follows": str(first.job), "reproduction": "false"} == (
        record.args
    )
    same = await parts.requests.carry_out(Intent.repair, args, parts.asked(key="k"))
    assert same == types.Accepted(job=again.job, joined=True), "asked for once, whatever was lost on the way"
    await parts.ledger.change(again.job, status="failed", ended_at=1.0)
    shown = await parts.requests.carry_out(Intent.repair, replace(args, bug="", reproduction="exit 1"), parts.asked())
    assert isinstance(shown, types.Accepted)
    record = await parts.ledger.get(shown.job)
    assert (record.args["bug"], record.args["reproduction"]) == ("wrong", "exit 1")


async def test_what_is_no_repair_is_not_gone_on_with(parts: Parts) -> None:
    await served(parts)
    number = await job(parts)
    assert await refusal_after(parts, Intent.repair, bug="more", job=number) == "not_a_repair"
    assert await refusal_after(parts, Intent.repair, bug="more", job=number + 1) == "no_such_job"
    with pytest.raises(Refused, match="needs the role"):
        await parts.requests.carry_out(Intent.repair, Args(job=number), parts.asked("viewer"))


async def test_a_rollback_goes_to_the_next_older_good_release(parts: Parts) -> None:
    assert await refusal(parts, Intent.rollback) == "no_earlier"
    first = await parts.release()
    parts.serve(first)
    assert await refusal(parts, Intent.rollback) == "no_earlier"
    parts.checkout.commit("Bad", {"src/answer.txt": "2\n"})
    await parts.release(good=False)
    parts.checkout.commit("Third", {"src/answer.txt": "3\n"})
    third = await parts.release()
    parts.checkout.commit("Fourth", {"src/answer.txt": "4\n"})
    fourth = await parts.release()
    parts.serve(fourth)
    assert await args_of(parts, Intent.rollback) == {"release": third.id}
    parts.serve(third)
    assert await args_of(parts, Intent.rollback) == {"release": first.id}, "an unproven release is no way back"
    pin = {"id": first.id, "digest": first.digest, "commit": first.commit, "reason": "", "cause": "", "at": 1.0}
    parts.service.shows(pins=(pin,))
    assert await refusal_after(parts, Intent.rollback) == "no_earlier"
    assert await args_of(parts, Intent.rollback, target=fourth.version) == {"release": fourth.id, "named": "yes"}
    assert await refusal_after(parts, Intent.rollback, target=third.id) == "already_serving"
    assert await refusal_after(parts, Intent.rollback, target="r99") == "no_such_release"


# Which job is meant


async def test_an_answer_goes_to_the_question_of_its_own_chat(parts: Parts) -> None:
    """F35: never to another call."""
    assert await refusal(parts, Intent.approve) == "no_approval"
    here, there = await job(parts, chat="here"), await job(parts, "repair", chat="there")
    for number in (here, there):
        await question(parts, number)
    with pytest.raises(Refused) as raised:
        await parts.requests.carry_out(Intent.approve, Args(), parts.asked(chat="elsewhere"))
    assert raised.value.kind == "which_job"
    assert f"#{here}, #{there}" in str(raised.value)
    answer = await parts.requests.carry_out(Intent.approve, Args(), parts.asked(chat="there"))
    assert answer == types.Answer(text=f"👍 Job #{there} is approved")
    await parts.requests.carry_out(Intent.reject, Args(job=here), parts.asked("maintainer", chat="elsewhere"))
    states = [((await parts.approvals.of(n)).state, (await parts.approvals.of(n)).decided_by) for n in (here, there)]  # type: ignore[union-attr]
    assert states == [("rejected", "maintainer"), ("approved", "owner")]


async def test_chats_of_one_name_on_two_channels_are_two_chats(parts: Parts) -> None:
    mine, other = await job(parts, chat="main"), await job(parts, "repair", chat="main")
    await parts.ledger.change(other, channel="terminal")
    for number in (mine, other):
        await question(parts, number)
    answer = await parts.requests.carry_out(Intent.approve, Args(), parts.asked(chat="main"))
    assert answer == types.Answer(text=f"👍 Job #{mine} is approved")


async def test_a_press_counts_for_what_was_seen(parts: Parts) -> None:
    number = await job(parts)
    await question(parts, number, "new")
    for intent in (Intent.approve, Intent.reject):
        with pytest.raises(Refused) as raised:
            await parts.requests.carry_out(intent, Args(job=number, target="old"), parts.asked())
        assert raised.value.kind == "outdated"
    await parts.requests.carry_out(Intent.approve, Args(job=number, target="new"), parts.asked())
    with pytest.raises(Refused) as raised:
        await parts.requests.carry_out(Intent.reject, Args(job=number), parts.asked())
    assert raised.value.kind == "decided"


async def test_cancel_means_the_one_job_that_can_be_meant(parts: Parts) -> None:
    assert await refusal(parts, Intent.cancel) == "nothing_to_cancel"
    deploy, repair = await job(parts, chat="here"), await job(parts, "repair", chat="there")
    assert await refusal(parts, Intent.cancel, job=99) == "no_such_job"
    with pytest.raises(Refused) as raised:
        await parts.requests.carry_out(Intent.cancel, Args(), parts.asked(chat="elsewhere"))
    assert raised.value.kind == "which_job"
    await parts.requests.carry_out(Intent.cancel, Args(kind="repair"), parts.asked(chat="elsewhere"))
    assert (await parts.ledger.get(repair)).cancelled_by == "owner"
    await parts.requests.carry_out(Intent.cancel, Args(), parts.asked(chat="here"))
    assert (await parts.ledger.get(deploy)).cancelled_by == "owner"
    await parts.ledger.change(deploy, status="cancelled")
    assert await refusal(parts, Intent.cancel, job=deploy) == "ended"


# What needs no job


async def test_questions_are_answered_at_once(parts: Parts) -> None:
    await served(parts)
    for intent in (Intent.status, Intent.releases, Intent.history, Intent.logs, Intent.doctor, Intent.help):
        answer = await parts.requests.carry_out(intent, Args(), parts.asked())
        assert isinstance(answer, types.Answer)
    assert await refusal(parts, Intent.job) == "no_such_job"
    number = await job(parts)
    answer = await parts.requests.carry_out(Intent.job, Args(), parts.asked())
    assert isinstance(answer, types.Answer)
    assert answer.text == (await parts.requests.carry_out(Intent.job, Args(job=number), parts.asked())).text  # type: ignore[union-attr]
    assert parts.runner.submitted == []


async def test_a_service_is_named_only_where_there_are_many(parts: Parts) -> None:
    assert parts.requests.care("").name == parts.requests.care("tiny").name == "tiny"
    with pytest.raises(NotFound, match="name one of: tiny"):
        parts.requests.care("other")


# Bodies and buttons


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"intent": "explode"}, "it is not an intent"),
        ({"intent": "deploy", "args": {"branch": "main"}}, "cannot use the argument branch"),
        ({"intent": "cancel", "args": {"job": "seven"}}, "cannot use job=seven"),
        ({"intent": "logs", "args": {"lines": "-1"}}, "cannot use lines=-1"),
        ({"intent": "cancel", "args": {"job": "1234567890"}}, "it is a number"),
    ],
)
def test_a_body_that_asks_for_nothing_known(body: dict[str, Any], text: str) -> None:
    with pytest.raises(Refused, match=text) as raised:
        from_body(types.RequestBody(**body))
    assert raised.value.kind == "bad_request"


def test_a_body_becomes_an_intent() -> None:
    body = types.RequestBody(intent="logs", args={"lines": "5", "target": "x", "job": ""})
    assert from_body(body) == (Intent.logs, Args(lines=5, target="x"))


@pytest.mark.parametrize(
    "action", ["", "approve", "approve:", "approve:x:d", "deploy:1", "say:restart", "approve:1²:d", "cancel:1234567890"]
)
def test_a_button_that_is_none_of_ours(action: str) -> None:
    with pytest.raises(Refused) as raised:
        button(action)
    assert raised.value.kind == "bad_request"


def test_a_button_becomes_an_intent() -> None:
    assert button("approve:12:sha256:ab") == (Intent.approve, Args(job=12, target="sha256:ab"))
    assert button("cancel:3") == (Intent.cancel, Args(job=3))


async def test_f37_whoever_asked_may_not_approve_where_two_people_must(parts: Parts) -> None:
    """Neither with words nor with a button; rejecting is no approval."""
    number = await job(parts, "repair")
    await question(parts, number)
    _set(parts, repair={"four_eyes": True})
    for args in (Args(), Args(job=number), Args(job=number, target="d1")):
        with pytest.raises(Refused) as raised:
            await parts.requests.carry_out(Intent.approve, args, parts.asked("owner"))
        assert raised.value.kind == "four_eyes"
    assert (await parts.views.job(await parts.ledger.get(number))).approval.barred == "owner"  # type: ignore[union-attr]
    await parts.requests.carry_out(Intent.approve, Args(job=number), parts.asked("maintainer"))
    assert (await parts.approvals.of(number)).person == "maintainer"  # type: ignore[union-attr]


# Keep and undo


def _set(parts: Parts, **sections: dict[str, Any]) -> None:
    """Change settings of the service, as a restarted daemon would have them."""
    config = parts.care.config
    changed = {name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    object.__setattr__(parts.care, "config", config.model_copy(update=changed))


async def ended(parts: Parts, number: int, status: str = "done", **facts: Any) -> None:
    await parts.ledger.change(number, status=status, result=facts)


@pytest.mark.parametrize("status", ["waiting", "doing"])
async def test_keep_needs_a_version_that_waits_for_it(parts: Parts, status: str) -> None:
    """Between its start and its wait, a daemon that took the step up again is asking too."""
    await served(parts)
    number = await job(parts, steps=("bake", "confirm"))
    await parts.ledger.step(number, 0, status="doing")
    with pytest.raises(Refused) as error:
        await parts.requests.carry_out(Intent.keep, Args(), parts.asked())
    assert error.value.kind == "nothing_to_keep"
    waiting_for = "keep" if status == "waiting" else ""
    await parts.ledger.step(number, 1, status=status, waiting_for=waiting_for)
    await parts.requests.carry_out(Intent.keep, Args(job=number), parts.asked())
    assert (await parts.ledger.get(number)).kept_by == "owner"
    with pytest.raises(Refused):
        await parts.requests.carry_out(Intent.keep, Args(), parts.asked("maintainer"))
    assert (await parts.ledger.get(number)).kept_by == "owner", "the first word counts"


async def test_undo_goes_back_to_what_served_before_the_job(parts: Parts) -> None:
    await served(parts)
    number = await job(parts)
    await ended(parts, number, release="r2", previous_release="r1")
    accepted = await parts.requests.carry_out(Intent.undo, Args(), parts.asked())
    assert isinstance(accepted, types.Accepted)
    made = await parts.ledger.get(accepted.job)
    assert (made.kind, made.args["release"], made.args["named"]) == ("rollback", "r1", "yes")


async def test_undo_of_a_job_under_way_calls_it_off(parts: Parts) -> None:
    await served(parts)
    number = await job(parts)
    await parts.requests.carry_out(Intent.undo, Args(), parts.asked())
    assert (await parts.ledger.get(number)).cancelled_by == "owner"


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"release": "r1", "previous_release": "r0"}, "overtaken_undo"),
        ({"release": "r2", "previous_release": "r2"}, "nothing_to_undo"),
        ({"release": "r2"}, "nothing_to_undo"),
    ],
)
async def test_undo_refuses_what_it_cannot_do_truly(parts: Parts, facts: dict[str, str], kind: str) -> None:
    await served(parts)
    await ended(parts, await job(parts), **facts)
    with pytest.raises(Refused) as error:
        await parts.requests.carry_out(Intent.undo, Args(), parts.asked())
    assert error.value.kind == kind
    assert parts.runner.submitted == []


async def test_a_job_that_failed_is_not_what_undo_means(parts: Parts) -> None:
    await served(parts)
    await ended(parts, await job(parts), "failed", release="r2", previous_release="r1")
    with pytest.raises(Refused) as error:
        await parts.requests.carry_out(Intent.undo, Args(), parts.asked())
    assert error.value.kind == "nothing_to_undo"


# When


async def test_force_calls_off_what_is_in_its_way(parts: Parts) -> None:
    await served(parts)
    changing, _ = await parts.ledger.open(
        service="tiny",
        kind="deploy",
        plan=["turn"],
        args={},
        key="",
        language="en",
        asked_by="viewer",
        person="",
        address=Address("memory", "other", "m"),
    )
    building = await job(parts, "build")
    accepted = await parts.requests.carry_out(Intent.restart, Args(when="force"), parts.asked("operator"))
    assert isinstance(accepted, types.Accepted)
    assert (await parts.ledger.get(changing.id)).cancelled_by == "operator"
    assert (await parts.ledger.get(building)).cancelled_by == "", "it changes nothing that runs"
    assert (await parts.ledger.get(accepted.job)).cancelled_by == ""


async def test_idle_is_kept_with_the_job_and_now_is_as_good_as_nothing(parts: Parts) -> None:
    await served(parts)
    first = await parts.requests.carry_out(Intent.restart, Args(when="now"), parts.asked())
    joined = await parts.requests.carry_out(Intent.restart, Args(), parts.asked("operator"))
    assert isinstance(first, types.Accepted)
    assert joined == types.Accepted(job=first.job, joined=True)
    idle = await parts.requests.carry_out(Intent.restart, Args(when="idle"), parts.asked())
    assert isinstance(idle, types.Accepted)
    assert (await parts.ledger.get(idle.job)).args["when"] == "idle"
    with pytest.raises(Refused) as error:
        await parts.requests.carry_out(Intent.restart, Args(when="tomorrow"), parts.asked())
    assert error.value.kind == "bad_request"
