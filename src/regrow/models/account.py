"""What a job has used and may still use. On disk, so that a job that goes on after a kill has not a new budget."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from regrow.clock import Clock
from regrow.config import ModelSection
from regrow.errors import Refused
from regrow.models.usage import Tokens, Usage, cost, least_cost
from regrow.pool import in_thread

_BYTES_A_TOKEN = 8
"""More than texts have: a request costs hardly less than one token for so many of its bytes."""
_MINUTE_S = 60.0
_LONGEST_WAIT_S = 60.0
_TELL_S = 1.0


@dataclass
class Entry:
    """One answer that is being written.

    Attributes:
        model: who writes it.
        tokens: what it has used so far.
    """

    model: str
    tokens: Tokens


class Account:
    """The account of one job.

    Args:
        settings: prices, budget and pace.
        path: where the account is kept between two lives of the daemon.
        clock: for the pace.
        tell: hears the usage when an answer begins and ends, and at most once a second in between.
    """

    def __init__(self, settings: ModelSection, path: Path, clock: Clock, tell: Callable[[Usage], None]) -> None:
        self._settings = settings
        self._path = path
        self._clock = clock
        self._tell = tell
        self._settled = Usage(currency=settings.currency)
        self._open: list[Entry] = []
        self._begun: deque[float] = deque()
        self._told = clock.monotonic() - _TELL_S
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Go on with what was used before. An answer that was being written when the daemon was killed counts with
        what its request was worth.

        Raises:
            Refused: kind "model_account", when the file cannot be read.
        """
        self._settled = await in_thread(read, self._path, self._settings)

    @property
    def usage(self) -> Usage:
        """What has been used, the answers that are being written included."""
        usage = self._settled
        for entry in self._open:
            usage = usage.plus(entry.tokens, cost(self._settings, entry.model, entry.tokens))
        return usage

    def spent(self) -> str:
        """What is used up, in words, or ""."""
        settings, used = self._settings, self.usage
        if settings.budget and used.cost >= settings.budget:
            return f"{used.cost:.2f} of {settings.budget:.2f} {settings.currency} are spent"
        if settings.budget_tokens and used.tokens >= settings.budget_tokens:
            return f"{used.tokens} of {settings.budget_tokens} tokens are used"
        return ""

    def admit(self, model: str, size: int) -> None:
        """Say no to a request for which nothing is left.

        Args:
            model: who is asked.
            size: bytes of the request.

        Raises:
            Refused: kind "model_budget".
        """
        settings, used = self._settings, self.usage
        why = self.spent()
        if not why and settings.budget_requests and used.requests >= settings.budget_requests:
            why = f"{used.requests} of {settings.budget_requests} requests are made"
        least = size // _BYTES_A_TOKEN
        if not why and settings.budget and used.cost + least_cost(settings, model, least) > settings.budget:
            spent = f"{used.cost:.2f} of {settings.budget:.2f} {settings.currency} are spent"
            why = f"{spent}, and it costs more than the rest"
        if not why and settings.budget_tokens and used.tokens + least > settings.budget_tokens:
            why = f"{used.tokens} of {settings.budget_tokens} tokens are used, and it needs more than the rest"
        if why:
            raise over_budget(why)

    def affordable(self, model: str, size: int) -> int | None:
        """How many tokens an answer may have at most, or None without a limit.

        Args:
            model: who is asked.
            size: bytes of the request.
        """
        settings, used = self._settings, self.usage
        limits = []
        price = settings.prices.get(model)
        if settings.budget and price is not None and price.output:
            left = settings.budget - used.cost - least_cost(settings, model, size // _BYTES_A_TOKEN)
            limits.append(int(left * 1_000_000 / price.output))
        if settings.budget_tokens:
            limits.append(settings.budget_tokens - used.tokens - size // _BYTES_A_TOKEN)
        return min(limits) if limits else None

    async def pace(self) -> None:
        """Wait for a turn in this minute.

        Raises:
            Refused: kind "model_pace", when it would be too long; `after_s` says how long.
        """
        if not self._settings.per_minute:
            return
        now = self._clock.monotonic()
        while self._begun and self._begun[0] <= now - _MINUTE_S:
            self._begun.popleft()
        full = len(self._begun) - self._settings.per_minute
        # Turns are given in advance, so that those who wait come in order and each a minute after the one before.
        at = now if full < 0 else self._begun[full] + _MINUTE_S
        if at - now > _LONGEST_WAIT_S:
            raise Refused(
                f"cannot ask the model now: {self._settings.per_minute} requests a minute are allowed; "
                f"try again in {at - now:.0f} s",
                kind="model_pace",
                after_s=at - now,
            )
        self._begun.append(at)
        if at > now:
            await self._clock.sleep(at - now)

    async def begin(self, model: str, size: int) -> Entry:
        """An answer is going to be written; it is on disk before the upstream is asked."""
        entry = Entry(model, Tokens(input=size // _BYTES_A_TOKEN, estimated=True))
        self._settled = Usage(**{**asdict(self._settled), "requests": self._settled.requests + 1})
        self._open.append(entry)
        await self._write()
        return entry

    def count(self, entry: Entry, tokens: Tokens) -> None:
        """So much has been used by an answer."""
        entry.tokens = tokens
        now = self._clock.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            self._tell(self.usage)

    async def end(self, entry: Entry) -> None:
        """An answer has ended, as `count` said last."""
        self._open.remove(entry)
        self._settled = self._settled.plus(entry.tokens, cost(self._settings, entry.model, entry.tokens))
        self._told = self._clock.monotonic()
        self._tell(self.usage)
        await self._write()

    def refuse(self) -> None:
        """A request was refused."""
        self._settled = Usage(**{**asdict(self._settled), "refused": self._settled.refused + 1})

    async def save(self) -> None:
        """Write what has not been written."""
        await self._write()

    async def _write(self) -> None:
        async with self._writing:
            open_ = [{"model": entry.model, **asdict(entry.tokens)} for entry in self._open]
            await in_thread(_replace, self._path, json.dumps({"usage": asdict(self._settled), "open": open_}))


def read(path: Path, settings: ModelSection) -> Usage:
    """What a job has used, by its file; nothing when there is none.

    Raises:
        Refused: kind "model_account", when the file cannot be read.
    """
    try:
        kept = json.loads(path.read_text("utf-8"))
        usage = Usage(**{**kept["usage"], "currency": settings.currency})
        for one in kept["open"]:
            model = one.pop("model")
            usage = usage.plus(tokens := Tokens(**one), cost(settings, model, tokens))
    except FileNotFoundError:
        return Usage(currency=settings.currency)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Refused(
            f"cannot tell what this job has used of the model: {path} cannot be read; remove it to begin at nothing",
            kind="model_account",
        ) from error
    return usage


def over_budget(why: str) -> Refused:
    """Why nothing more is asked of the model."""
    return Refused(
        f"cannot go on with the model: {why}; end the work here, or raise [model] budget and ask again",
        kind="model_budget",
    )


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, also under a kill. Without fsync: after a power cut a few requests may count for nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
