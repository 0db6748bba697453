"""The conversation that every client has to pass, whoever wrote it: the official SDKs and ours.

The bot behind the client has to do this and no more:

* a message with the word `card` in it: react with `OK`, reply with the card `CARD`, then patch the card so that its
  `state` says `done`;
* any other message: reply `heard: TEXT` with the text of the message (mention keys left out or not), in the topic when
  the message is in one (`thread_id` is there);
* a press of `Approve`: answer with a toast `approved` of type `success` and with the card whose `state` says
  `approved`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from regrow.testing.feishu.chats import Message
from regrow.testing.feishu.emulator import FeishuEmulator

CARD: dict[str, Any] = {
    "schema": "2.0",
    "config": {"update_multi": True, "enable_forward": False, "summary": {"content": "Fix web"}},
    "header": {"template": "orange", "title": {"tag": "plain_text", "content": "Fix web"}},
    "body": {
        "elements": [
            {"tag": "markdown", "element_id": "state", "content": "working"},
            {
                "tag": "button",
                "element_id": "approve",
                "type": "primary_filled",
                "text": {"tag": "plain_text", "content": "Approve"},
                "confirm": {
                    "title": {"tag": "plain_text", "content": "Apply this fix?"},
                    "text": {"tag": "plain_text", "content": "to web"},
                },
                "behaviors": [{"type": "callback", "value": {"do": "approve"}}],
            },
        ]
    },
}
LONG = "请把网页服务重新启动一下，然后把最近的日志发给我看看，谢谢你。" * 4


def card(state: str) -> dict[str, Any]:
    """`CARD` whose first element says `state`."""
    said = copy.deepcopy(CARD)
    said["body"]["elements"][0]["content"] = state
    return said


@dataclass(frozen=True)
class Report:
    """What was seen.

    Args:
        answers: how often the event whose acknowledgement was ignored was answered: 1 by a client that remembers, 2 by
            the SDKs, which do not.
        attempts: of that event.
        connections: opened in all.
    """

    answers: int
    attempts: int
    connections: int


async def hold(feishu: FeishuEmulator, *, patience: float = 15.0) -> Report:
    """Hold the conversation with the first app's bot, which is connected or about to be.

    Args:
        feishu: running, with `Settings.quick()` or the like.
        patience: seconds for each answer.

    Returns:
        what may differ from client to client.

    Raises:
        AssertionError, TimeoutError: the client did not pass.
    """
    app = feishu.app
    alice, bob = feishu.user("Alice"), feishu.user("Bob")
    chat = feishu.group("ops", [alice, bob])
    private = alice.private(app)
    await feishu.connected(app, timeout=patience)

    # 1. A mention in a group: reaction, card, patch.
    asked = await alice.say(chat, "@bot card please")
    shown = await feishu.wait_for(chat, lambda message: message.card is not None, timeout=patience)
    await feishu.journal.wait(lambda: "done" in shown.text, timeout=patience, for_what="the patched card")
    _agree([reaction.emoji for reaction in asked.reactions], ["OK"], "reactions")
    _agree(shown.parent, asked, "what the card answers")
    _agree(["working" in shown.history[0], "done" in shown.history[-1]], [True, True], "versions of the card")

    # 2. Without a mention the bot hears nothing.
    unheard = await bob.say(chat, "nobody is meant")
    _agree(feishu.deliveries(unheard), [], "deliveries of a message without a mention")

    # 3. A private chat.
    await alice.say(private, "hello")
    await feishu.wait_for(private, "heard: hello", timeout=patience)

    # 4. A topic.
    begun = await alice.say(chat, "let us talk here", thread=asked)
    inside = await alice.say(chat, "@bot in the topic", thread=begun)
    answer = await feishu.wait_for(chat, lambda message: _heard(message, "in the topic"), timeout=patience)
    _agree(answer.thread_id, inside.thread_id, "topic of the answer")
    _agree(answer.thread_id != "", True, "that there is a topic")

    # 5. A press: first the question, then, by someone else, the answer.
    click = await alice.click(shown, "Approve")
    _agree(click.shown, "dialog", "what an unconfirmed press shows")
    click = await bob.click(shown, "Approve", confirm=True)
    _agree((click.shown, click.code, click.text, click.changed), ("toast", 0, "approved", True), "the answered press")
    _agree("approved" in shown.text, True, "that the card was replaced")

    # 6. Parts, cut inside of characters, in a wrong order.
    feishu.shard_next(4, shuffled=True)
    await alice.say(chat, f"@bot {LONG}")
    await feishu.wait_for(chat, lambda message: _heard(message, LONG), timeout=patience)

    # 7. An acknowledgement that is not seen.
    feishu.ignore_next_ack()
    again = await alice.say(private, "say this again")
    await feishu.delivered(again, timeout=patience)
    (delivery,) = feishu.deliveries(again)
    _agree(delivery.attempts, ["timeout", "200"], "attempts of the event whose acknowledgement was ignored")

    # 8. A reset, and on.
    feishu.reset(app)
    await feishu.disconnected(app, timeout=patience)
    await feishu.connected(app, timeout=patience)
    last = await alice.say(private, "still there?")
    await feishu.wait_for(private, "heard: still there?", timeout=patience)
    await feishu.delivered(last, timeout=patience)

    feishu.verify()
    return Report(
        answers=sum(message.parent is again or _heard(message, "say this again") for message in feishu.sent(private)),
        attempts=len(delivery.attempts),
        connections=len(feishu.journal.of("connection", did="opened")),
    )


def _heard(message: Message, text: str) -> bool:
    return message.text.startswith("heard:") and text in message.text


def _agree(seen: Any, wanted: Any, what: str) -> None:
    if seen != wanted:
        raise AssertionError(f"{what}: {seen!r}, not {wanted!r}")
