"""The platform's HTTP API, as far as it is used here. One client for the life of the process.

Errors come with a code in the body and usually with HTTP 400, so the body is read first. No secret gets into an error
or a log line.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import structlog

from regrow import __version__
from regrow.channels.feishu.refusals import FeishuError, meaning_of
from regrow.channels.feishu.tokens import Tokens
from regrow.clock import Clock, SystemClock
from regrow.secret import REDACTED, Secret

log = structlog.get_logger("feishu")

DOMAINS = {"feishu": "https://open.feishu.cn", "lark": "https://open.larksuite.com"}
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_PATIENCE_S = 8.0  # of one call with rate limits and lost connections; what lasts longer is tried again by the outbox
_PAUSES_S = (0.3, 0.8, 1.6, 3.0)
_CONNECTIONS = 16
_SPEAKING = frozenset({"send", "reply", "patch", "edit"})
"""Calls that take half of the connections at most: a history that is read to keep the order waits behind no answers."""
_LARGEST = 30 * 1024**2
_RECEIVERS = {"ou_": "open_id", "on_": "union_id"}
_CLOCKS_AGREE_S = 10.0  # an answer may be slow


@dataclass(frozen=True)
class App:
    """Which app, where.

    Attributes:
        app_id: "cli_...".
        secret: its secret.
        base_url: the platform, without a slash at its end.
        proxy: the proxy of HTTP and websocket alike; "" for none. The environment is never asked.
    """

    app_id: str
    secret: Secret
    base_url: str = DOMAINS["feishu"]
    proxy: str = ""


class Api:
    """Calls of one app."""

    def __init__(self, app: App, clock: Clock | None = None) -> None:
        self._app = app
        self._clock = clock or SystemClock()
        self._http = httpx.AsyncClient(
            base_url=app.base_url,
            timeout=_TIMEOUT,
            trust_env=False,
            proxy=app.proxy or None,
            headers={"User-Agent": f"regrow/{__version__}"},
            limits=httpx.Limits(max_connections=_CONNECTIONS),
        )
        self._speaking = asyncio.Semaphore(_CONNECTIONS // 2)
        self._tokens = Tokens(self._fetch_token, self._clock)
        self._until: dict[str, float] = {}  # by call: the platform asked for silence
        self.quota_out = False
        self.ahead_s = 0.0
        """How far the platform's clock is ahead of this machine's; 0 while they agree as far as can be told."""

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    def now(self) -> float:
        """The platform's time in seconds since 1970, as its answers tell it."""
        return self._clock.now() + self.ahead_s

    # What is said

    async def send(self, chat: str, kind: str, content: str, uuid: str) -> str:
        """A new message in a chat.

        Args:
            chat: "oc_..."; a person's "ou_..." or "on_..." is the private chat with them.
            kind: text, post or interactive.
            content: JSON.
            uuid: the same for every try of the same message, at most 50 characters; "" makes one try only.

        Returns:
            The platform's message id.
        """
        body = {"receive_id": chat, "msg_type": kind, "content": content} | ({"uuid": uuid} if uuid else {})
        params = {"receive_id_type": _RECEIVERS.get(chat[:3], "chat_id")}
        data = await self._call("send", "POST", "/im/v1/messages", json_body=body, params=params, again=bool(uuid))
        return _message_id(data)

    async def reply(self, message: str, kind: str, content: str, uuid: str, *, in_thread: bool) -> str:
        """An answer to a message; `in_thread` keeps it in the topic. Otherwise as `send`."""
        body: dict[str, Any] = {"msg_type": kind, "content": content, "reply_in_thread": in_thread}
        body |= {"uuid": uuid} if uuid else {}
        path = f"/im/v1/messages/{_id(message)}/reply"
        return _message_id(await self._call("reply", "POST", path, json_body=body, again=bool(uuid)))

    async def patch_card(self, message: str, content: str) -> None:
        """Show another card in a message."""
        await self._call("patch", "PATCH", f"/im/v1/messages/{_id(message)}", json_body={"content": content})

    async def edit_text(self, message: str, content: str) -> None:
        """Show another text in a text message; the platform allows twenty."""
        body = {"msg_type": "text", "content": content}
        await self._call("edit", "PUT", f"/im/v1/messages/{_id(message)}", json_body=body, again=False)

    # What is asked

    async def me(self) -> dict[str, Any]:
        """The bot itself: `open_id`, `app_name`, `activate_status`."""
        answer = await self._call("other", "GET", "/bot/v3/info", whole=True)
        return _part(answer, "bot")

    async def log_in(self) -> None:
        """Get a token, if there is none: whether the platform knows this app and its secret.

        Raises:
            FeishuError: meaning "config" when it does not.
        """
        await self._tokens.get()

    async def permissions(self) -> dict[str, bool]:
        """The permissions the app asked for, and whether each is granted. Needs none itself."""
        data = await self._call("other", "GET", "/application/v6/scopes")
        scopes = [scope for scope in data.get("scopes") or () if isinstance(scope, dict)]
        return {str(scope.get("scope_name")): scope.get("grant_status") == 1 for scope in scopes}

    async def application(self) -> dict[str, Any]:
        """What the platform's console has of the app: `status`, `online_version_id`, `unaudit_version_id`; in newer
        releases of the platform also `event` and `callback_info`. Needs application:application:self_manage."""
        data = await self._call("other", "GET", "/application/v6/applications/me", params={"lang": "en_us"})
        return _part(data, "app")

    async def version(self, version: str) -> dict[str, Any]:
        """A version of the app: `status`, `events`, `event_infos`, `ability`. Needs the same."""
        path = f"/application/v6/applications/me/app_versions/{_id(version)}"
        return _part(await self._call("other", "GET", path, params={"lang": "en_us"}), "app_version")

    async def person(self, reached_at: str) -> str:
        """The open_id of the person with an e-mail address or mobile number; "" when the app can see no such person.

        Needs contact:user.id:readonly.
        """
        body = {"emails" if "@" in reached_at else "mobiles": [reached_at]}
        params = {"user_id_type": "open_id"}
        data = await self._call("other", "POST", "/contact/v3/users/batch_get_id", json_body=body, params=params)
        people = [person for person in data.get("user_list") or () if isinstance(person, dict)]
        return next((str(person["user_id"]) for person in people if person.get("user_id")), "")

    async def message(self, message: str) -> dict[str, Any] | None:
        """One message as the history shows it, or None."""
        data = await self._call("other", "GET", f"/im/v1/messages/{_id(message)}")
        return next((item for item in _items(data)), None)

    async def is_private(self, chat: str) -> bool:
        """Whether a chat is one of a single person with the bot."""
        data = await self._call("other", "GET", f"/im/v1/chats/{_id(chat)}")
        return data.get("chat_mode") == "p2p" or data.get("chat_type") == "p2p"

    async def history(self, container: str, chat: str, since: float, page: str) -> tuple[list[dict[str, Any]], str]:
        """One page of what was said, newest first.

        Args:
            container: "chat" or "thread"; a thread ignores the time.
            chat: its id.
            since: seconds since 1970.
            page: the page's token, "" for the first.

        Returns:
            The messages and the next page's token, "" after the last.
        """
        params = {"container_id_type": container, "container_id": chat, "page_size": "50"}
        params["sort_type"] = "ByCreateTimeDesc"
        if container == "chat":
            params["start_time"] = str(int(since))
        if page:
            params["page_token"] = page
        data = await self._call("history", "GET", "/im/v1/messages", params=params)
        return _items(data), str(data.get("page_token") or "") if data.get("has_more") else ""

    async def resource(self, message: str, key: str, kind: str, most: int) -> bytes:
        """The end of a file or image of a message.

        Args:
            message: the message that carries it.
            key: its key.
            kind: file or image.
            most: bytes at its end that are wanted.
        """
        token = await self._tokens.get()
        path = f"/open-apis/im/v1/messages/{_id(message)}/resources/{_id(key)}"
        tail = bytearray()
        try:
            async with self._http.stream(
                "GET", path, params={"type": kind}, headers={"Authorization": f"Bearer {token.reveal()}"}
            ) as response:
                if response.status_code != 200:
                    raise FeishuError(f"cannot fetch an attachment: HTTP {response.status_code}", meaning="unavailable")
                read = 0
                async for chunk in response.aiter_bytes():
                    read += len(chunk)
                    tail = bytearray((tail + chunk)[-most:])
                    if read > _LARGEST:
                        break
        except httpx.HTTPError as error:
            raise self._lost("fetch an attachment", error) from None
        return bytes(tail)

    async def endpoint(self, timeout_s: float) -> tuple[int, str, dict[str, Any]]:
        """Ask where to connect. No token is needed.

        Args:
            timeout_s: for the whole call.

        Returns:
            The body's code (-1 when the body is none of theirs), its message or the HTTP status, and its data.

        Raises:
            FeishuError: meaning "unavailable", when there was no answer.
        """
        body = {"AppID": self._app.app_id, "AppSecret": self._app.secret.reveal()}
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.post(
                    "/callback/ws/endpoint", json=body, headers={"locale": "zh"}, timeout=timeout_s
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._lost("ask for the connection", error) from None
        answer = _json(response)
        code = answer.get("code")
        if not isinstance(code, int) or (code == 0 and response.status_code != 200):
            return -1, f"HTTP {response.status_code}", {}
        data = answer.get("data")
        return code, self.scrub(str(answer.get("msg", ""))), data if isinstance(data, dict) else {}

    # How

    def scrub(self, text: str) -> str:
        """`text` without the app's secret and tokens."""
        for value in (self._app.secret.reveal(), *self._tokens.known()):
            if len(value) >= 6:
                text = text.replace(value, REDACTED)
        return text

    async def _call(
        self,
        call: str,
        method: str,
        path: str,
        *,
        json_body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        again: bool = True,
        whole: bool = False,
    ) -> dict[str, Any]:
        """One call with its token; rate limits are waited out, lost ones repeated where that is safe.

        Raises:
            FeishuError: what it means is in `meaning`.
        """
        deadline = self._clock.monotonic() + _PATIENCE_S
        renewed = False
        tries = 0
        while True:
            await self._wait_turn(call, deadline)
            token = await self._tokens.get()
            try:
                async with self._speaking if call in _SPEAKING else contextlib.nullcontext():
                    return await self._once(call, method, path, token, body=json_body, params=params, whole=whole)
            except FeishuError as error:
                pause = error.after_s or _PAUSES_S[min(tries, len(_PAUSES_S) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311
                tries += 1
                if error.meaning == "token" and not renewed:
                    self._tokens.spoil(token)
                    renewed = True
                    continue
                if error.meaning == "quota":
                    self.quota_out = True
                if error.code == 99991400:
                    # Everyone who makes this call waits, not only this one.
                    self._until[call] = max(self._until.get(call, 0.0), self._clock.monotonic() + pause)
                safe = error.meaning in {"busy", "locked"} or (error.meaning == "unavailable" and again)
                if not safe or self._clock.monotonic() + pause > deadline:
                    raise
                log.info("a call is repeated", action="feishu_again", call=call, code=error.code, why=error.meaning)
                await self._clock.sleep(pause)

    async def _wait_turn(self, call: str, deadline: float) -> None:
        until = self._until.get(call, 0.0)
        now = self._clock.monotonic()
        if until <= now:
            return
        if until > deadline:
            raise FeishuError(
                f"cannot {call}: the platform's rate limit lasts {until - now:.0f} s more",
                meaning="busy",
                code=99991400,
                after_s=until - now,
            )
        await self._clock.sleep(until - now + random.uniform(0.0, 0.2))  # noqa: S311

    async def _once(
        self,
        call: str,
        method: str,
        path: str,
        token: Secret,
        *,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
        whole: bool,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
            content = json.dumps(body, ensure_ascii=False).encode()
        try:
            response = await self._http.request(
                method, f"/open-apis{path}", content=content, params=params, headers=headers
            )
        except httpx.HTTPError as error:
            raise self._lost(call, error) from None
        self._compare_clocks(response.headers.get("date", ""))
        answer = _json(response)
        code = answer.get("code")
        if code == 0 and response.status_code < 300:
            self.quota_out = False
            data = answer if whole else answer.get("data")
            return data if isinstance(data, dict) else {}
        raise self._refusal(call, response, code if isinstance(code, int) else 0, str(answer.get("msg", "")))

    def _compare_clocks(self, date: str) -> None:
        """Take the platform's time from an answer; it comes in whole seconds and some time after it was written."""
        try:
            ahead = email.utils.parsedate_to_datetime(date).timestamp() + 0.5 - self._clock.now()
        except ValueError:
            return
        self.ahead_s = ahead if abs(ahead) > _CLOCKS_AGREE_S else 0.0

    def _refusal(self, call: str, response: httpx.Response, code: int, text: str) -> FeishuError:
        text = self.scrub(text)[:300]
        meaning = meaning_of(call, code, response.status_code, text)
        log_id = self.scrub(response.headers.get("x-tt-logid", ""))
        log.warning(
            "the platform refused a call",
            action="feishu_refusal",
            call=call,
            code=code,
            status=response.status_code,
            text=text,
            log_id=log_id,
            meaning=meaning,
        )
        after_s = _seconds(response.headers.get("x-ogw-ratelimit-reset", "")) if meaning == "busy" else 0.0
        if after_s:
            after_s += random.uniform(0.05, 0.3)  # noqa: S311  everyone waits for the same moment
        reason = f"code {code}: {text}" if code else f"HTTP {response.status_code}"
        return FeishuError(f"cannot {call} on Feishu: {reason}", meaning=meaning, code=code, after_s=after_s)

    def _lost(self, call: str, error: Exception) -> FeishuError:
        # The text of a transport error may hold a URL; its class says enough.
        return FeishuError(f"cannot {call} on Feishu: {type(error).__name__}", meaning="unavailable")

    async def _fetch_token(self) -> tuple[Secret, float]:
        body = {"app_id": self._app.app_id, "app_secret": self._app.secret.reveal()}
        path = "/open-apis/auth/v3/tenant_access_token/internal"
        try:
            response = await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise self._lost("get a token", error) from None
        answer = _json(response)
        code, token = answer.get("code"), answer.get("tenant_access_token")
        if code == 0 and isinstance(token, str) and token:
            lives = answer.get("expire")
            return Secret(token), float(lives) if isinstance(lives, int | float) else 0.0
        raise self._refusal("get a token", response, code if isinstance(code, int) else 0, str(answer.get("msg", "")))


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _part(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = data.get(name)
    return part if isinstance(part, dict) else {}


def _items(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = data.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _message_id(data: Mapping[str, Any]) -> str:
    found = data.get("message_id")
    if not isinstance(found, str) or not found:
        raise FeishuError("cannot send on Feishu: the answer names no message", meaning="unavailable")
    return found


def _id(text: str) -> str:
    """An id as a part of a path; ids come from outside."""
    return quote(text, safe="")


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 120.0)
    except ValueError:
        return 0.0
