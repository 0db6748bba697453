"""A job's way to the model: reads what the agent asks, lets through what may go, counts what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from regrow.config import ModelSection
from regrow.errors import Refused, RegrowError
from regrow.models.account import Account, Entry, over_budget
from regrow.models.answers import NEVER_AGAIN, Answer
from regrow.models.base import Ask, Meter
from regrow.models.leaks import Leaks, refusal
from regrow.models.stream import Events, TooLarge, data
from regrow.models.upstream import Upstream, object_of
from regrow.models.usage import Tokens, Usage
from regrow.pool import in_thread

log = structlog.get_logger("model")

_LARGEST_REQUEST = 32 * 1024 * 1024  # what Anthropic takes
_BODY_S = 60.0
_HEADER = re.compile(r"[\w.,; -]{1,2000}")
_TAKEN_OVER = ("anthropic-version", "anthropic-beta")
_GIVEN_BACK = ("retry-after", "request-id", "x-request-id")
_STATUS = {"model_path": 403, "model_pace": 429, "model_limited": 429, "model_busy": 529, "model_closed": 503}
_STATUS |= {"model_unreachable": 503, "model_slow": 504, "model_cut": 502}
"""What the agent is answered by kind; for all others 400, which it shows and does not try again."""


@dataclass(frozen=True)
class Exchange:
    """One request for an answer, on its way.

    Attributes:
        ask: what is asked.
        content: its body as bytes.
        answer: where the agent hears it.
        entry, meter: its place in the account; None where it costs nothing.
    """

    ask: Ask
    content: bytes
    answer: Answer
    entry: Entry | None = None
    meter: Meter | None = None


class Door:
    """A job's way to the model.

    Attributes:
        socket: the unix socket; it is bound into the box.
        kind: what is spoken there: "anthropic" or "openai".
        models: the models that may be asked.
        trouble: why the last request was not answered to its end; None when it was. Its kinds:
            model_budget, model_secret, model_feature, model_model, model_path, model_request   the gateway said no
            model_pace                                   too many requests a minute, also for waiting
            model_key, model_credit                      the upstream refuses the key, or asks for money
            model_rejected                               the upstream refuses the request
            model_limited, model_busy                    the upstream says later, or failed
            model_unreachable, model_slow, model_cut     the upstream was not there, or not to the end
    """

    def __init__(self, path: Path, settings: ModelSection, upstream: Upstream, account: Account, leaks: Leaks) -> None:
        self.socket = path
        self.kind = settings.kind
        self.models = settings.models
        self.trouble: RegrowError | None = None
        self._settings = settings
        self._upstream = upstream
        self._dialect = upstream.dialect
        self._account = account
        self._leaks = leaks
        self._closing = asyncio.Event()

    @property
    def model(self) -> str:
        """The model to use."""
        return self.models[0]

    @property
    def usage(self) -> Usage:
        """What the job has used up to now, by this door and by those before it."""
        return self._account.usage

    def close(self) -> None:
        """End what is being answered."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of the agent."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        answer = Answer(send, self._dialect)
        if request.method == "HEAD":  # agents ask so whether there is anybody
            await answer.empty()
            return
        with contextlib.suppress(ClientDisconnect):
            try:
                ask, content = await self._read(request)
                given = self._taken_over(request.headers)
                await self._until_gone(receive, self._answer(Exchange(ask, content, answer), given))
            except RegrowError as error:
                await self._refuse(error, answer)

    # What the agent asks

    async def _read(self, request: Request) -> tuple[Ask, bytes]:
        """The request as it may be sent, and its bytes.

        Raises:
            Refused: it may not; kinds as in `trouble`.
        """
        path = request.url.path
        if request.method != "POST" or path not in self._dialect.paths:
            raise Refused(
                f"cannot let the agent call {request.method} {path[:100]}: here are only "
                f"{', '.join(self._dialect.paths)}",
                kind="model_path",
            )
        if request.headers.get("content-encoding", "identity") != "identity":
            raise _unreadable("it is compressed")
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_S):
                async for part in request.stream():
                    body += part
                    if len(body) > _LARGEST_REQUEST:
                        raise _unreadable(f"it is larger than {_LARGEST_REQUEST >> 20} MiB")
        except TimeoutError:
            raise _unreadable(f"not all of it had come after {_BODY_S:.0f} s") from None
        return await in_thread(self._prepare, path, bytes(body), request.url.query)

    def _prepare(self, path: str, body: bytes, query: str) -> tuple[Ask, bytes]:
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            raise _unreadable("it is no JSON") from None
        if not isinstance(said, dict):
            raise _unreadable("it is no JSON object")
        model = said.get("model")
        if model not in self.models:
            raise Refused(
                f"cannot use the model {str(model)[:80]!r}: only {', '.join(self.models)} may be used here; "
                "set the agent's model to that",
                kind="model_model",
            )
        if self._settings.secrets == "redact":
            said = self._leaks.redact(said)
        elif name := self._leaks.check(said):
            raise refusal(name)
        # What is sent is what was looked at: a name that stands twice in the agent's own bytes could hide one value.
        ask = self._dialect.ask(path, said, query)
        return ask, _written(ask.body)

    def _taken_over(self, given: Mapping[str, str]) -> dict[str, str]:
        """The headers that the protocol needs.

        Raises:
            Refused: kind "model_secret".
        """
        taken = {name: given[name] for name in _TAKEN_OVER if name in given and _HEADER.fullmatch(given[name])}
        for value in taken.values():
            if name := self._leaks.find(value):
                raise refusal(name)
        return taken

    async def _until_gone(self, receive: Receive, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, unless the agent hangs up or the door closes: then the upstream is hung up on, too."""
        done, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(receive))
        closing = asyncio.create_task(self._closing.wait())
        tasks = (done, gone, closing)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed = closing.done() and not gone.done()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not done.cancelled():
            done.result()
        elif closed:
            raise RegrowError("cannot answer: the job is over; end here", kind="model_closed")

    # What the upstream answers

    async def _answer(self, exchange: Exchange, given: Mapping[str, str]) -> None:
        ask, content = exchange.ask, exchange.content
        model = str(ask.body["model"])
        if ask.answers:
            self._account.admit(model, len(content))
        await self._account.pace()
        if not ask.answers:
            await self._exchange(exchange, given)
            return
        if not ask.stream and (most := self._account.affordable(model, len(content))) is not None:
            # A stream is cut when the money is gone; what comes in one piece can only be kept small.
            ask = self._dialect.limit(ask, most)
            content = _written(ask.body)
        entry = await self._account.begin(model, len(content))
        meter = self._dialect.meter(ask, len(content))
        try:
            await self._exchange(Exchange(ask, content, exchange.answer, entry, meter), given)
        except RegrowError as error:
            if error.kind == "model_unreachable":
                self._account.count(entry, Tokens())
            raise
        finally:
            await asyncio.shield(self._account.end(entry))

    async def _exchange(self, exchange: Exchange, given: Mapping[str, str]) -> None:
        async with self._upstream.post(exchange.ask, exchange.content, given) as response:
            back = {name: response.headers[name] for name in _GIVEN_BACK if name in response.headers}
            if response.status_code != 200:
                if exchange.entry is not None:  # nobody charges for an error
                    self._account.count(exchange.entry, Tokens())
                failure = await self._upstream.failure(response)
                if self._leaks.find(str(failure)):
                    failure = RegrowError("cannot get an answer: its text repeats a secret", kind=failure.kind)
                await self._fail(failure, exchange.answer, back)
            elif exchange.ask.stream and response.headers.get("content-type", "").startswith("text/event-stream"):
                await self._pass_events(response, exchange, back)
            else:
                whole = await self._upstream.whole(response)
                if exchange.entry is not None and exchange.meter is not None:
                    exchange.meter.see(object_of(whole))
                    self._account.count(exchange.entry, exchange.meter.tokens)
                await exchange.answer.whole(200, whole, back)
        self.trouble = exchange.answer.failure

    async def _pass_events(self, response: httpx.Response, exchange: Exchange, back: Mapping[str, str]) -> None:
        events = Events()
        await exchange.answer.begin(back)
        try:
            async for part in response.aiter_bytes():
                for one in events.feed(part):
                    await self._pass_event(one, exchange)
        except TooLarge:
            raise RegrowError("cannot pass on the answer: one event of it does not end", kind="model_cut") from None
        if rest := events.close():
            await self._pass_event(rest, exchange)
        if exchange.meter is not None and not exchange.meter.finished and exchange.answer.failure is None:
            raise self._upstream.cut()
        await exchange.answer.end()

    async def _pass_event(self, one: bytes, exchange: Exchange) -> None:
        text = data(one)
        said = object_of(text) if text.startswith("{") else {}
        if exchange.entry is not None and exchange.meter is not None:
            last = exchange.meter.see(said)
            self._account.count(exchange.entry, exchange.meter.tokens)
            if not last and (why := self._account.spent()):
                raise over_budget(why)
        if said.get("type") == "error" or said.get("error"):
            exchange.answer.failure = self._upstream.broke_off()
        if not (exchange.ask.hide_usage and said.get("choices") == [] and "usage" in said):
            await exchange.answer.part(one)

    # What goes wrong

    async def _refuse(self, error: RegrowError, answer: Answer) -> None:
        if isinstance(error, Refused):
            self._account.refuse()
        after = error.values.get("after_s") if isinstance(error, Refused) else None
        await self._fail(error, answer, {"retry-after": str(int(after) + 1)} if isinstance(after, float) else {})

    async def _fail(self, error: RegrowError, answer: Answer, headers: Mapping[str, str]) -> None:
        if error.kind != "model_closed":
            self.trouble = error
            log.info("a request to the model was not answered", action="model", kind=error.kind)
        status = _STATUS.get(error.kind, 400)
        await answer.fail(status, error, {**headers, **(NEVER_AGAIN if status in (400, 403) else {})})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _written(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise _unreadable("it holds a number that is none") from None


def _unreadable(why: str) -> Refused:
    return Refused(f"cannot read the agent's request: {why}; send JSON", kind="model_request")
