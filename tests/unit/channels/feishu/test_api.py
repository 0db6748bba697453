"""C26 to C29, C36: calls, their errors and what is done about them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from regrow.channels.feishu.api import Api, App
from regrow.channels.feishu.refusals import FeishuError, inner_code, meaning_of
from regrow.secret import Secret

# Fixtures `platform` (scripted HTTP) and `clock` (sleeps take no time) are in conftest.py.


def reply(platform: Any, *bodies: Any, after: Any = None) -> None:
    """Answer with these, one call each, then with `after` for ever."""
    left = list(bodies)
    good = after or made({"code": 0, "data": {"message_id": "om_made"}})
    platform.answer = lambda call: left.pop(0) if left else good


def made(body: Any, status: int = 200, **headers: str) -> Any:
    from types import SimpleNamespace

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(body=body, status=status, headers=named)


@pytest.fixture
def secret() -> str:
    return secrets.token_hex(12)


@pytest.fixture
async def api(platform: Any, clock: Any, secret: str) -> AsyncIterator[Api]:
    one = Api(App("cli_1", Secret(secret), platform.url), clock)
    yield one
    await one.close()


async def test_c27_many_callers_share_one_token(api: Api, platform: Any) -> None:
    reply(platform)
    assert set(await asyncio.gather(*(api.send("oc_1", "text", "{}", f"u{n}") for n in range(30)))) == {"om_made"}
    assert platform.tokens == 1
    assert {call.headers["authorization"] for call in platform.calls} == {"Bearer t-number-1"}


async def test_c27_a_token_that_is_no_longer_taken_is_renewed_once(api: Api, platform: Any) -> None:
    reply(platform, made({"code": 99991663, "msg": "token expired"}, 400))
    assert await api.send("oc_1", "text", "{}", "u") == "om_made"
    assert platform.tokens == 2
    reply(platform, after=made({"code": 99991663, "msg": "token expired"}, 400))
    with pytest.raises(FeishuError) as error:
        await api.send("oc_1", "text", "{}", "u")
    assert error.value.meaning == "token"
    assert platform.tokens == 3


async def test_c27_no_storm_when_the_token_service_is_down(api: Api, platform: Any, clock: Any) -> None:
    platform.token_reply = lambda n: made(b"<html>down</html>", 502)
    results = await asyncio.gather(*(api.patch_card("om_1", "{}") for _ in range(30)), return_exceptions=True)
    assert all(isinstance(result, FeishuError) for result in results)
    # Thirty callers with several tries each; the pauses between the tries move the clock by about 8 s at most.
    assert platform.tokens <= 8
    platform.token_reply = lambda n: made({"code": 0, "tenant_access_token": "t-new", "expire": 7200})
    clock.time += 60
    await api.patch_card("om_1", "{}")


async def test_c26_the_rate_limit_of_a_call_is_waited_out_by_everyone(api: Api, platform: Any, clock: Any) -> None:
    limited = made({"code": 99991400, "msg": "request trigger frequency limit"}, 429, x_ogw_ratelimit_reset="3")
    reply(platform, limited)
    assert await api.send("oc_1", "text", "{}", "u") == "om_made"
    assert max(clock.slept) >= 3.0
    reply(platform, made({"code": 99991400, "msg": ""}, 429, x_ogw_ratelimit_reset="100"))
    with pytest.raises(FeishuError) as error:
        await api.send("oc_1", "text", "{}", "u")
    assert error.value.meaning == "busy"
    before = len(platform.calls)
    with pytest.raises(FeishuError, match="rate limit"):
        await api.send("oc_2", "text", "{}", "u2")
    assert len(platform.calls) == before
    clock.time += 101
    assert await api.send("oc_1", "text", "{}", "u") == "om_made"


async def test_c28_a_lost_answer_is_asked_for_again_with_the_same_uuid(api: Api, platform: Any) -> None:
    reply(platform, made("", 0))
    assert await api.send("oc_1", "text", "{}", "the-uuid") == "om_made"
    assert [call.body["uuid"] for call in platform.calls] == ["the-uuid", "the-uuid"]


async def test_c28_without_a_uuid_nothing_is_said_twice(api: Api, platform: Any) -> None:
    reply(platform, made("", 0))
    with pytest.raises(FeishuError) as error:
        await api.send("oc_1", "text", "{}", "")
    assert error.value.meaning == "unavailable"
    assert len(platform.calls) == 1


@pytest.mark.parametrize(
    ("body", "status", "meaning"),
    [
        ({"code": 230011, "msg": "recalled"}, 400, "gone"),
        ({"code": 230025, "msg": "too large"}, 400, "content"),
        ({"code": 230031, "msg": "too old"}, 400, "old"),
        ({"code": 99991403, "msg": "quota"}, 400, "quota"),
        ({"code": 99991672, "msg": "scope im:message"}, 400, "scope"),
        ({"code": 99991662, "msg": "disabled"}, 400, "config"),
        ({"code": 4711, "msg": "?"}, 200, "fault"),
        (b"<html>bad gateway</html>", 502, "unavailable"),
        (b"[]", 200, "unavailable"),
        (b"", 500, "unavailable"),
    ],
)
async def test_c29_the_code_is_read_before_the_status(
    api: Api, platform: Any, body: Any, status: int, meaning: str
) -> None:
    reply(platform, after=made(body, status, X_Tt_Logid="log-42"))
    with structlog.testing.capture_logs() as logs, pytest.raises(FeishuError) as error:
        await api.patch_card("om_1", "{}")
    assert error.value.meaning == meaning
    assert {entry["log_id"] for entry in logs if entry["action"] == "feishu_refusal"} == {"log-42"}


async def test_c33_the_end_of_the_quota_is_remembered_until_a_call_succeeds(api: Api, platform: Any) -> None:
    reply(platform, made({"code": 99991403, "msg": "quota"}, 400))
    with pytest.raises(FeishuError):
        await api.patch_card("om_1", "{}")
    assert api.quota_out
    await api.send("oc_1", "text", "{}", "u")
    assert not api.quota_out


async def test_c36_no_secret_in_errors_and_logs(api: Api, platform: Any, secret: str) -> None:
    echo = made({"code": 4711, "msg": f"{secret} and t-number-1"}, 400, X_Tt_Logid=f"{secret}t-number-1")
    reply(platform, after=echo)
    with structlog.testing.capture_logs() as logs, pytest.raises(FeishuError) as error:
        await api.patch_card("om_1", "{}")
    told = json.dumps(logs) + str(error.value) + repr(error.value.args) + repr(api._app)
    assert secret not in told
    assert "t-number-1" not in told


async def test_c7_the_endpoint_is_not_waited_for_longer_than_allowed(api: Api, platform: Any) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    other = Api(App("cli_1", Secret("x"), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    with pytest.raises(FeishuError) as error:
        await other.endpoint(0.2)
    assert error.value.meaning == "unavailable"
    await other.close()
    server.close()


async def test_ids_from_outside_stay_one_part_of_the_path(api: Api, platform: Any) -> None:
    reply(platform)
    await api.patch_card("../../x?y", "{}")
    assert platform.calls[0].path == "/open-apis/im/v1/messages/..%2F..%2Fx%3Fy"


def test_codes_are_per_call() -> None:
    assert meaning_of("edit", 230072, 400, "") == "old"
    assert meaning_of("reply", 230072, 400, "") == "content"
    assert meaning_of("patch", 230099, 400, "ext=ErrCode: 11310; ErrMsg: card action is lock") == "locked"
    assert meaning_of("patch", 230099, 400, "ext=ErrCode: 11310; ErrMsg: element exceeds the limit") == "content"
    assert meaning_of("send", 230020, 400, "") == "busy"
    assert inner_code("Failed, ext=ErrCode: 200621; ErrMsg: x") == 200621
    assert inner_code("?") == 0
