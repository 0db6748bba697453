"""The app's access token: one for everyone, renewed by one caller while the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from regrow.channels.feishu.refusals import FeishuError
from regrow.clock import Clock
from regrow.secret import Secret

_RENEW_S = 10 * 60.0  # before it ends; with less than 30 min left the platform gives a new one
_PAUSES_S = (1.0, 2.0, 5.0, 15.0, 30.0)

Fetch = Callable[[], Awaitable[tuple[Secret, float]]]


class Tokens:
    """The present token.

    Args:
        fetch: asks the platform; returns the token and the seconds it lives.
        clock: for the time it has left.
    """

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: Secret | None = None
        self._ends = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._error: FeishuError | None = None

    async def get(self) -> Secret:
        """The token to use now.

        Raises:
            FeishuError: the platform gave none. For a growing pause afterwards callers get the same error unasked, so
                that a token service that is down is not stormed.
        """
        if self._token is not None and self._clock.monotonic() < self._ends - _RENEW_S:
            return self._token
        async with self._lock:
            now = self._clock.monotonic()
            if self._token is not None and now < self._ends - _RENEW_S:
                return self._token
            if self._error is None or now >= self._not_before:
                await self._renew()
            if self._token is not None and self._clock.monotonic() < self._ends:
                return self._token
            assert self._error is not None
            error = self._error
            raise FeishuError(str(error), meaning=error.meaning, code=error.code)

    async def _renew(self) -> None:
        try:
            token, lives_s = await self._fetch()
        except FeishuError as error:
            self._error = error
            pause = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
            self._failures += 1
            self._not_before = self._clock.monotonic() + pause
            return
        # A token that lives shorter than the margin would be renewed at every call.
        self._token, self._ends = token, self._clock.monotonic() + max(lives_s, _RENEW_S + 30.0)
        self._error, self._failures = None, 0

    def spoil(self, token: Secret) -> None:
        """Say that the platform no longer takes `token`; a newer one is kept."""
        if self._token is not None and self._token == token:
            self._token = None

    def known(self) -> list[str]:
        """What must not be printed."""
        return [self._token.reveal()] if self._token else []
