"""The bot of `regrow.testing.feishu.conversation` on the official Python SDK. Run in the SDK's own environment."""

from __future__ import annotations

import json
import os
from typing import Any

import lark_oapi as lark
from lark_oapi.api.im.v1 import (
    CreateMessageReactionRequest,
    CreateMessageReactionRequestBody,
    Emoji,
    P2ImMessageReceiveV1,
    PatchMessageRequest,
    PatchMessageRequestBody,
    ReplyMessageRequest,
    ReplyMessageRequestBody,
)
from lark_oapi.event.callback.model.p2_card_action_trigger import P2CardActionTrigger, P2CardActionTriggerResponse

BASE, APP, SECRET = os.environ["BASE_URL"], os.environ["APP_ID"], os.environ["APP_SECRET"]
CARD = json.loads(os.environ["CARD"])

client = lark.Client.builder().app_id(APP).app_secret(SECRET).domain(BASE).log_level(lark.LogLevel.WARNING).build()


def card(state: str) -> dict[str, Any]:
    CARD["body"]["elements"][0]["content"] = state
    return CARD


def reply(message_id: str, kind: str, content: dict[str, Any], in_thread: bool) -> str:
    body = (
        ReplyMessageRequestBody.builder()
        .msg_type(kind)
        .content(json.dumps(content, ensure_ascii=False))
        .reply_in_thread(in_thread)
        .build()
    )
    answer = client.im.v1.message.reply(ReplyMessageRequest.builder().message_id(message_id).request_body(body).build())
    assert answer.success(), answer.msg
    return str(answer.data.message_id)


def on_message(data: P2ImMessageReceiveV1) -> None:
    message = data.event.message
    text = json.loads(message.content)["text"]
    if "card" not in text:
        reply(message.message_id, "text", {"text": f"heard: {text}"}, bool(message.thread_id))
        return
    emoji = Emoji.builder().emoji_type("OK").build()
    reaction = CreateMessageReactionRequestBody.builder().reaction_type(emoji).build()
    answer = client.im.v1.message_reaction.create(
        CreateMessageReactionRequest.builder().message_id(message.message_id).request_body(reaction).build()
    )
    assert answer.success(), answer.msg
    shown = reply(message.message_id, "interactive", card("working"), bool(message.thread_id))
    body = PatchMessageRequestBody.builder().content(json.dumps(card("done"))).build()
    answer = client.im.v1.message.patch(PatchMessageRequest.builder().message_id(shown).request_body(body).build())
    assert answer.success(), answer.msg


def on_click(data: P2CardActionTrigger) -> P2CardActionTriggerResponse:
    assert data.event.action.value == {"do": "approve"}
    toast = {"type": "success", "content": "approved"}
    return P2CardActionTriggerResponse({"toast": toast, "card": {"type": "raw", "data": card("approved")}})


handler = (
    lark.EventDispatcherHandler.builder("", "")
    .register_p2_im_message_receive_v1(on_message)
    .register_p2_card_action_trigger(on_click)
    .build()
)
lark.ws.Client(APP, SECRET, event_handler=handler, domain=BASE, log_level=lark.LogLevel.INFO).start()
