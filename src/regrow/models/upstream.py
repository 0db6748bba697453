"""The upstream: who answers for the model, its key, and what its failures mean."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from regrow import __version__
from regrow.config import ModelSection
from regrow.errors import RegrowError
from regrow.models import dialect
from regrow.models.base import Ask
from regrow.pool import in_thread
from regrow.secret import Secret, resolve

_CONNECT_S = 15.0
_CHECK_S = 15.0
_CONNECTIONS = 64
_LARGEST_ANSWER = 64 * 1024 * 1024
_LARGEST_ERROR = 64 * 1024
_SHOWN = 8


class Upstream:
    """One upstream: `async with await Upstream.of(settings) as upstream:`.

    Attributes:
        dialect: what it speaks.
        key: its key; None where it needs none.
        host: what people are told of it.
    """

    def __init__(self, settings: ModelSection, key: Secret | None, http: httpx.AsyncClient) -> None:
        self.dialect = dialect(settings.kind)
        self.key = key
        self._settings = settings
        self._base = settings.base_url or self.dialect.base_url
        self._http = http
        self.host = urlsplit(self._base).netloc

    @classmethod
    async def of(cls, settings: ModelSection) -> Self:
        """The upstream of the settings; nothing is asked of it yet.

        Raises:
            ConfigError: its key cannot be read.
        """
        key = await in_thread(resolve, settings.key) if settings.key else None
        # Reading the certificates takes long enough to be felt in a chat.
        context = await in_thread(ssl.create_default_context)
        http = httpx.AsyncClient(
            verify=context,
            trust_env=False,
            proxy=settings.proxy or None,
            timeout=httpx.Timeout(settings.silence, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            headers={"user-agent": f"regrow/{__version__}", "accept-encoding": "identity"},
        )
        return cls(settings, key, http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def post(self, ask: Ask, content: bytes, given: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """Ask; the answer is read inside the context.

        Args:
            ask: what is asked.
            content: its body as bytes.
            given: the agent's headers that are taken over.

        Raises:
            RegrowError: kind "model_unreachable", "model_slow" or "model_cut", also for what fails while it is read.
        """
        headers = {
            **self.dialect.headers(self.key, given),
            "content-type": "application/json",
            "accept": "text/event-stream" if ask.stream else "application/json",
        }
        request = self._http.build_request("POST", self._base + ask.path, content=content, headers=headers)
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._http.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise self._unreachable(error) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise RegrowError(
                f"cannot wait longer for {self.host}: no answer, or not all of it, within [model] silence and timeout; "
                "try again, or raise them",
                kind="model_slow",
            ) from error
        except httpx.HTTPError as error:
            raise self.cut() from error

    async def whole(self, response: httpx.Response) -> bytes:
        """An answer that comes in one piece.

        Raises:
            RegrowError: kind "model_rejected", when it is no JSON.
        """
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RegrowError(
                f"cannot understand {self.host}: it answers with {kind[:60] or 'nothing'}; "
                "correct [model] base_url and kind",
                kind="model_rejected",
            )
        return await _all(response, _LARGEST_ANSWER)

    async def failure(self, response: httpx.Response) -> RegrowError:
        """What an answer other than 200 means.

        Kinds: "model_key", "model_credit", "model_limited", "model_busy", "model_rejected". The text of a refused key
        is left out, for some repeat it.
        """
        status = response.status_code
        if status in (401, 403):
            return self._wrong_key(status)
        message = message_of(await _all(response, _LARGEST_ERROR))
        words = f"{self.host} answers {status}" + (f": {message}" if message else "")
        if status == 402 or (status == 400 and "credit balance" in message.lower()):
            return RegrowError(f"cannot pay for the model: {words}; top up the account", kind="model_credit")
        if status == 429:
            return RegrowError(f"cannot get an answer now: {words}; try again later", kind="model_limited")
        if status >= 500:
            return RegrowError(f"cannot get an answer now: {words}; try again later", kind="model_busy")
        if status < 400:
            return RegrowError(f"cannot get an answer: {words}; correct [model] base_url", kind="model_rejected")
        return RegrowError(f"cannot get an answer: {words}; look at [model] and the agent", kind="model_rejected")

    def cut(self) -> RegrowError:
        """It ended the connection in the middle."""
        return RegrowError(f"cannot finish the answer: {self.host} ended the connection; try again", kind="model_cut")

    def broke_off(self) -> RegrowError:
        """It said in the middle that it failed."""
        return RegrowError(f"cannot finish the answer: {self.host} failed in the middle; try again", kind="model_busy")

    async def check(self) -> str:
        """Ask something that costs nothing and needs the key.

        Returns:
            What is known now, for a person.

        Raises:
            RegrowError: kind "model_unreachable", "model_key" or "model_rejected".
        """
        model = self._settings.models[0]
        method, path, body = self.dialect.trial(model)
        try:
            async with asyncio.timeout(_CHECK_S):
                headers = self.dialect.headers(self.key, {})
                answer = await self._http.request(method, self._base + path, headers=headers, json=body)
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._unreachable(error) from error
        if answer.status_code in (401, 403):
            raise self._wrong_key(answer.status_code)
        names = _names(answer.content) if method == "GET" else []
        if answer.status_code == 200 and names and model not in names:
            raise RegrowError(
                f"cannot find {model} at {self.host}, which lists {', '.join(names[:_SHOWN])}; correct [model] models",
                kind="model_rejected",
            )
        if answer.status_code == 200:
            return f"{self.host} answers" + (" and takes the key" if self.key is not None else "")
        if answer.status_code in (404, 405) and "model" not in message_of(answer.content):
            return f"{self.host} answers; it has nothing that can be asked for nothing, so the key was not tried"
        raise RegrowError(
            f"cannot use {model} at {self.host}: it answers {answer.status_code}; correct [model] models and base_url",
            kind="model_rejected",
        )

    def _unreachable(self, error: Exception) -> RegrowError:
        why = str(error) or type(error).__name__
        return RegrowError(
            f"cannot reach {self.host}: {why[:200]}; check the network, [model] base_url and proxy",
            kind="model_unreachable",
        )

    def _wrong_key(self, status: int) -> RegrowError:
        return RegrowError(
            f"cannot use the model: {self.host} refuses the key ({status}); put the right one where [model] key says",
            kind="model_key",
        )


def object_of(text: str | bytes) -> dict[str, Any]:
    """The JSON object that a text is; an empty one where it is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def message_of(content: bytes) -> str:
    """What an error says, in the usual places; of anything else its beginning. One line of at most 500 characters."""
    text = content.decode("utf-8", "replace")
    said = object_of(text)
    error = said.get("error", said)
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        message = "" if said else text[:200]
    return " ".join(message.split())[:500]


def _names(content: bytes) -> list[str]:
    listed = object_of(content.decode("utf-8", "replace")).get("data")
    return [str(one.get("id")) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


async def _all(response: httpx.Response, largest: int) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > largest:
            break
    return bytes(content[:largest])
