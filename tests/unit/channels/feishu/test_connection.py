"""C8, C9: what is tried again, how soon, and what ends it. The connection itself is tested against the emulator."""

from __future__ import annotations

from typing import Any

import pytest

from regrow.channels.feishu.connection import Answer, Connection, Lost, Timing
from regrow.errors import ConfigError


class Enough(Exception):
    """The test has seen what it wanted."""


class Endpoint:
    """An API of which only the endpoint is asked."""

    def __init__(self, code: int, **data: Any) -> None:
        self.answer = (code, "text", data)
        self.asked = 0

    async def endpoint(self, timeout_s: float) -> tuple[int, str, dict[str, Any]]:
        self.asked += 1
        return self.answer

    def scrub(self, text: str) -> str:
        return text


async def nothing(event: dict[str, Any]) -> Answer:
    return Answer()


def connection(api: Any, clock: Any, most: int) -> Connection:
    """One that gives up after `most` pauses."""
    original = clock.sleep

    async def sleep(seconds: float) -> None:
        await original(seconds)
        if len(clock.slept) >= most:
            raise Enough

    clock.sleep = sleep
    return Connection(api, nothing, lambda: None, clock)


async def pauses(one: Connection, clock: Any) -> list[float]:
    with pytest.raises(Enough):
        await one.run()
    found: list[float] = clock.slept
    return found


async def test_c9_pauses_are_random_below_a_limit_that_doubles_to_a_minute(clock: Any) -> None:
    api = Endpoint(1)
    slept = await pauses(connection(api, clock, 40), clock)
    limits = [min(2.0**n, 60.0) for n in range(40)]
    assert all(0 <= pause <= limit for pause, limit in zip(slept, limits, strict=True))
    # Full jitter: neither all the same nor all near the limit.
    late = slept[6:]
    assert len({round(pause, 3) for pause in late}) > 20
    assert min(late) < 30 < max(late)
    assert api.asked == 40


async def test_c9_a_stable_minute_makes_the_pauses_short_again(clock: Any) -> None:
    class Steady(Connection):
        lasts = 0.0

        async def _address(self) -> str:
            clock.time += self.lasts
            raise Lost("closed")

    one = Steady(Endpoint(0), nothing, lambda: None, clock)  # type: ignore[arg-type]
    one.lasts = 61.0
    original, seen = clock.sleep, []

    async def sleep(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) > 20:
            raise Enough
        await original(seconds)

    clock.sleep = sleep
    with pytest.raises(Enough):
        await one.run()
    assert max(seen) <= 1.0


async def test_c9_too_many_connections_are_tried_slowly(clock: Any) -> None:
    slept = await pauses(connection(Endpoint(1000040350), clock, 5), clock)
    assert min(slept) >= Timing().crowded


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Endpoint(0), "no address"),
        (Endpoint(0, URL=5), "no address"),
        (Endpoint(0, URL="http://x/?service_id=1"), "no address"),
        (Endpoint(0, URL="ws://127.0.0.1:9/ws"), "no service_id"),
        (Endpoint(0, URL="ws://127.0.0.1:9/ws?service_id=x"), "no service_id"),
        (Endpoint(0, URL="ws://127.0.0.1:9/ws?service_id=1&ticket=t"), "did not open"),
        (Endpoint(-1), "text"),
        (Endpoint(1000040343), "1000040343"),
    ],
)
async def test_c8_what_is_tried_again(clock: Any, answer: Endpoint, reason: str) -> None:
    one = connection(answer, clock, 2)
    await pauses(one, clock)
    assert reason in one.error
    assert "ticket" not in one.error
    assert answer.asked == 2


@pytest.mark.parametrize(("code", "word"), [(403, "forbids"), (514, "secret"), (1000040351, "domain"), (7, "text")])
async def test_c8_what_ends_it(clock: Any, code: int, word: str) -> None:
    one = connection(Endpoint(code), clock, 2)
    with pytest.raises(ConfigError, match=word) as error:
        await one.run()
    assert error.value.kind == "feishu_refused"
    assert one.error == str(error.value)
    assert not one.connected
