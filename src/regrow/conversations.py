"""A message becomes a request, or a question back. Reports of jobs go out by the same door.

What a person said is handled once per message id; answers carry keys made from that id, so that a daemon killed between
handling and recording does not answer twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from regrow import story
from regrow.admissions import Admissions
from regrow.agent_phrases import again, chosen, goes_on
from regrow.api import types
from regrow.asking import SAY, Asked
from regrow.care import Care, for_people
from regrow.catalogue import Language, ago_text, answer_language, doubt_text, refusal_text, say
from regrow.cautions import caution
from regrow.channels.base import Address, Choice, Content, Incoming, Outgoing, Press
from regrow.clock import Clock, SystemClock
from regrow.decision_links import AskedAlone
from regrow.errors import Refused, RegrowError
from regrow.events import Events
from regrow.intents import TABLE, Args, Intent, Request
from regrow.interpreter import Guess, Interpreter
from regrow.jobs import holds
from regrow.jobs.ledger import Ledger, Record
from regrow.outbox import Outbox
from regrow.permissions import LOCAL, Permissions, Person
from regrow.requests import Requests
from regrow.setting_changes import asked as asked_for
from regrow.setting_phrases import change
from regrow.understanding import understand, yes_or_no
from regrow.views import Views

log = structlog.get_logger("conversations")

_LIVE_EVERY_S = 0.5
_QUESTION_S = 300.0
_GOES_ON_WITHIN_S = 86400.0
_NOW = re.compile(r"现在|马上|立刻|立即|立马|\b(?:now|right away|at once|immediately|asap)\b", re.IGNORECASE)
"""Said beside a command: it is not to wait."""


@dataclass(frozen=True)
class Question:
    """What a person was asked back. It lives in memory only: forgotten, it is asked again, and nothing was done."""

    request: Request
    candidates: tuple[Intent, ...]
    until: float
    agent: str = ""
    follows: Record | None = None
    whens: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def answer(self, text: str) -> Intent | None:
        """The candidate that an answer chooses: yes to the only one, or a number; None is anything else."""
        if len(self.candidates) == 1 and yes_or_no(text):
            return self.candidates[0]
        at = self._number(text)
        return None if at is None else self.candidates[at]

    def when(self, text: str) -> str:
        """The time that an answer chooses, of a question that asks for one."""
        at = self._number(text)
        return self.whens[at] if self.whens and at is not None else self.request.args.when

    def _number(self, text: str) -> int | None:
        word = text.strip().rstrip(".。、!！").lower()
        if word in (labels := [label.lower() for label in self.labels]):
            return labels.index(word)
        return int(word) - 1 if word.isdecimal() and 1 <= int(word) <= len(self.candidates) else None


def doubt_choices(request: Request, candidates: Sequence[Intent]) -> tuple[Choice, ...]:
    """The buttons under a question: each stands for the words with which it could be answered as well."""
    language, target = request.language, request.args.target
    labels = [say(language, f"intents.{intent}.short") for intent in candidates]
    if len(candidates) == 1:
        named = "" if target in {"", "latest", "previous"} else f" {target}"
        words = [Choice(labels[0] + named, f"{SAY}yes", "primary")]
    else:
        words = [Choice(label, f"{SAY}{number}") for number, label in enumerate(labels, 1)]
    return (*words, Choice(say(language, "doubt.neither"), f"{SAY}no"))


def _guessed(request: Request, guess: Guess) -> Request:
    """A guess is a doubt like any other where it would change anything."""
    if TABLE[guess.intent].effect:
        return replace(request, doubt=(guess.intent,), args=guess.args)
    return replace(request, intent=guess.intent, doubt=(), args=guess.args)


class Conversations:
    """Talks with people on all channels."""

    def __init__(
        self,
        *,
        cares: Mapping[str, Care],
        requests: Requests,
        permissions: Permissions,
        outbox: Outbox,
        ledger: Ledger,
        views: Views,
        events: Events,
        admissions: Admissions,
        forward: Callable[[Incoming, Language], Awaitable[None]] | None = None,
        language: Language = "zh",
        ask_when_busy: Collection[str] = (),
        alone: AskedAlone | None = None,
        interpreter: Interpreter | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._language = language
        self._ask_when_busy = ask_when_busy
        self._cares = cares
        self._admissions = admissions
        self._requests = requests
        self._permissions = permissions
        self._outbox = outbox
        self._ledger = ledger
        self._views = views
        self._events = events
        self._forward = forward
        self._alone = alone
        self._interpreter = interpreter
        self._clock = clock or SystemClock()
        self._told: set[int] = set()
        self._questions: dict[tuple[str, str, str], Question] = {}
        self._shown: dict[tuple[str, str, str], Outgoing] = {}

    def _who(self, message: Incoming) -> Person | None:
        if message.address.channel in {"web", "terminal"}:
            return LOCAL  # the daemon lets nobody else in there
        return self._permissions.find(message.address.channel, message.sender)

    async def handle(self, message: Incoming, pressed: str = "") -> None:
        """Understand one message and act on it, or ask back, or hand it to the service, or stay silent.

        Args:
            message: what was said.
            pressed: what the button was called that stands for it.
        """
        agent, text = chosen(message.text, self._agents) if message.addressed else ("", message.text)
        request = understand(text, addressed=message.addressed, services=self._cares)
        request = self._setting(message, request)
        request = replace(request, language=answer_language(request.language, self._language))
        asked = Asked(
            person=self._who(message),
            name=message.sender_name,
            address=message.address,
            language=request.language,
            key=f"{message.address.channel}:{message.address.message}",
            identity=message.sender,
            words=pressed or message.text,
            understood="button" if pressed else "grammar",
        )
        age = self._clock.now() - message.created_at
        if await self._answered(message, request, asked):
            return
        if age <= self._fresh(request) and await self._gone_on(message, text, request, asked, agent):
            return
        if (guess := await self._guess(message, request, asked)) is not None:
            request, asked = _guessed(request, guess), replace(asked, understood="model")
        if request.intent is not Intent.none and TABLE[request.intent].effect and age > self._fresh(request):
            # A command that comes late may have been overtaken by events (F5, F34).
            await self._ask_again(request, asked, age)
        elif await self._warned(request, asked, agent):
            return
        elif request.intent is not Intent.none and self._permissions.confirmed(request.intent, *asked.where):
            await self._ask_first(request, asked)
        elif request.intent is not Intent.none:
            await self._act(request, asked, agent)
        elif request.doubt and await self._ask_which(request, asked, agent):
            return
        elif message.addressed and message.text.strip():
            if self._forward is not None:
                await self._forward(message, asked.language)
            elif not request.doubt:
                await self._answer(asked, Content(say(asked.language, "chat.not_understood")))

    async def _warned(self, request: Request, asked: Asked, agent: str) -> bool:
        """Whether something is in the way of what somebody may ask for, and they are asked what to do about it."""
        if not self._permissions.allowed(asked.person, request.intent, *asked.where):
            return False
        if request.service not in self._cares and (request.service or len(self._cares) != 1):
            return False
        care, language = self._requests.care(request.service), asked.language
        if request.intent is not Intent.repair and _NOW.search(request.text):
            request = replace(request, args=replace(request.args, when=request.args.when or "now"))
        try:
            if await holds.freeze_of(care, request.intent) is not None:
                return False  # refused in any case
            found = await caution(
                request.intent,
                request.args,
                care,
                ledger=self._ledger,
                clock=self._clock,
                language=language,
                asks=self._ask_when_busy,
            )
        except (RegrowError, OSError) as error:
            # What cannot be asked must not keep anybody from a rollback: carrying it out says what is wrong.
            log.warning("nobody can tell what is interrupted", action="caution_failure", error=str(error))
            return False
        if found is None:
            return False
        labels = found.labels(language)
        candidates = (request.intent,) * len(found.whens)
        options = [say(language, "doubt.option", number=at, title=label) for at, label in enumerate(labels, 1)]
        question = Question(
            request, candidates, self._clock.now() + _QUESTION_S, agent, whens=found.whens, labels=tuple(labels)
        )
        choices = [Choice(label, f"{SAY}{at}", "primary" if at == 1 else "plain") for at, label in enumerate(labels, 1)]
        choices.append(Choice(say(language, "doubt.neither"), f"{SAY}no"))
        await self._question(question, Content("\n".join([found.text, *options]), tuple(choices)), asked)
        return True

    async def _question(self, question: Question, content: Content, asked: Asked) -> None:
        """Ask, and remember who was asked what."""
        who = (asked.address.channel, asked.address.chat, asked.name)
        self._questions[who] = question
        self._shown[who] = Outgoing(f"answer:{asked.key}", asked.address, content)
        await self._answer(asked, content)

    async def _guess(self, message: Incoming, request: Request, asked: Asked) -> Guess | None:
        """What the model makes of a message where the grammar has nothing, or only doubts.

        Only for those who are on the list, as often as they may ask for things; and a message that goes to the service
        when it is not understood does not wait for a guess.
        """
        undecided = request.intent is Intent.none and (request.doubt or self._forward is None)
        if self._interpreter is None or not undecided or not message.addressed or not self._requests.counts(asked):
            return None
        guess = await self._interpreter.guess(message.text)
        if guess is not None:  # what was said has left this machine, whatever came of it
            by = replace(asked, understood="model")
            await self._requests.record(by, "interpreted", guess=str(guess.intent), model=guess.model)
        return guess if guess is not None and guess.intent is not Intent.none else None

    def _setting(self, message: Incoming, request: Request) -> Request:
        """The request, or the change of a setting where a message is nothing else and names one."""
        found = change(message.text) if message.addressed and request.intent is Intent.none else None
        if found is None or not any(self._knows(care, found[0]) for care in self._cares.values()):
            return request
        return replace(request, intent=Intent.configure, doubt=(), args=Args(changes=("=".join(found),)))

    @staticmethod
    def _knows(care: Care, name: str) -> bool:
        """Whether a setting is called that, or a name can be nothing else: alarms are set to seven, too."""
        try:
            asked_for([f"{name}="], care.config)
        except Refused as error:
            return error.kind != "no_such_setting" or "." in name
        return True

    async def _ask_first(self, request: Request, asked: Asked) -> None:
        """Ask "really?", and say of settings what would change; a message that names no setting is somebody else's."""
        told = ""
        if request.intent is Intent.configure:
            try:
                preview = await self._requests.preview(request.args.changes, asked, request.service)
            except RegrowError as error:
                await self._refuse(error, asked)
                return
            text = say(asked.language, f"view.preview{'' if preview.restarts else '_live'}", diff=preview.diff)
            told = f"```diff\n{text.replace(preview.diff, preview.diff + chr(10) + '```', 1)}\n"
        await self._ask_which(replace(request, intent=Intent.none, doubt=(request.intent,)), asked, told=told)

    def _fresh(self, request: Request) -> float:
        cares = [self._cares[request.service]] if request.service in self._cares else list(self._cares.values())
        return min(care.config.chat.fresh for care in cares)

    @property
    def _agents(self) -> list[str]:
        """The names of all agents of all services."""
        return list(dict.fromkeys(name for care in self._cares.values() for name in ("revert", *care.config.agents)))

    async def _gone_on(self, message: Incoming, text: str, request: Request, asked: Asked, agent: str) -> bool:
        """Whether a message is about the repair that was last told of where it is said, and that goes on now: "not
        quite, also ...", or "let opencode fix it"."""
        same = bool(agent) and again(text)
        if not message.addressed or not (same or goes_on(text)):
            return False
        if not same and request.intent not in {Intent.none, Intent.repair}:
            return False
        earlier = await self._last_here(asked.address)
        if earlier is None or earlier.kind != "repair":
            return False
        if earlier.address == asked.address:  # handled again after a kill: this message made it
            await self.tell(earlier.id)
            return True
        if earlier.ended_at is not None and self._clock.now() - earlier.ended_at > _GOES_ON_WITHIN_S:
            return False
        if not same and earlier.ended and not asked.address.in_thread:
            # In a room people also speak of other things.
            who = (asked.address.channel, asked.address.chat, asked.name)
            until = self._clock.now() + _QUESTION_S
            self._questions[who] = Question(request, (Intent.repair,), until, agent, earlier)
            await self._answer(asked, Content(say(asked.language, "chat.go_on", job=earlier.id)))
            return True
        await self._go_on(earlier, "" if same else text, asked, agent)
        return True

    async def _go_on(self, earlier: Record, words: str, asked: Asked, agent: str) -> None:
        await self._carry(lambda: self._requests.go_on(earlier, words.strip(), asked, agent=agent), asked)

    async def _last_here(self, address: Address) -> Record | None:
        """The last job that was asked for in a chat."""
        here = (address.channel, address.chat)
        return next((r for r in await self._ledger.last(50) if (r.address.channel, r.address.chat) == here), None)

    async def _act(self, request: Request, asked: Asked, agent: str = "") -> None:
        await self._carry(
            lambda: self._requests.carry_out(request.intent, request.args, asked, request.service, agent), asked
        )

    async def _carry(self, act: Callable[[], Awaitable[types.Accepted | types.Answer]], asked: Asked) -> None:
        try:
            done = await act()
        except RegrowError as error:
            await self._refuse(error, asked)
            return
        if isinstance(done, types.Answer):
            await self._answer(asked, Content(done.text))
        elif done.joined and (await self._ledger.get(done.job)).address != asked.address:
            await self._answer(asked, Content(say(asked.language, "chat.joined", job=done.job)))
        else:
            # The receipt goes out before anything else happens to the job; a message handled again gets it again.
            await self.tell(done.job)

    async def _refuse(self, error: RegrowError, asked: Asked) -> None:
        if error.kind == "forbidden" and asked.person is None:
            await self._answer(asked, Content(await self._stranger(asked)))
        else:
            await self._answer(asked, Content(self.refusal(error, asked.language)))

    async def _ask_which(self, request: Request, asked: Asked, agent: str = "", *, told: str = "") -> bool:
        """Ask back what was meant; False when nothing it could mean is possible now."""
        waiting = {Intent.approve, Intent.reject, Intent.cancel, Intent.keep}
        something_waits = bool(await self._ledger.live())
        candidates = [intent for intent in request.doubt if intent not in waiting or something_waits]
        if not candidates:
            return False
        who = (asked.address.channel, asked.address.chat, asked.name)
        self._questions[who] = Question(request, tuple(candidates), self._clock.now() + _QUESTION_S, agent)
        if candidates == [Intent.repair] and not request.args.bug:
            example = say(asked.language, TABLE[Intent.repair].example)
            await self._answer(asked, Content(say(asked.language, "doubt.bug", example=example)))
            return True
        content = Content(told + doubt_text(asked.language, candidates), doubt_choices(request, candidates))
        self._shown[who] = Outgoing(f"answer:{asked.key}", asked.address, content)
        await self._answer(asked, content)
        return True

    async def press(self, press: Press, shown: Outgoing) -> bool:
        """Take a button of a question for the words it stands for, when the one who was asked presses it and it is the
        last question; returns whether it counted."""
        who = (press.channel, shown.address.chat, press.sender_name)
        if who not in self._questions or who not in self._shown or self._shown[who].key != shown.key:
            return False
        words = press.action.removeprefix(SAY)
        label = next((shown.label for shown in shown.content.choices if shown.action == press.action), words)
        at = Address(press.channel, shown.address.chat, press.message)
        await self.handle(Incoming(at, press.sender, press.sender_name, words, self._clock.now()), label)
        return True

    async def _answered(self, message: Incoming, request: Request, asked: Asked) -> bool:
        """Whether a message answers the question just asked; any other message makes the question void."""
        who = (message.address.channel, message.address.chat, message.sender_name)
        question = self._questions.pop(who, None)
        if shown := self._shown.pop(who, None):
            await self._outbox.put(shown.key, shown.address, Content(for_people(self._cares, shown.content.text)))
        if question is None or self._clock.now() > question.until:
            return False
        # What led to the decision is the sentence and the answer to the question about it.
        said = f"{question.request.text} → {asked.words}"
        how = asked.understood if asked.understood == "button" else "answer"
        asked = replace(asked, language=question.request.language, words=said, understood=how)
        answer = question.answer(message.text)
        if answer is not None and question.follows is not None:
            await self._go_on(question.follows, question.request.text, asked, question.agent)
            return True
        if answer is not None:
            args = replace(question.request.args, when=question.when(message.text))
            await self._act(replace(question.request, intent=answer, args=args), asked, question.agent)
            return True
        if yes_or_no(message.text) is False:
            await self._answer(asked, Content(say(asked.language, "chat.dropped")))
            return True
        return False

    async def _ask_again(self, request: Request, asked: Asked, age: float) -> None:
        text = say(
            asked.language, "chat.late", ago=ago_text(asked.language, age), said=" ".join(request.text.split())[:80]
        )
        await self._answer(asked, Content(text))

    async def _answer(self, asked: Asked, content: Content) -> None:
        shown = Content(for_people(self._cares, content.text), content.choices, content.bar)
        await self._outbox.put(f"answer:{asked.key}", asked.address, shown)

    async def _stranger(self, asked: Asked) -> str:
        """Nobody on the list: what it takes to be on it."""
        words = self._requests.words(asked)
        return await self._admissions.offer(asked.address, asked.identity, asked.name, asked.language, words)

    @staticmethod
    def refusal(error: RegrowError, language: Language) -> str:
        """A refusal in the person's language, where there are words for it."""
        return refusal_text(language, error)

    # Telling of jobs

    async def tell(self, job: int) -> Record:
        """Bring the job's messages up to date in the chat that asked for it, and return the job as it was told."""
        record = await self._ledger.get(job)
        if not record.address.chat:
            return record  # asked for by regrow itself or the command line: nobody waits in a chat
        view = await self._views.job(record)
        care = self._cares[record.service]
        content = story.live(view, record.args.get("agent", "") or care.config.repair.agent)
        await self._put(f"job-{job}-live", record.address, content, care, job)
        if self._alone is not None:
            await self._alone.tell(view, record.person if care.config.repair.four_eyes else "")
        if record.ended:
            await self._put(f"job-{job}-result", record.address, story.result(view), care, job)
        return record

    async def _put(self, key: str, address: Address, content: Content, care: Care, job: int) -> None:
        text = care.redactor.for_people(content.text)
        await self._outbox.put(key, address, Content(text, content.choices, content.bar), job)

    async def run(self) -> None:
        """Keep the live messages of all jobs up to date until cancelled; a job that ended unseen is told of too."""
        async with asyncio.TaskGroup() as group, aclosing(self._events.ticks("jobs", at_least_every_s=30.0)) as ticks:
            async for _ in ticks:
                for record in await self._ledger.last(50):
                    if record.id not in self._told and record.service in self._cares:
                        self._told.add(record.id)
                        group.create_task(self._follow(record.id), name=f"tell-{record.id}")

    async def _follow(self, job: int) -> None:
        try:
            with self._events.watch(("job", job)) as watch:
                while True:
                    # Not read again: a job that ends in between would end untold (F28).
                    record = await self.tell(job)
                    if record.ended:
                        return
                    await watch.changed(self._cares[record.service].config.chat.heartbeat)
                    # Many changes in a moment are one edit; platforms count edits.
                    await self._clock.sleep(_LIVE_EVERY_S)
        except Exception:
            self._told.discard(job)
            log.exception("a job could not be told of", action="tell_failure", job=job)
