"""`regrow doctor`: tries what a job will need, in the daemon that will run it, and says how to mend what is missing
(F16)."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from regrow import files, secret
from regrow.agents.base import Checkable
from regrow.api.types import Finding
from regrow.care import Care
from regrow.catalogue import LANGUAGES, directory, languages, translation
from regrow.channels.base import Channel, Checked
from regrow.errors import RegrowError
from regrow.models.gateway import ModelGateway
from regrow.places import Places
from regrow.pool import in_thread
from regrow.process import run
from regrow.sandboxes.base import Proving
from regrow.services.embedded import trap_refusal
from regrow.store import Store, inbox

_LOW_BYTES = 1024**3
_CALL_S = 15.0
_CHANNEL_S = 30.0


async def findings(places: Places, cares: Mapping[str, Care], channels: Mapping[str, Channel]) -> list[Finding]:
    """Every check, in the order in which a person would mend them."""
    found = [_python(), await _git(), _disk(places.state)]
    for care in cares.values():
        found += [*await _box(care), await _repository(care), await _service(care), _commands(care)]
        found += [await _agent(care, name) for name in dict.fromkeys((care.config.repair.agent, *care.config.agent))]
        if care.config.service.trap_bind:
            found.append(await _trap(care))
        if care.models is not None:
            found.append(await _model(care.name, care.models))
    found += await in_thread(_languages)
    for channel in channels.values():
        if isinstance(channel, Checked):
            found += await _channel(channel, channel.name)
    return found


async def rule(store: Store, name: str) -> Finding:
    """Whether anybody ever spoke in a chat that has rules of its own: those of a misspelt one hold nowhere.

    Args:
        store: with the inbox.
        name: "feishu:oc_...".
    """
    channel, _, chat = name.partition(":")
    here = sa.or_(inbox.c.chat == chat, inbox.c.chat.startswith(f"{chat}/", autoescape=True))
    known = await store.row(sa.select(inbox.c.id).where(inbox.c.channel == channel, here))
    mend = "" if known else f'say something there once, or correct the name in [permissions.chats."{name}"]'
    detail = "people have spoken there" if known else "nobody has spoken there yet: a misspelt name protects nothing"
    return Finding(name=f"rules for {name}", ok=known is not None, detail=detail, mend=mend)


async def _channel(channel: Checked, name: str) -> list[Finding]:
    try:
        async with asyncio.timeout(_CHANNEL_S):
            return await channel.findings()
    except TimeoutError:
        text = f"its platform did not answer within {_CHANNEL_S:.0f} s"
        return [Finding(name=f"{name}: platform", ok=False, detail=text, mend="check the network and the proxy")]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(name="python", ok=sys.version_info >= (3, 11), detail=f"{version} at {sys.executable}")


async def _git() -> Finding:
    try:
        done = (await run(["git", "--version"], timeout_s=_CALL_S)).check("ask git for its version")
    except RegrowError as error:
        return Finding(name="git", ok=False, detail=str(error), mend="install git")
    return Finding(name="git", ok=done.output.startswith("git version"), detail=done.output.strip())


def _languages() -> list[Finding]:
    """Each further language: what of it is said in English, and what is wrong with its file."""
    found = []
    for tag in languages():
        if tag not in LANGUAGES:
            made = translation(tag)
            wrong = f"{len(made.problems)} wrong: {'; '.join(made.problems[:3])}" if made.problems else ""
            detail = f"{len(made.texts)} texts, {len(made.missing)} are said in English" + (wrong and f"; {wrong}")
            mend = f"correct {directory() / tag}.toml and start the daemon again" if wrong else ""
            found.append(Finding(name=f"language {tag}", ok=not wrong, detail=detail, mend=mend))
    return found


def _disk(state: Path) -> Finding:
    free = files.free_bytes(state)
    mend = "" if free >= _LOW_BYTES else f"free some space on the file system of {state}"
    return Finding(name="disk", ok=free >= _LOW_BYTES, detail=f"{free / 1024**3:.1f} GiB free on {state}", mend=mend)


async def _box(care: Care) -> list[Finding]:
    """The box tries to get out of itself, and every attempt is a line (F39); then what it holds only in part."""
    name = f"{care.name}: sandbox"
    if not isinstance(care.sandbox, Proving):
        text = f"{care.sandbox.name}: agents, tests and builds run without a box"
        return [Finding(name=name, ok=False, detail=text, mend='set [sandbox] driver = "bubblewrap"')]
    refused = "repairs and builds are refused until then"
    try:
        attempts = await care.sandbox.prove()
        held = await care.sandbox.held_limits()
    except RegrowError as error:
        return [Finding(name=name, ok=False, detail=str(error), mend=f"see the text; {refused}")]
    got_out = [attempt for attempt in attempts if not attempt.held]
    count = f"{len(attempts) - len(got_out)} of {len(attempts)} ways out are closed"
    found = [
        Finding(name=name, ok=not got_out, detail=f"{care.sandbox.name}: {count}", mend=refused if got_out else "")
    ]
    found += [
        Finding(
            name=f"{name}: {attempt.name}",
            ok=attempt.held,
            detail="held" if attempt.held else attempt.detail or "got out",
            mend="" if attempt.held else "update bubblewrap and the kernel",
        )
        for attempt in attempts
    ]
    limits = care.config.sandbox
    return [*found, _limits(name, held, bool(limits.memory), bool(limits.cpus))]


def _limits(name: str, held: frozenset[str], memory: bool, cpus: bool) -> Finding:
    """Which limits hold for a box as a whole. Where memory and cpus hold less, nothing is broken, and it is said."""
    weaker = []
    if "pids" not in held:
        weaker.append("the number of processes is not limited")
    if memory and "memory" not in held:
        weaker.append("memory is limited for each process and not for all together")
    if cpus and "cpu" not in held:
        weaker.append("cpus is not held")
    detail = "; ".join(weaker) if weaker else "processes, memory and cpus are held for a box as a whole"
    mend = "let Regrow make control groups: root, or a unit with Delegate=yes and DelegateSubgroup=" if weaker else ""
    return Finding(name=f"{name}: limits", ok="pids" in held, detail=detail, mend=mend)


async def _repository(care: Care) -> Finding:
    name = f"{care.name}: repository"
    branch = care.config.source.branch
    try:
        commit = await care.repository.resolve(branch)
        short = await care.repository.short(commit)
    except RegrowError as error:
        return Finding(name=name, ok=False, detail=str(error), mend="correct [source] repository and branch")
    return Finding(name=name, ok=True, detail=f"{branch} is at {short}")


async def _service(care: Care) -> Finding:
    name = f"{care.name}: service"
    try:
        now = await care.service.status()
    except (RegrowError, OSError) as error:
        return Finding(name=name, ok=False, detail=str(error), mend="look at supervisor.log in its state directory")
    if now.active is None:
        return Finding(name=name, ok=False, detail=f"no release is running ({now.state})", mend="deploy, or roll back")
    failing = [probe for probe, state in now.active.probes.items() if state["strikes"]]
    if failing:
        return Finding(name=name, ok=False, detail=f"probe {failing[0]} fails", mend="look at its log, or roll back")
    return Finding(name=name, ok=True, detail=f"{now.active.release} runs as process {now.active.pid}")


async def _trap(care: Care) -> Finding:
    name = f"{care.name}: trap_bind"
    try:
        refusal = await trap_refusal()
    except RegrowError as error:
        refusal = str(error)
    if refusal:
        mend = 'use handover = "exclusive", without trap_bind and [service.listen]'
        return Finding(name=name, ok=False, detail=f"this machine cannot do it: {refusal}", mend=mend)
    return Finding(name=name, ok=True, detail="a bind is trapped")


async def _agent(care: Care, name: str) -> Finding:
    """The agent's program is called where it will work: in the box, as this daemon's user."""
    title = f"{care.name}: agent {name}"
    try:
        agent = care.agents(name)
        said = "needs nothing"
        if isinstance(agent, Checkable):
            empty = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="regrow-agent-")
            with empty as directory:
                said = await agent.check(care.sandbox, await asyncio.to_thread(Path(directory).resolve))
    except RegrowError as error:
        return Finding(name=title, ok=False, detail=str(error), mend="see docs/how-to/choose-an-agent.md")
    return Finding(name=title, ok=True, detail=said)


async def _model(service: str, models: ModelGateway) -> Finding:
    """The upstream is asked for what costs nothing (it counts the tokens of a few words, or lists its models), so that
    a wrong key is found before a repair is asked for; no setting is needed to allow it."""
    name, key = f"{service}: model", models.settings.key
    try:
        said = await models.check()
        exposed = secret.warning(key) if key else ""
    except RegrowError as error:
        mend = "see docs/how-to/use-a-model.md; repairs by an agent that needs the model fail until then"
        return Finding(name=name, ok=False, detail=str(error), mend=mend)
    return Finding(name=name, ok=not exposed, detail=said, mend=exposed)


def _commands(care: Care) -> Finding:
    """Programs that settings name must exist where the daemon looks."""
    config = care.config
    named = [config.service.command, config.build.command, config.test.command, config.repair.command]
    missing = []
    for command in filter(None, named):
        program = command[0]
        if "{" not in program and "/" not in program and shutil.which(program) is None:
            missing.append(program)
    detail = "not found: " + ", ".join(missing) if missing else "all found"
    return Finding(name=f"{care.name}: commands", ok=not missing, detail=detail, mend="install them" if missing else "")
