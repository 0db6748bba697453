"""What people say in all its shapes, and what is quoted and attached."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.channels.feishu import messages
from regrow.channels.feishu.api import Api, App
from regrow.channels.feishu.messages import Reader, of_event, of_history, quoted, text_of
from regrow.intents import Intent
from regrow.secret import Secret
from regrow.understanding import understand

BOT = "ou_bot"
MENTIONS = {"@_user_1": (BOT, "bot"), "@_user_2": ("ou_tom", "Tom"), "@_user_10": ("ou_ann", "Ann")}
KEYS = (
    "event header message sender sender_id open_id message_id chat_id content tag mentions key id create_time "
    "sender_type text title body x"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS.split()),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)

AT_BOT = {"tag": "at", "user_id": "@_user_1"}
CODE = {"tag": "code_block", "language": "BASH", "text": "make x\n"}


def event(text: str = "@_user_1 重启", **message: Any) -> dict[str, Any]:
    said = {
        "message_id": "om_1",
        "create_time": "1774004563336",
        "chat_id": "oc_1",
        "chat_type": "group",
        "message_type": "text",
        "content": json.dumps({"text": text}),
        "mentions": [{"key": "@_user_1", "id": {"open_id": BOT}, "name": "bot"}],
    }
    return {
        "header": {"tenant_key": "t1"},
        "event": {
            "sender": {"sender_id": {"open_id": "ou_1", "union_id": "on_1"}, "sender_type": "user", "tenant_key": "t1"},
            "message": {**said, **message},
        },
    }


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("text", {"text": "@_user_1 重启一下"}, "重启一下"),
        ("text", {"text": "@_user_1 ask @_user_2 and @_user_10"}, "ask @Tom and @Ann"),
        ("text", {"text": "@_user_7 @_all"}, "@_user_7 @_all"),
        ("post", {"title": "T", "content": [[AT_BOT, {"tag": "text", "text": " 部署"}]]}, "T\n 部署"),
        ("post", {"zh_cn": {"title": "", "content": [[{"tag": "a", "text": "link", "href": "x"}]]}}, "link"),
        (
            "post",
            {"content": [[{"tag": "text", "text": "bug:"}], [CODE]]},
            "bug:\n\n```bash\nmake x\n```",
        ),
        ("post", {"content": [[{"tag": "img"}, {"tag": "emotion", "emoji_type": "OK"}], "x", [5]]}, "[image][OK]"),
        ("file", {"file_name": "app.log", "file_key": "k"}, "[file: app.log]"),
        ("image", {"image_key": "k"}, "[image]"),
        ("interactive", {"title": "Job", "elements": [[{"tag": "text", "text": "failed"}]]}, "Job\nfailed"),
        ("sticker", {}, "[sticker]"),
    ],
)  # fmt: skip
def test_words(kind: str, content: dict[str, Any], words: str) -> None:
    assert text_of(kind, json.dumps(content), MENTIONS, BOT) == words


def test_content_that_is_no_json_is_the_words() -> None:
    assert text_of("text", "This message was recalled", {}, BOT) == "This message was recalled"
    assert text_of("text", "[1]", {}, BOT) == ""


def test_the_event_and_the_history_say_the_same() -> None:
    said = of_event(event(thread_id="omt_1", parent_id="om_0"))
    item = {
        "message_id": "om_1",
        "create_time": "1774004563336",
        "chat_id": "oc_1",
        "msg_type": "text",
        "thread_id": "omt_1",
        "parent_id": "om_0",
        "body": {"content": json.dumps({"text": "@_user_1 重启"})},
        "sender": {"id": "ou_1", "id_type": "open_id", "sender_type": "user"},
        "mentions": [{"key": "@_user_1", "id": BOT, "id_type": "open_id", "name": "bot"}],
    }
    old = of_history(item, private=False)
    assert said is not None
    assert old is not None
    assert (said.message, said.place, said.sender_open, said.content, said.mentions) == (
        *(old.message, old.place, old.sender_open, old.content, old.mentions),
    )
    assert said.created_at == old.created_at == 1774004563.336
    assert messages.place(said.place) == ("oc_1", "omt_1")
    assert messages.place("oc_1") == ("oc_1", "")
    assert of_history({**item, "deleted": True}, private=False) is None
    assert of_history({**item, "sender": {"id": "cli_1", "sender_type": "app"}}, private=False) is None


def test_sixteen_digits_are_microseconds() -> None:
    said = of_event(event(create_time="1774004563336000"))
    assert said is not None
    assert said.created_at == 1774004563.336


@pytest.mark.parametrize(
    "broken", [{"message_id": "../x"}, {"message_id": ""}, {"chat_id": "a/b"}, {"create_time": "x"}, {"thread_id": "/"}]
)
def test_a_message_without_proper_ids_is_dropped(broken: dict[str, str]) -> None:
    assert of_event(event(**broken)) is None


@settings(deadline=None)
@given(JSON)
def test_any_event_is_a_message_or_nothing(value: Any) -> None:
    if isinstance(value, dict):
        of_event(value)
        of_history(value, private=True)
        for kind in ("text", "post", "file", "interactive"):
            text_of(kind, json.dumps(value), {}, BOT)


@settings(deadline=None)
@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40), max_size=10))
def test_quoted_text_is_never_a_script_nor_an_order(lines: list[str]) -> None:
    shown = quoted([*lines, "重启一下", "```sh", "rm -rf /", "```", "restart now"])
    asked = understand(shown)
    assert asked.intent is Intent.none
    assert asked.args.reproduction == ""
    assert asked.doubt == ()


def reader(platform: Any, clock: Any, **names: str) -> tuple[Reader, Api]:
    api = Api(App("cli_1", Secret("x"), platform.url), clock)
    return Reader(api, names.get), api


async def test_a_group_is_only_heard_when_the_bot_is_meant(platform: Any, clock: Any) -> None:
    one, api = reader(platform, clock)
    said = of_event(event())
    assert said is not None
    heard = await one.read(said, BOT)
    assert heard is not None
    assert (heard.text, heard.address.chat, heard.address.message, heard.sender) == ("重启", "oc_1", "om_1", "ou_1")
    assert await one.read(said, "ou_other") is None
    private = of_event(event("重启", chat_type="p2p", mentions=[]))
    assert private is not None
    assert await one.read(private, "") is not None
    await api.close()


async def test_a_quoted_file_comes_along_as_its_last_lines(platform: Any, clock: Any) -> None:
    log = "\n".join(f"line {n}" for n in range(100_000)) + "\nKeyError: 'tz'\n"

    def answer(call: Any) -> Any:
        if "/resources/" in call.path:
            return SimpleNamespace(body=log.encode(), status=200, headers={})
        item = {"message_id": "om_0", "msg_type": "file", "sender": {"sender_type": "user", "id": "ou_1"}}
        item["body"] = {"content": json.dumps({"file_key": "file_1", "file_name": "app.log"})}
        return SimpleNamespace(body={"code": 0, "data": {"items": [item]}}, status=200, headers={})

    platform.answer = answer
    one, api = reader(platform, clock)
    said = of_event(event("@_user_1 修一下这个bug: 提醒晚了八小时", parent_id="om_0"))
    assert said is not None
    heard = await one.read(said, BOT)
    assert heard is not None
    lines = heard.text.splitlines()
    assert lines[:2] == ["修一下这个bug: 提醒晚了八小时", "> [file: app.log]"]
    assert lines[-1] == "> KeyError: 'tz'"
    assert len(heard.text) < 40_000
    asked = understand(heard.text)
    assert (asked.intent, asked.args.bug) == (Intent.repair, "提醒晚了八小时")
    assert asked.args.evidence[-1] == "KeyError: 'tz'"
    assert [call.path.rpartition("/messages/")[2] for call in platform.calls] == [
        "om_0",
        "om_0/resources/file_1",
    ]
    await api.close()


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        (
            SimpleNamespace(body={"code": 230027, "msg": "no"}, status=400, headers={}),
            "[the quoted message could not be",
        ),
        (SimpleNamespace(body={"code": 0, "data": {"items": []}}, status=200, headers={}), ""),
    ],
    ids=["refused", "gone"],
)
async def test_a_quote_that_cannot_be_read_does_not_hold_up_the_words(
    platform: Any, clock: Any, reply: Any, note: str
) -> None:
    platform.answer = lambda call: reply
    one, api = reader(platform, clock)
    said = of_event(event(parent_id="om_0"))
    assert said is not None
    heard = await one.read(said, BOT)
    assert heard is not None
    assert heard.text.startswith("重启")
    assert note in heard.text
    assert understand(heard.text).intent is Intent.restart
    await api.close()
