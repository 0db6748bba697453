"""What an app needs before people can talk through it, and where in the platform's console it is mended (F16).

Everything here is asked over HTTP; nothing is connected and nothing is sent. The platform tells of permissions to every
app, and of versions and subscriptions to those with the permission application:application:self_manage. What it does
not tell is `unknown` and said to be: only a message and a press that arrive prove it (`greeting`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regrow.catalogue import Language, say
from regrow.channels.feishu.api import Api, App
from regrow.channels.feishu.refusals import FeishuError

WRONG_DOMAIN = 1000040351
MESSAGE, CLICK = "im.message.receive_v1", "card.action.trigger"

NEEDED: Mapping[str, tuple[str, ...]] = {
    "im:message.p2p_msg:readonly": ("im:message.p2p_msg:readonly", "im:message.p2p_msg"),
    "im:message.group_at_msg:readonly": ("im:message.group_at_msg:readonly", "im:message.group_at_msg"),
    "im:message:send_as_bot": ("im:message:send_as_bot", "im:message"),
}
"""Permissions without which nobody can be heard or answered; any of those behind the name will do."""

USEFUL: Mapping[str, tuple[str, ...]] = {
    "im:message:readonly": ("im:message:readonly", "im:message.history:readonly", "im:message"),
    "im:message.group_msg": ("im:message.group_msg",),
    "application:application:self_manage": ("application:application:self_manage",),
}
"""Permissions without which something is missed: each is told, none is required."""

State = Literal["ok", "bad", "unknown"]
_ENDPOINT_S = 15.0
_INSTALLED = 2
_STATUS_KEYS = {0: "waiting", 1: "stopped", 3: "inactive", 4: "inactive", 5: "expired", 6: "expired"}
_REFUSED_KEYS = {403: "forbidden", 514: "secret", 1000040350: "crowded", WRONG_DOMAIN: "domain"}
_BUSY = {1, 1000040343}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: credentials, bot, version, permissions, events, callbacks or connection.
        state: ok, bad, or unknown where the platform does not say.
        detail: what was seen.
        mend: what to do about it; "" when there is nothing to do.
        code: the platform's own code, 0 when it gave none.
    """

    name: str
    state: State
    detail: str
    mend: str = ""
    code: int = 0


class Checks:
    """Looks at one app.

    Args:
        api: its calls.
        app: which.
        language: of what is found.

    Attributes:
        bot: what the bot is called, once it was looked at.
    """

    def __init__(self, api: Api, app: App, language: Language) -> None:
        self._api = api
        self._app = app
        self._language: Language = language
        self.bot = app.app_id

    @property
    def console(self) -> str:
        """The page of the app in the platform's console."""
        return f"{self._app.base_url}/app/{self._app.app_id}"

    async def look(self) -> list[Check]:
        """Every check, in the order in which a person would mend them; without a token only the first."""
        found = [await self.credentials()]
        if found[0].state != "ok":
            return found
        application, hidden = await self._told(self._api.application)
        version = str(application.get("online_version_id") or "")
        published, _ = await self._told(lambda: self._api.version(version)) if version else ({}, None)
        bot, status = await self._bot()
        found += [bot, self._version(application, hidden, status), await self._permissions()]
        found += [self._events(application, published), self._callbacks(application)]
        return [*found, await self.endpoint()]

    async def credentials(self) -> Check:
        """Whether the platform knows this app and its secret."""
        try:
            await self._api.log_in()
        except FeishuError as error:
            if error.meaning in {"unavailable", "busy"}:
                return self._unreached("credentials", error)
            if error.code == 99991401:
                return self._bad("credentials", "address", code=error.code)
            # The endpoint tells a wrong domain from a wrong secret, the token's refusal does not.
            if (await self.endpoint()).code == WRONG_DOMAIN:
                return self._bad("credentials", "domain", code=WRONG_DOMAIN, app=self._app.app_id)
            return self._bad("credentials", "secret", code=error.code, app=self._app.app_id)
        return self._ok("credentials", base=self._app.base_url, app=self._app.app_id)

    def connected(self, why: str) -> Check:
        """What became of the long connection: "" when it opened."""
        if not why:
            return Check("connection", "ok", self._say("connection.open"))
        return self._bad("connection", "shut", why=why)

    def held(self, by: str) -> Check:
        """The long connection belongs to another process of this machine, which says nothing of it."""
        return Check("connection", "unknown", self._say("connection.held", by=by))

    def by_daemon(self, channel: Mapping[str, object]) -> Check:
        """The long connection belongs to the daemon: what it says of its channel."""
        detail = str(channel.get("detail") or "")
        if channel.get("healthy"):
            return Check("connection", "ok", self._say("connection.daemon", detail=detail))
        return self._bad("connection", "daemon", detail=detail)

    def heard(self, arrived: bool) -> Check:
        """Whether a message came."""
        return Check("events", "ok", self._say("events.heard")) if arrived else self._bad("events", "unheard")

    def pressed(self, arrived: bool) -> Check:
        """Whether a press came."""
        if arrived:
            return Check("callbacks", "ok", self._say("callbacks.pressed"))
        return self._bad("callbacks", "unpressed")

    def sent(self, error: FeishuError | None) -> Check:
        """Whether the test message was taken."""
        return (
            self._ok("message") if error is None else self._bad("message", "refused", code=error.code, why=str(error))
        )

    async def endpoint(self) -> Check:
        """Whether the platform gives the app an address for its long connection. The address is not used."""
        try:
            code, text, _ = await self._api.endpoint(_ENDPOINT_S)
        except FeishuError as error:
            return self._unreached("connection", error)
        if code == 0:
            return self._ok("connection")
        if code == -1 or code in _BUSY:
            return Check(
                "connection", "bad", self._say("connection.busy", text=text), self._say("connection.busy_mend")
            )
        key = _REFUSED_KEYS.get(code, "other")
        detail = self._say(f"connection.{key}", **({"text": text} if key == "other" else {}), code=code)
        return Check("connection", "bad", detail, self._say(f"connection.{key}_mend", console=self.console), code)

    async def _bot(self) -> tuple[Check, int | None]:
        """The bot ability, and the app's state in the tenant."""
        try:
            me = await self._api.me()
        except FeishuError as error:
            if error.meaning == "no_bot":
                return self._bad("bot", "missing", code=error.code), None
            return Check("bot", "unknown", str(error)), None
        status = me.get("activate_status")
        self.bot = str(me.get("app_name") or self.bot)
        return self._ok("bot", called=self.bot), status if isinstance(status, int) else None

    def _version(self, application: Mapping[str, Any], hidden: FeishuError | None, status: int | None) -> Check:
        if application.get("unaudit_version_id"):
            return self._bad("version", "review")
        if hidden is None and application and not application.get("online_version_id"):
            return self._bad("version", "none")
        if application.get("status") == 0:
            return self._bad("version", "stopped")
        if status is not None and status != _INSTALLED:
            return self._bad("version", _STATUS_KEYS.get(status, "inactive"))
        if hidden is None:
            return self._ok("version")
        # Enabled means that some version is out; whether the newest settings are in it stays open.
        return Check("version", "unknown", self._say("version.hidden"), self._say("version.hidden_mend", **self._where))

    async def _permissions(self) -> Check:
        try:
            granted = await self._api.permissions()
        except FeishuError as error:
            if error.code == 212100:
                return self._bad("permissions", "uninstalled", code=error.code)
            return Check("permissions", "unknown", str(error))
        missing = _missing(NEEDED, granted)
        if missing:
            waiting = [name for name in missing if any(one in granted for one in NEEDED[name])]
            names = "  ".join(missing)
            if len(waiting) == len(missing):
                return self._bad("permissions", "waiting", names=names)
            mend = self._say("permissions.missing_mend", link=self.link(missing))
            return Check("permissions", "bad", self._say("permissions.missing", names=names), mend)
        useful = _missing(USEFUL, granted)
        if not useful:
            return self._ok("permissions")
        reasons = "  ".join(
            self._say("permissions.without." + name.replace(":", "_").replace(".", "_")) for name in useful
        )
        detail = self._say("permissions.enough", reasons=reasons)
        return Check("permissions", "ok", detail, self._say("permissions.enough_mend", link=self.link(useful)))

    def _events(self, application: Mapping[str, Any], published: Mapping[str, Any]) -> Check:
        told = application.get("event")
        told = told if isinstance(told, dict) else {}
        infos = published.get("event_infos")
        known = [*_texts(told.get("subscribed_events")), *_texts(published.get("events"))]
        known += [str(info.get("event_type")) for info in infos or () if isinstance(info, dict)]
        how = told.get("subscription_type")
        if how and how != "websocket":
            return self._bad("events", "mode")
        if (told or published) and MESSAGE not in known:
            return self._bad("events", "missing", event=MESSAGE)
        if how and known:
            return self._ok("events", event=MESSAGE)
        return Check("events", "unknown", self._say("events.hidden"), self._say("events.hidden_mend", **self._where))

    def _callbacks(self, application: Mapping[str, Any]) -> Check:
        told = application.get("callback_info") or application.get("callback")
        if not isinstance(told, dict):
            mend = self._say("callbacks.hidden_mend", **self._where)
            return Check("callbacks", "unknown", self._say("callbacks.hidden"), mend)
        if told.get("callback_type") != "websocket":
            return self._bad("callbacks", "mode")
        if CLICK not in _texts(told.get("subscribed_callbacks")):
            return self._bad("callbacks", "missing", callback=CLICK)
        return self._ok("callbacks", callback=CLICK)

    async def _told(self, ask: Callable[[], Awaitable[dict[str, Any]]]) -> tuple[dict[str, Any], FeishuError | None]:
        """What the platform tells, or why it does not."""
        try:
            return await ask(), None
        except FeishuError as error:
            return {}, error

    # Words

    def link(self, scopes: Iterable[str]) -> str:
        """The console's page on which these permissions are asked for; the platform's own refusals name it too."""
        return f"{self.console}/auth?q={','.join(scopes)}&op_from=openapi&token_type=tenant"

    @property
    def _where(self) -> dict[str, str]:
        return {"console": self.console}

    def _say(self, key: str, **values: object) -> str:
        return say(self._language, f"setup.{key}", **values)

    def _ok(self, name: str, **values: object) -> Check:
        return Check(name, "ok", self._say(f"{name}.ok", **values))

    def _bad(self, name: str, key: str, *, code: int = 0, **values: object) -> Check:
        detail = self._say(f"{name}.{key}", **values)
        return Check(name, "bad", detail, self._say(f"{name}.{key}_mend", console=self.console), code)

    def _unreached(self, name: str, error: FeishuError) -> Check:
        why, base, proxy = str(error).rpartition(": ")[2], self._app.base_url, self._app.proxy
        if proxy:
            return Check(name, "bad", self._say("proxied", why=why, base=base, proxy=proxy), self._say("proxied_mend"))
        return Check(name, "bad", self._say("unreached", why=why, base=base), self._say("unreached_mend"))


def _missing(wanted: Mapping[str, tuple[str, ...]], granted: Mapping[str, bool]) -> list[str]:
    return [name for name, any_of in wanted.items() if not any(granted.get(one) for one in any_of)]


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
