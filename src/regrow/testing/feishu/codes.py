"""How the platform says no."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A call is refused with a code.

    Args:
        code: the platform's number.
        msg: its text.
        status: HTTP status; most refusals come as 400.
        headers: more response headers.
        body: the whole body in place of `{"code", "msg", "error"}`.
    """

    def __init__(
        self,
        code: int,
        msg: str,
        *,
        status: int = 400,
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code} {msg}")
        self.code = code
        self.msg = msg
        self.status = status
        self.headers = headers or {}
        self.body = body


class CardError(Exception):
    """A card is refused. CardKit answers with its own code directly; the message calls wrap another one in 230099.

    Args:
        inner: the `ErrCode` inside 230099.
        reason: the `ErrMsg`.
        kit: the code of CardKit; the inner one when not given.
        outer: the code of the message calls in place of 230099 (230025: too large).
    """

    def __init__(self, inner: int, reason: str, *, kit: int | None = None, outer: int | None = None) -> None:
        super().__init__(reason)
        self.inner = inner
        self.reason = reason
        self.kit = inner if kit is None else kit
        self.outer = outer

    def for_message(self) -> ApiError:
        """As `im/v1/messages` says it."""
        if self.outer is not None:
            return ApiError(self.outer, self.reason)
        return ApiError(
            230099, f"Failed to create card content, ext=ErrCode: {self.inner}; ErrMsg: {self.reason}; ErrorValue: "
        )

    def for_kit(self) -> ApiError:
        """As `cardkit/v1` says it."""
        return ApiError(self.kit, self.reason)


def required(body: dict[str, Any], name: str) -> str:
    """The text `name` of a request's body.

    Raises:
        ApiError: 99992402, it is not there or not a text.
    """
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError(99992402, f"field validation failed: {name} is required")
    return value
