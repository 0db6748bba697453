"""Apps with credentials made at run time, and their access tokens."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from regrow.testing.feishu.clock import EmulatorClock
from regrow.testing.feishu.codes import ApiError
from regrow.testing.feishu.settings import Settings

SCOPES = frozenset(
    {
        "im:message.p2p_msg:readonly",
        "im:message.group_at_msg:readonly",
        "im:message:send_as_bot",
        "im:message.reactions:write_only",
        "im:message:readonly",
        "im:message:update",
        "im:resource",
        "im:chat:readonly",
        "contact:user.base:readonly",
        "cardkit:card:write",
    }
)
"""What an app of a test may do unless told otherwise; `im:message.group_msg` is sensitive and not among it."""


@dataclass(eq=False, repr=False)
class App:
    """A self-built app with a bot.

    Args:
        name: what people write after the @.
        app_id: `cli_` and 16 hexadecimal digits; the Node SDK takes nothing else.
        secret: made at run time.
        scopes: granted permissions; a test adds and removes them.
        events: subscribed event types.
        callbacks: subscribed callbacks.
        asked: permissions that were asked for and not granted.
        event_mode, callback_mode: "websocket", or "webhook": then nothing comes over the long connection.
        enabled: False: 99991662.
        published: False: clicks end with 200340 and no event is sent.
        reviewed: False: a version waits for the tenant's administrator.
        bot: False: the app has no bot ability (11205, and 230006 on sending).
        elsewhere: the app lives on the other domain (the endpoint's 1000040351).
        version: of the published settings.
    """

    name: str
    app_id: str = field(default_factory=lambda: f"cli_{secrets.token_hex(8)}")
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    open_id: str = field(default_factory=lambda: f"ou_{secrets.token_hex(16)}")
    scopes: set[str] = field(default_factory=lambda: set(SCOPES))
    events: set[str] = field(default_factory=lambda: {"im.message.receive_v1"})
    callbacks: set[str] = field(default_factory=lambda: {"card.action.trigger"})
    asked: set[str] = field(default_factory=set)
    event_mode: str = "websocket"
    callback_mode: str = "websocket"
    enabled: bool = True
    published: bool = True
    reviewed: bool = True
    bot: bool = True
    elsewhere: bool = False
    version: str = field(default_factory=lambda: f"oav_{secrets.token_hex(16)}")

    def __repr__(self) -> str:
        return f"<app {self.name} {self.app_id}>"


class Tokens:
    """Tenant access tokens: the same one while half an hour or more is left, then a new one, and both work."""

    def __init__(self, clock: EmulatorClock, settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self._apps: dict[str, App] = {}
        self._live: dict[str, tuple[App, float]] = {}

    def add(self, app: App) -> App:
        """Let an app ask for tokens."""
        self._apps[app.app_id] = app
        return app

    def app(self, app_id: object, secret: object) -> App | None:
        """The app with these credentials, or None."""
        app = self._apps.get(app_id) if isinstance(app_id, str) else None
        if app is None or not isinstance(secret, str) or not hmac.compare_digest(app.secret, secret):
            return None
        return app

    def by_id(self, app_id: str) -> App | None:
        """The app of this id."""
        return self._apps.get(app_id)

    def issue(self, app_id: object, secret: object) -> tuple[str, int]:
        """A token and the whole seconds it has left.

        Raises:
            ApiError: 10014 for wrong credentials, also those of an app of the other domain (assumption), and for a
                disabled app.
        """
        app = self.app(app_id, secret)
        if app is None or app.elsewhere:
            raise ApiError(10014, "app secret invalid")
        if not app.enabled:
            raise ApiError(10014, "app is disabled")
        now = self._clock.monotonic()
        for token, (owner, until) in self._live.items():
            if owner is app and until - now >= self._settings.token_renewal:
                return token, int(until - now)
        token = f"t-{secrets.token_urlsafe(24)}"
        self._live[token] = (app, now + self._settings.token_life)
        return token, self._settings.token_life

    def check(self, authorization: str | None) -> App:
        """The app that calls.

        Raises:
            ApiError: 99991661 no token, 99991671 not of the form `Bearer t-...`, 99991663 unknown or expired,
                99991662 app disabled.
        """
        if not authorization:
            raise ApiError(
                99991661, "Missing access token for authorization. Please make a request with token attached."
            )
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.startswith("t-"):
            raise ApiError(99991671, "Invalid access token: token must start with 't-' or 'u-'.")
        app, until = self._live.get(token, (None, 0.0))
        if app is None or until <= self._clock.monotonic():
            raise ApiError(
                99991663, "Invalid access token for authorization. Please make a request with token attached."
            )
        if not app.enabled:
            raise ApiError(99991662, "app not in use")
        return app

    def clear(self) -> None:
        """Forget every token, so that those handed out are answered with 99991663."""
        self._live.clear()
