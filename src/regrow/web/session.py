"""The session of a browser: a cookie that proves the token was shown once, without being the token."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

LIFETIME_S = 30 * 86400


class Session:
    """Issues and checks the session cookie of one console.

    Cookies are not bound to a port: whatever else listens on this host receives this one too. So it carries a
    signature that ends, never the token, and its name differs between two consoles on one host.

    Args:
        token: the console's secret; every session ends when it changes.
        now: seconds since 1970.

    Raises:
        ValueError: the token is too short to be one.
    """

    def __init__(self, token: str, now: Callable[[], float] = time.time) -> None:
        if len(token) < 16:
            raise ValueError("cannot guard the console: its token has fewer than 16 characters; create a longer one")
        self._token = token.encode()
        self._key = hmac.digest(self._token, b"regrow console session", hashlib.sha256)
        self._now = now
        self.name = "regrow_" + hmac.new(self._token, b"regrow console cookie name", hashlib.sha256).hexdigest()[:8]

    def is_token(self, given: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)

    def issue(self) -> str:
        """A cookie value that holds for LIFETIME_S seconds."""
        ends = str(int(self._now()) + LIFETIME_S)
        return f"{ends}.{self._sign(ends)}"

    def holds(self, cookie: str) -> bool:
        """Whether a cookie value was issued under this token and has not ended."""
        ends, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), self._sign(ends).encode()):
            return False
        return int(ends) > self._now()

    def _sign(self, ends: str) -> str:
        return hmac.new(self._key, ends.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
