"""What the platform's answers mean for an app, in both languages (F16)."""

from __future__ import annotations

from typing import Any

import pytest

from regrow.catalogue import LANGUAGES, Language
from regrow.channels.feishu.api import App
from regrow.channels.feishu.checks import NEEDED, USEFUL, Check, Checks
from regrow.channels.feishu.refusals import FeishuError
from regrow.secret import Secret

PAGE = "https://open.feishu.cn/app/cli_1"


def refused(code: int, meaning: Any = "config") -> FeishuError:
    return FeishuError(f"cannot other on Feishu: code {code}: no", meaning=meaning, code=code)


class Platform:
    """Answers, or errors, of the calls the checks make; everything is well."""

    def __init__(self, **answers: Any) -> None:
        granted = dict.fromkeys([*NEEDED, *USEFUL], True)
        event = {"subscription_type": "websocket", "subscribed_events": ["im.message.receive_v1"]}
        callback = {"callback_type": "websocket", "subscribed_callbacks": ["card.action.trigger"]}
        application = {"status": 1, "online_version_id": "oav_1", "event": event, "callback_info": callback}
        self.answers: dict[str, Any] = {
            "log_in": None,
            "me": {"open_id": "ou_b", "app_name": "bot", "activate_status": 2},
            "permissions": granted,
            "application": application,
            "version": {"event_infos": [{"event_type": "im.message.receive_v1"}]},
            "endpoint": (0, "", {}),
        } | answers

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object) -> Any:
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


async def look(language: Language = "en", proxy: str = "", **answers: Any) -> dict[str, Check]:
    app = App("cli_1", Secret("s" * 9), proxy=proxy)
    platform: Any = Platform(**answers)
    found = await Checks(platform, app, language).look()
    return {one.name: one for one in found}


def application(**fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = Platform().answers["application"] | fields
    return {key: value for key, value in told.items() if value is not None}


async def test_an_app_that_is_well() -> None:
    found = await look()
    assert {one.state for one in found.values()} == {"ok"}
    assert [one.mend for one in found.values() if one.mend] == []


HIDDEN = refused(99991672, "scope")
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("credentials", {"log_in": refused(10014)}, "bad", "secret"),
    ("credentials", {"log_in": refused(10003), "endpoint": (1000040351, "Incorrect domain name", {})}, "bad", "domain"),
    ("credentials", {"log_in": refused(99991401)}, "bad", "address"),
    ("credentials", {"log_in": refused(0, "unavailable")}, "bad", "reached"),
    ("bot", {"me": refused(11205, "no_bot")}, "bad", "no bot"),
    ("bot", {"me": refused(0, "unavailable")}, "unknown", "code 0"),
    ("version", {"application": application(online_version_id="")}, "bad", "no version"),
    ("version", {"application": application(unaudit_version_id="oav_2")}, "bad", "approval"),
    ("version", {"application": application(status=0)}, "bad", "switched off"),
    ("version", {"application": HIDDEN}, "unknown", "does not tell"),
    ("version", {"application": HIDDEN, "me": {"activate_status": 0}}, "bad", "not installed"),
    ("version", {"application": HIDDEN, "me": {"activate_status": 1}}, "bad", "switched off"),
    ("version", {"application": HIDDEN, "me": {"activate_status": 3}}, "bad", "switched on"),
    ("version", {"application": HIDDEN, "me": {"activate_status": 5}}, "bad", "licence"),
    ("version", {"application": HIDDEN, "me": {"activate_status": 99}}, "bad", "switched on"),
    ("permissions", {"permissions": {}}, "bad", "im:message.p2p_msg:readonly"),
    ("permissions", {"permissions": dict.fromkeys(NEEDED, False)}, "bad", "not granted yet"),
    ("permissions", {"permissions": refused(212100)}, "bad", "not installed"),
    ("permissions", {"permissions": refused(1, "fault")}, "unknown", "code 1"),
    ("events", {"application": application(event={"subscription_type": "webhook"})}, "bad", "web address"),
    ("events", {"application": application(event=None), "version": {"events": ["x"]}}, "bad", "not subscribed"),
    ("events", {"application": application(event=None)}, "unknown", "message that arrives"),
    ("events", {"application": HIDDEN}, "unknown", "message that arrives"),
    ("callbacks", {"application": application(callback_info={"callback_type": "webhook"})}, "bad", "web address"),
    ("callbacks", {"application": application(callback_info={"callback_type": "websocket"})}, "bad", "not subscribed"),
    ("callbacks", {"application": application(callback_info=None)}, "unknown", "press that arrives"),
    ("connection", {"endpoint": (1000040350, "many", {})}, "bad", "another process"),
    ("connection", {"endpoint": (1000040351, "domain", {})}, "bad", "other domain"),
    ("connection", {"endpoint": (514, "no", {})}, "bad", "does not accept"),
    ("connection", {"endpoint": (403, "no", {})}, "bad", "forbids"),
    ("connection", {"endpoint": (1000040345, "strange", {})}, "bad", "strange (code 1000040345)"),
    ("connection", {"endpoint": (1000040343, "later", {})}, "bad", "later"),
    ("connection", {"endpoint": (-1, "HTTP 502", {})}, "bad", "HTTP 502"),
    ("connection", {"endpoint": refused(0, "unavailable")}, "bad", "reached"),
]


@pytest.mark.parametrize(("name", "answers", "state", "part"), WRONG)
async def test_what_is_wrong_is_said_with_the_place_to_mend_it(
    name: str, answers: dict[str, Any], state: str, part: str
) -> None:
    found = (await look(**answers))[name]
    assert (found.state, part in found.detail) == (state, True), found
    assert state == "unknown" or found.mend
    chinese = (await look("zh", **answers))[name]
    assert (chinese.state, chinese.code) == (found.state, found.code)
    if state == "bad":
        assert chinese.detail != found.detail


async def test_the_first_refusal_ends_the_looking() -> None:
    assert list(await look(log_in=refused(10014))) == ["credentials"]


async def test_permissions_any_of_which_will_do_and_a_link_that_asks_for_the_missing() -> None:
    broad = {"im:message": True, "im:message.p2p_msg": True, "im:message.group_at_msg": True}
    found = (await look(permissions=broad))["permissions"]
    assert found.state == "ok"
    assert "missed in groups" in found.detail
    assert "while Regrow is away" not in found.detail
    found = (await look(permissions=dict.fromkeys(list(NEEDED)[:2], True)))["permissions"]
    assert found.mend.endswith(f"{PAGE}/auth?q=im:message:send_as_bot&op_from=openapi&token_type=tenant")


async def test_a_proxy_is_named_where_it_may_be_the_cause() -> None:
    lost = FeishuError("cannot get a token on Feishu: ProxyError", meaning="unavailable")
    found = (await look(proxy="http://127.0.0.1:1", log_in=lost))["credentials"]
    assert "through the proxy http://127.0.0.1:1 (ProxyError)" in found.detail


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_became_of_it_has_words(language: Language) -> None:
    platform: Any = Platform()
    checks = Checks(platform, App("cli_1", Secret("s" * 9), base_url="https://open.larksuite.com"), language)
    error = FeishuError("cannot send on Feishu: code 230013: no", meaning="gone", code=230013)
    red = [checks.connected("why"), checks.heard(False), checks.pressed(False), checks.sent(error)]
    red.append(checks.by_daemon({"healthy": False, "detail": "silent"}))
    assert {one.state for one in red} == {"bad"}
    assert [one for one in red if "https://open.larksuite.com/app/cli_1" not in one.mend] == []
    green = [checks.connected(""), checks.heard(True), checks.pressed(True), checks.sent(None)]
    green.append(checks.by_daemon({"healthy": True, "detail": "connected"}))
    assert {one.state for one in green} == {"ok"}
    assert checks.held("process 1").state == "unknown"
