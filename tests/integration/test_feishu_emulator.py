"""The emulator's own test: what it promises to those who test a client against it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Self

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from regrow.testing.feishu import App, FeishuEmulator, Message, Settings
from regrow.testing.feishu.conversation import card
from regrow.testing.feishu.frames import CONTROL, Frame, decode, encode

IM = "/open-apis/im/v1/messages"
KIT = "/open-apis/cardkit/v1/cards"
ENDPOINT = "/callback/ws/endpoint"
DEADLINE_S = 10.0

Answer = Callable[[dict[str, Any]], Any]


class Peer:
    """The smallest client: asks for a token once, acknowledges what comes, remembers it.

    `answer` may be replaced: its result is the acknowledgement's payload, None for no acknowledgement.
    """

    def __init__(self, feishu: FeishuEmulator, app: App | None = None) -> None:
        self.feishu = feishu
        self.app = app or feishu.app
        self.http = httpx.AsyncClient(base_url=feishu.base_url, trust_env=False, timeout=DEADLINE_S)
        self.token = ""
        self.bodies: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Any] = lambda body: {"code": 200}
        self.socket: ClientConnection | None = None
        self.task: asyncio.Task[None] | None = None
        self.parts: dict[str, dict[int, bytes]] = {}
        self.config: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()
        await self.http.aclose()

    async def address(self) -> dict[str, Any]:
        body = {"AppID": self.app.app_id, "AppSecret": self.app.secret}
        return (await self.http.post(ENDPOINT, json=body)).json()

    async def join(self) -> Self:
        """Connect, ping, and answer from now on."""
        data = (await self.address())["data"]
        self.config = data["ClientConfig"]
        self.socket = await connect(data["URL"], proxy=None, ping_interval=None, close_timeout=1)
        await self.socket.send(encode(Frame(service=33554678, headers=(("type", "ping"),))))
        self.task = asyncio.create_task(self.listen(self.socket))
        await self.feishu.connected(self.app)
        return self

    async def leave(self) -> None:
        if self.socket is not None:
            await self.socket.close()
        if self.task is not None:
            await self.task

    async def listen(self, socket: ClientConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for data in socket:
                assert isinstance(data, bytes)
                frame = decode(data)
                if frame.method == CONTROL:
                    self.config = json.loads(frame.payload or b"{}")
                    continue
                parts = self.parts.setdefault(frame.header("message_id"), {})
                parts[int(frame.header("seq"))] = frame.payload or b""
                if len(parts) < int(frame.header("sum")):
                    continue
                body = json.loads(b"".join(parts[index] for index in sorted(parts)))
                self.bodies.append(body)
                payload = self.answer(body)
                if asyncio.iscoroutine(payload):
                    payload = await payload
                if payload is not None:
                    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
                    await socket.send(encode(replace(frame, headers=(*frame.headers, ("biz_rt", "1")), payload=raw)))

    async def call(self, verb: str, path: str, body: Any = None, code: int = 0, **more: Any) -> dict[str, Any]:
        """Call an API and say which code is expected; the result is `data`."""
        answer = await self.raw(verb, path, body, **more)
        found = answer.json()
        assert found["code"] == code, found
        assert answer.headers["x-tt-logid"]
        return found.get("data", found)

    async def raw(self, verb: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        if not self.token:
            await self.log_in()
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.http.request(verb, path, json=body, headers=headers, **more)

    async def log_in(self) -> dict[str, Any]:
        body = {"app_id": self.app.app_id, "app_secret": self.app.secret}
        answer = (await self.http.post("/open-apis/auth/v3/tenant_access_token/internal", json=body)).json()
        self.token = answer.get("tenant_access_token", "")
        return answer

    async def send(self, chat_id: str, content: Any, code: int = 0, kind: str = "text", **more: Any) -> dict[str, Any]:
        if isinstance(content, str) and kind == "text":
            content = {"text": content}
        body = {
            "receive_id": chat_id,
            "msg_type": kind,
            "content": content if isinstance(content, str) else json.dumps(content, ensure_ascii=False),
            **more,
        }
        return await self.call("POST", f"{IM}?receive_id_type=chat_id", body, code)

    async def card(self, chat_id: str, content: dict[str, Any], code: int = 0) -> dict[str, Any]:
        return await self.send(chat_id, content, code, kind="interactive")


@contextlib.asynccontextmanager
async def world(
    *, joined: bool = True, stopped: bool = False, **numbers: Any
) -> AsyncIterator[tuple[FeishuEmulator, Peer]]:
    settings = Settings.quick()
    settings.running = not stopped
    for name, value in numbers.items():
        assert hasattr(settings, name)
        setattr(settings, name, value)
    async with FeishuEmulator(settings) as feishu, Peer(feishu) as peer:
        if joined:
            await peer.join()
        yield feishu, peer


def data(answer: Any) -> dict[str, Any]:
    """An acknowledgement with an answer: JSON once, base64 once."""
    return {"code": 200, "data": base64.b64encode(json.dumps(answer).encode()).decode()}


def inner(answer: dict[str, Any]) -> int:
    """The code inside of 230099."""
    assert answer["code"] == 230099
    return int(answer["msg"].split("ErrCode: ")[1].split(";")[0])


# Tokens and addresses


async def test_the_same_token_is_given_until_half_an_hour_is_left() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        first = await peer.log_in()
        assert first["expire"] == 7200
        feishu.advance(5400)
        same = await peer.log_in()
        assert (same["tenant_access_token"], same["expire"]) == (first["tenant_access_token"], 1800)
        feishu.advance(1)
        other = await peer.log_in()
        assert other["tenant_access_token"] != first["tenant_access_token"]
        for answer in (first, other):
            peer.token = answer["tenant_access_token"]
            await peer.call("GET", "/open-apis/bot/v3/info")
        feishu.advance(1799)
        peer.token = first["tenant_access_token"]
        await peer.call("GET", "/open-apis/bot/v3/info", code=99991663)


async def test_tokens_that_are_wrong_are_named() -> None:
    async with world(joined=False) as (feishu, peer):
        await peer.log_in()
        feishu.expire_tokens()
        await peer.call("GET", "/open-apis/bot/v3/info", code=99991663)
        assert (await peer.http.get("/open-apis/bot/v3/info")).json()["code"] == 99991661
        odd = await peer.http.get("/open-apis/bot/v3/info", headers={"Authorization": "Basic x"})
        assert (odd.status_code, odd.json()["code"]) == (400, 99991671)
        await peer.log_in()
        bot = (await peer.raw("GET", "/open-apis/bot/v3/info")).json()["bot"]
        assert (bot["open_id"], bot["app_name"]) == (feishu.app.open_id, "bot")
        feishu.app.enabled = False
        await peer.call("GET", "/open-apis/bot/v3/info", code=99991662)


async def test_an_address_opens_once_and_carries_what_the_sdks_need() -> None:
    async with world(joined=False) as (_feishu, peer):
        url = (await peer.address())["data"]["URL"]
        assert not url.split("?")[1].startswith(("device_id", "service_id"))
        async with connect(url, proxy=None):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, proxy=None)
        assert refused.value.response.headers["Handshake-Status"] == "514"


async def test_refused_endpoints_have_an_empty_data() -> None:
    async with world(joined=False) as (feishu, peer):
        body = {"AppID": feishu.app.app_id, "AppSecret": "not it"}
        assert (await peer.http.post(ENDPOINT, json=body)).json() == {
            "code": 514,
            "msg": "authentication failed",
            "data": {},
        }
        feishu.fail_next("POST /callback/ws/endpoint", status=200, code=1000040351)
        feishu.fail_next("POST /callback/ws/endpoint", status=500, raw="<html>")
        feishu.fail_next("POST /callback/ws/endpoint", status=200, code=1, data=False)
        assert (await peer.address()) == {"code": 1000040351, "msg": "injected", "data": {}}
        assert (await peer.http.post(ENDPOINT, json=body)).text == "<html>"
        assert "data" not in await peer.address()
        assert (await peer.address())["code"] == 0


async def test_fifty_connections_and_no_more() -> None:
    async with world(connections=2) as (feishu, _peer), Peer(feishu) as other, Peer(feishu) as third:
        url = (await third.address())["data"]["URL"]
        await other.join()
        assert (await third.address())["code"] == 1000040350
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None)
        assert refused.value.response.headers["Handshake-Autherrcode"] == "1000040350"


async def test_refused_upgrades_carry_their_headers() -> None:
    async with world(joined=False) as (feishu, peer):
        feishu.refuse_next_handshake(403, "forbidden")
        with pytest.raises(InvalidStatus) as refused:
            await peer.join()
        assert refused.value.response.headers["Handshake-Status"] == "403"
        assert refused.value.response.headers["Handshake-Msg"] == "forbidden"
        await peer.join()


# Frames


async def test_pings_are_answered_with_the_whole_configuration() -> None:
    async with world(ping_interval=7) as (feishu, peer):
        wanted = {"ReconnectCount": -1, "ReconnectInterval": 1, "ReconnectNonce": 0, "PingInterval": 7}
        assert peer.config == wanted
        feishu.settings.ping_interval = 9
        assert peer.socket is not None
        peer.config = {}
        await peer.socket.send(encode(Frame(service=33554678, headers=(("type", "ping"),))))
        said = await feishu.user("Alice").say(feishu.user("Alice").private(), "after the pong")
        await feishu.delivered(said)
        assert peer.config == {**wanted, "PingInterval": 9}
        feishu.verify()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (bytes.fromhex("18f68180102a0c0a0474797065120470696e67"), "missing required SeqID, LogID, method"),
        (b"\xff", "cut off"),
        ("text", "text message"),
        (encode(Frame(service=1, headers=(("type", "ping"),))), "service is 1"),
        (encode(Frame(service=33554678, method=1, headers=(("message_id", "nobody"),))), "unknown frame"),
    ],
)
async def test_bad_frames_are_reported(sent: bytes | str, why: str) -> None:
    async with world() as (feishu, peer):
        assert peer.socket is not None
        await peer.socket.send(sent)
        await feishu.journal.wait(lambda: feishu.journal.bad_frames, for_what="a bad frame")
        assert why in feishu.journal.bad_frames[0].what["why"]
        with pytest.raises(AssertionError, match="bad frame"):
            feishu.verify()


async def test_a_frame_without_required_fields_ends_the_connection() -> None:
    async with world() as (feishu, peer):
        assert peer.socket is not None
        await peer.socket.send(bytes.fromhex("18f68180102a0c0a0474797065120470696e67"))
        await feishu.disconnected()
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1002


async def test_a_silent_connection_and_an_unknown_path_are_found() -> None:
    async with world(joined=False) as (feishu, peer):
        async with connect((await peer.address())["data"]["URL"], proxy=None):
            await feishu.journal.wait(lambda: feishu.journal.of("connection", did="opened"))
        assert (await peer.raw("GET", "/open-apis/im/v9/nothing")).status_code == 404
        with pytest.raises(AssertionError) as wrong:
            feishu.verify()
        assert "unknown path: GET /open-apis/im/v9/nothing" in str(wrong.value)
        assert "no ping" in str(wrong.value)


async def test_changed_acknowledgements_are_reported() -> None:
    async with world() as (feishu, peer):
        assert peer.socket is not None and peer.task is not None
        peer.answer = lambda body: None
        said = await feishu.user("Alice").say(feishu.user("Alice").private(), "hello")
        await feishu.journal.wait(lambda: peer.parts, for_what="an event")
        number = next(iter(peer.parts))
        frame = Frame(1, 2, 33554678, 1, (("message_id", number), ("seq", "0")), b'{"StatusCode":0}')
        await peer.socket.send(encode(frame))
        await feishu.journal.wait(lambda: len(feishu.journal.bad_frames) >= 4)
        text = str([entry.what["why"] for entry in feishu.journal.bad_frames])
        for part in ("log_id", "header 'type'", "biz_rt", "StatusCode"):
            assert part in text
        assert feishu.deliveries(said)[0].outcome == "pending"


# Delivery


async def test_events_come_again_at_the_documented_times_and_are_given_up() -> None:
    async with world(joined=False, stopped=True) as (feishu, _peer):
        said = await feishu.user("Alice").say(feishu.user("Alice").private(), "anyone?")
        (delivery,) = feishu.deliveries(said)
        for number, wait in enumerate((15, 300, 3600, 21600), 1):
            await feishu.journal.wait(lambda number=number: len(delivery.attempts) == number)
            feishu.advance(wait)
        await feishu.delivered(said)
        assert (delivery.attempts, delivery.outcome) == (["no client"] * 5, "abandoned")
        times = [entry.at for entry in feishu.journal.of("delivery", did="attempt")]
        assert [round(time - times[0], 3) for time in times] == [0, 15, 315, 3915, 25515]


async def test_what_is_said_while_nobody_is_connected_comes_with_the_first_retry() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        said = await feishu.user("Alice").say(feishu.user("Alice").private(), "are you there?")
        await feishu.journal.wait(lambda: feishu.deliveries(said)[0].attempts)
        await peer.join()
        feishu.advance(15)
        (delivery,) = await feishu.delivered(said)
        assert delivery.attempts == ["no client", "200"]
        assert peer.bodies[0]["event"]["message"]["message_id"] == said.id


async def test_an_ignored_acknowledgement_brings_the_event_again_with_its_ids() -> None:
    async with world(ack_timeout=0.2) as (feishu, peer):
        feishu.ignore_next_ack(attempts=2)
        said = await feishu.user("Alice").say(feishu.user("Alice").private(), "hello")
        feishu.settings.retries = (15.0, 15.0)
        (delivery,) = await feishu.delivered(said)
        assert delivery.attempts == ["timeout", "timeout", "200"]
        assert peer.bodies[0] == peer.bodies[1] == peer.bodies[2]
        assert len(peer.parts) == 3, "every attempt has a frame message_id of its own"
        feishu.verify()


async def test_a_failed_event_comes_again_and_a_late_acknowledgement_counts_for_nothing() -> None:
    async with world(ack_timeout=0.2) as (feishu, peer):
        late = asyncio.Event()
        codes = iter([500, 200])

        async def answer(body: dict[str, Any]) -> dict[str, Any]:
            code = next(codes)
            if code == 200:
                await late.wait()
            return {"code": code}

        peer.answer = answer
        said = await feishu.user("Alice").say(feishu.user("Alice").private(), "hello")
        (delivery,) = feishu.deliveries(said)
        await feishu.journal.wait(lambda: delivery.attempts == ["500", "timeout"])
        peer.answer = lambda body: {"code": 200}
        late.set()
        await feishu.journal.wait(lambda: feishu.journal.of("frame", did="ack", late=True))
        assert delivery.outcome == "pending"
        feishu.advance(300)
        await feishu.delivered(said)
        assert delivery.attempts == ["500", "timeout", "200"]


async def test_each_of_twenty_events_goes_to_exactly_one_of_two_clients() -> None:
    async with world() as (feishu, one), Peer(feishu) as two:
        await two.join()
        await feishu.connected(count=2)
        alice = feishu.user("Alice")
        said = [await alice.say(alice.private(), f"number {number}") for number in range(20)]
        for message in said:
            await feishu.delivered(message)
        got = [body["event"]["message"]["message_id"] for body in one.bodies + two.bodies]
        assert sorted(got) == sorted(message.id for message in said)
        feishu.verify()


async def test_duplicates_come_with_old_and_with_new_ids() -> None:
    async with world() as (feishu, peer):
        alice = feishu.user("Alice")
        feishu.duplicate()
        feishu.duplicate(new_event_id=True)
        feishu.duplicate(new_id=True)
        for text in ("same", "event", "message"):
            await feishu.delivered(await alice.say(alice.private(), text))
        await feishu.journal.wait(lambda: len(peer.bodies) == 6, for_what="six events")
        ids: dict[str, list[tuple[str, str]]] = {}
        for body in peer.bodies:
            message = body["event"]["message"]
            ids.setdefault(json.loads(message["content"])["text"], []).append(
                (body["header"]["event_id"], message["message_id"])
            )
        differ = {text: tuple(len({pair[part] for pair in pairs}) for part in (0, 1)) for text, pairs in ids.items()}
        assert differ == {"same": (1, 1), "event": (2, 1), "message": (2, 2)}
        for _, message_id in ids["message"]:
            await peer.call("POST", f"{IM}/{message_id}/reactions", {"reaction_type": {"emoji_type": "OK"}})


async def test_a_lost_event_is_in_the_history() -> None:
    async with world() as (feishu, peer):
        alice = feishu.user("Alice")
        feishu.lose_next()
        lost = await alice.say(alice.private(), "lost")
        seen = await alice.say(alice.private(), "seen")
        await feishu.delivered(seen)
        assert [delivery.outcome for delivery in feishu.deliveries(lost)] == ["lost"]
        assert len(peer.bodies) == 1
        query = {"container_id_type": "chat", "container_id": alice.private().id}
        found = await peer.call("GET", IM, params=query)
        assert [item["message_id"] for item in found["items"]] == [lost.id, seen.id]


@pytest.mark.parametrize("shuffled", [False, True])
async def test_parts_are_cut_inside_of_characters_and_acknowledged_once(shuffled: bool) -> None:
    async with world() as (feishu, peer):
        feishu.shard_next(4, shuffled=shuffled)
        alice = feishu.user("Alice")
        text = "请把网页服务重新启动一下" * 20
        (delivery,) = await feishu.delivered(await alice.say(alice.private(), text))
        assert json.loads(peer.bodies[0]["event"]["message"]["content"])["text"] == text
        (parts,) = peer.parts.values()
        assert len(parts) == 4
        assert any(part[0] & 0xC0 == 0x80 for part in parts.values())
        assert delivery.acks == 1
        feishu.verify()


async def test_an_incomplete_event_comes_again_complete() -> None:
    async with world(ack_timeout=0.2) as (feishu, _peer):
        feishu.shard_next(3, incomplete=True)
        alice = feishu.user("Alice")
        (delivery,) = await feishu.delivered(await alice.say(alice.private(), "three parts, and one is missing"))
        assert delivery.attempts == ["timeout", "200"]


async def test_connections_are_closed_reset_and_frozen() -> None:
    async with world(ack_timeout=0.2) as (feishu, peer):
        assert peer.socket is not None
        assert await feishu.drop_connections(code=1012) == 1
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1012
        await peer.join()
        assert feishu.reset() == 1
        with pytest.raises(ConnectionClosedError):
            while True:
                await peer.socket.ping()
                await peer.socket.wait_closed()
        await peer.join()
        assert feishu.freeze() == 1
        pong = await peer.socket.ping()
        alice = feishu.user("Alice")
        said = await alice.say(alice.private(), "into the void")
        await feishu.journal.wait(lambda: feishu.deliveries(said)[0].attempts == ["timeout"])
        assert not pong.done()
        # Two would be open otherwise, and an event goes to either.
        (dead,) = feishu.gateway.connections
        dead.socket.transport.abort()
        await feishu.journal.wait(lambda: feishu.gateway.connections == [])
        peer.socket = None
        await peer.join()
        await feishu.connected()
        feishu.advance(22000)
        (delivery,) = await feishu.delivered(said)
        assert delivery.attempts[-1] == "200"


# Who is told


async def test_a_group_message_reaches_the_bot_only_when_it_is_mentioned() -> None:
    async with world() as (feishu, peer):
        alice, bob = feishu.user("Alice"), feishu.user("Bob")
        chat = feishu.group("ops", [alice, bob])
        for text in ("nobody", "@Bob you", "@all of you"):
            assert feishu.deliveries(await alice.say(chat, text)) == []
        said = await alice.say(chat, "@bot and @Bob, 重启一下")
        await feishu.delivered(said)
        message = peer.bodies[0]["event"]["message"]
        assert json.loads(message["content"])["text"] == "@_user_1 and @_user_2, 重启一下"
        assert [(each["key"], each["id"]["open_id"]) for each in message["mentions"]] == [
            ("@_user_1", feishu.app.open_id),
            ("@_user_2", bob.open_id()),
        ]
        assert peer.bodies[0]["event"]["sender"]["sender_id"] == {
            "open_id": alice.open_id(),
            "union_id": alice.union_id,
        }
        assert peer.bodies[0]["header"]["token"] == ""
        assert (said.text, message["chat_type"]) == ("@bot and @Bob, 重启一下", "group")
        feishu.app.scopes.add("im:message.group_msg")
        await feishu.delivered(await alice.say(chat, "overheard"))
        assert len(peer.bodies) == 2


async def test_quotes_topics_and_posts() -> None:
    async with world() as (feishu, peer):
        alice = feishu.user("Alice")
        chat = feishu.group("ops", [alice])
        root = await alice.say(chat, "the build failed")
        quoting = await alice.say(chat, "@bot fix this", quote=root)
        topic = await alice.say(chat, "@bot in a topic", thread=root)
        post = await alice.say(chat, "@bot first line\nsecond @bot line", kind="post")
        for message in (quoting, topic, post):
            await feishu.delivered(message)
        events = {body["event"]["message"]["message_id"]: body["event"]["message"] for body in peer.bodies}
        assert (events[quoting.id]["parent_id"], events[quoting.id]["root_id"]) == (root.id, root.id)
        assert "thread_id" not in events[quoting.id]
        assert events[topic.id]["thread_id"].startswith("omt_")
        assert events[topic.id]["root_id"] == events[topic.id]["parent_id"] == root.id
        runs = json.loads(events[post.id]["content"])["content"]
        assert [[run["tag"] for run in line] for line in runs] == [["at", "text"], ["text", "at", "text"]]
        assert post.text == "@bot first line\nsecond @bot line"
        feishu.app.scopes.add("im:message.group_msg")
        (item,) = (await peer.call("GET", f"{IM}/{root.id}"))["items"]
        assert json.loads(item["body"]["content"]) == {"text": "the build failed"}


async def test_two_apps_know_a_person_by_two_ids() -> None:
    async with world() as (feishu, peer):
        other = feishu.add_app("helper")
        alice = feishu.user("Alice")
        assert alice.open_id() != alice.open_id(other)
        async with Peer(feishu, other) as second:
            await second.join()
            chat = feishu.group("ops", [alice], [feishu.app, other])
            said = await alice.say(chat, "@bot and @helper")
            await feishu.delivered(said)
            assert len(peer.bodies) == len(second.bodies) == 1
            path = f"{IM}?receive_id_type=open_id"
            body = {"receive_id": alice.open_id(other), "msg_type": "text", "content": '{"text":"x"}'}
            await peer.call("POST", path, body, code=99992361)
            await second.call("POST", path, body)
            await peer.call("POST", path, {**body, "receive_id": "ou_nobody"}, code=99992351)


async def test_reactions_and_recalls_are_told_to_those_who_subscribed() -> None:
    async with world() as (feishu, peer):
        feishu.app.events |= {"im.message.reaction.created_v1", "im.message.recalled_v1"}
        alice = feishu.user("Alice")
        sent = feishu.message((await peer.send(alice.private().id, "hello"))["message_id"])
        for deliveries in (await alice.react(sent, "THUMBSUP"), await alice.recall(sent)):
            await deliveries[0].done.wait()
        assert [body["event"]["message_id"] for body in peer.bodies] == [sent.id, sent.id]
        assert peer.bodies[0]["event"]["reaction_type"] == {"emoji_type": "THUMBSUP"}
        await peer.call("POST", f"{IM}/{sent.id}/reply", {"msg_type": "text", "content": '{"text":"x"}'}, code=230011)


# Messages


async def test_the_same_uuid_gives_the_same_message_for_an_hour() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        chat = feishu.user("Alice").private()
        first = await peer.send(chat.id, "once", uuid="u1")
        assert (await peer.send(chat.id, "once", uuid="u1"))["message_id"] == first["message_id"]
        feishu.advance(3601)
        assert (await peer.send(chat.id, "once", uuid="u1"))["message_id"] != first["message_id"]
        await peer.send(chat.id, "x", uuid="u" * 51, code=99992402)
        assert len(feishu.sent(chat)) == 2


async def test_an_answer_is_lost_after_the_work_was_done() -> None:
    async with world(joined=False) as (feishu, peer):
        chat = feishu.user("Alice").private()
        feishu.lose_next_answer("POST /im/v1/messages")
        with pytest.raises(httpx.RemoteProtocolError):
            await peer.send(chat.id, "once", uuid="u1")
        await peer.send(chat.id, "once", uuid="u1")
        assert [message.text for message in feishu.sent(chat)] == ["once"]


async def test_the_sixth_send_in_a_second_is_refused_for_every_bot_of_the_chat() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        other = feishu.add_app("helper")
        chat = feishu.group("ops", [], [feishu.app, other])
        for number in range(5):
            await peer.send(chat.id, f"{number}")
        await peer.send(chat.id, "5", code=230020)
        async with Peer(feishu, other) as second:
            await second.send(chat.id, "5", code=230020)
        feishu.advance(1)
        await peer.send(chat.id, "5")
        feishu.another_bot_talks(chat)
        await peer.send(chat.id, "6", code=230020)


async def test_the_sixth_patch_in_a_second_and_a_patch_after_fourteen_days_are_refused() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        chat = feishu.user("Alice").private()
        sent = await peer.card(chat.id, card("0"))
        path = f"{IM}/{sent['message_id']}"
        for number in range(1, 6):
            await peer.call("PATCH", path, {"content": json.dumps(card(str(number)))})
        await peer.call("PATCH", path, {"content": json.dumps(card("6"))}, code=230020)
        message = feishu.message(sent["message_id"])
        assert [text.split("\n")[1] for text in message.history] == list("012345")
        feishu.advance(14 * 86400 - 10)
        await peer.log_in()
        await peer.call("PATCH", path, {"content": json.dumps(card("6"))})
        feishu.advance(11)
        await peer.call("PATCH", path, {"content": json.dumps(card("7"))}, code=230031)


async def test_a_text_is_edited_twenty_times() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        chat = feishu.user("Alice").private()
        path = f"{IM}/{(await peer.send(chat.id, 'first'))['message_id']}"
        for number in range(20):
            body = {"msg_type": "text", "content": json.dumps({"text": f"edit {number}"})}
            await peer.call("PUT", path, body)
        await peer.call("PUT", path, body, code=230072)
        assert feishu.sent(chat)[0].text == "edit 19"
        await peer.call("PATCH", path, {"content": json.dumps(card("x"))}, code=230054)


async def test_calls_are_limited_by_second_by_minute_and_by_month() -> None:
    async with world(joined=False, stopped=True, per_api_second=2, per_api_minute=3, monthly_quota=4) as (feishu, peer):
        info = "/open-apis/bot/v3/info"
        await peer.call("GET", info)
        await peer.call("GET", info)
        refused = await peer.raw("GET", info)
        assert (refused.status_code, refused.json()["code"]) == (429, 99991400)
        assert (refused.headers["x-ogw-ratelimit-limit"], refused.headers["x-ogw-ratelimit-reset"]) == ("2", "2")
        feishu.advance(1)
        await peer.call("GET", info)
        feishu.advance(1)
        refused = await peer.raw("GET", info)
        assert refused.headers["x-ogw-ratelimit-reset"] == "59"
        feishu.advance(60)
        await peer.call("GET", info)
        await peer.call("GET", info, code=99991403)


async def test_calls_fail_as_asked() -> None:
    async with world(joined=False) as (feishu, peer):
        chat = feishu.user("Alice").private()
        feishu.fail_next("POST /im/v1/messages", 429, 99991400, headers={"x-ogw-ratelimit-reset": "3"})
        feishu.fail_next("PATCH /im/v1/messages/*", 500, raw="<html>")
        sent = await peer.raw("POST", f"{IM}?receive_id_type=chat_id", {})
        assert (sent.status_code, sent.headers["x-ogw-ratelimit-reset"]) == (429, "3")
        sent = await peer.card(chat.id, card("x"))
        assert (await peer.raw("PATCH", f"{IM}/{sent['message_id']}", {})).text == "<html>"
        feishu.hang_next("GET /bot/v3/info")
        with pytest.raises(httpx.ReadTimeout):
            await peer.raw("GET", "/open-apis/bot/v3/info", timeout=0.1)
        feishu.verify()


async def test_what_cannot_be_sent_is_refused_with_its_code() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        alice = feishu.user("Alice")
        chat = feishu.group("ops", [alice])
        await peer.send(chat.id, "x" * 150 * 1024, code=230025)
        await peer.send(chat.id, "not JSON", kind="post", code=230001)
        await peer.send(chat.id, "", code=230001)
        await peer.send(chat.id, {"file_key": "file_of_nobody"}, kind="file", code=230017)
        await peer.send("oc_nowhere", "x", code=230001)
        await peer.send(feishu.group("others", [alice], []).id, "x", code=230002)
        chat.muted = True
        await peer.send(chat.id, "x", code=230018)
        chat.dissolved = True
        await peer.send(chat.id, "x", code=232009)
        private = alice.private()
        alice.leave()
        await peer.send(private.id, "x", code=230029)
        user = (await peer.call("GET", f"/open-apis/contact/v3/users/{alice.open_id()}"))["user"]
        assert user["status"]["is_resigned"]
        feishu.app.scopes.remove("im:message:send_as_bot")
        answer = (await peer.raw("POST", f"{IM}?receive_id_type=chat_id", {})).json()
        assert answer["code"] == 99991672
        assert "im:message:send_as_bot" in answer["msg"]


async def test_a_mention_that_was_copied_from_a_log_is_seen() -> None:
    async with world(joined=False) as (feishu, peer):
        alice = feishu.user("Alice")
        chat = feishu.group("ops", [alice])
        calls = feishu.message((await peer.send(chat.id, '<at user_id="all">x</at> look'))["message_id"])
        one = feishu.message((await peer.send(chat.id, f'<at user_id="{alice.open_id()}">x</at> look'))["message_id"])
        loud = feishu.message((await peer.card(chat.id, card("<at id=all></at>")))["message_id"])
        fenced = feishu.message((await peer.card(chat.id, card("```\n<at id=all></at>\n```")))["message_id"])
        assert [each.alerts_all for each in (calls, one, loud, fenced)] == [True, False, True, False]
        assert one.text == "@Alice look"
        refused = (
            await peer.raw(
                "POST",
                f"{IM}?receive_id_type=chat_id",
                {
                    "receive_id": chat.id,
                    "msg_type": "interactive",
                    "content": json.dumps(card("<at id=ou_nobody></at>")),
                },
            )
        ).json()
        assert inner(refused) == 100290


async def test_history_pages_and_keeps_the_documented_gaps() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        alice = feishu.user("Alice")
        chat = feishu.group("ops", [alice])
        query: dict[str, Any] = {"container_id_type": "chat", "container_id": chat.id}
        await peer.call("GET", IM, params=query, code=230027)
        feishu.app.scopes.add("im:message.group_msg")
        said = []
        for number in range(5):
            said.append(await alice.say(chat, f"number {number}"))
            feishu.advance(10)
        inside = await alice.say(chat, "in the topic", thread=said[0])
        page = await peer.call("GET", IM, params={**query, "page_size": 3})
        rest = await peer.call("GET", IM, params={**query, "page_size": 3, "page_token": page["page_token"]})
        assert [item["message_id"] for item in page["items"] + rest["items"]] == [each.id for each in said]
        assert (page["has_more"], rest["has_more"]) == (True, False)
        late = {"start_time": said[3].created // 1000, "sort_type": "ByCreateTimeDesc"}
        found = await peer.call("GET", IM, params={**query, **late})
        assert [item["message_id"] for item in found["items"]] == [said[4].id, said[3].id]
        topic = {"container_id_type": "thread", "container_id": inside.thread_id, **late}
        found = await peer.call("GET", IM, params=topic)
        assert [item["message_id"] for item in found["items"]] == [inside.id, said[0].id]
        await peer.call("GET", IM, params={**query, "page_size": 51}, code=99992402)
        mentioning = await alice.say(chat, "@bot look")
        await alice.recall(said[1])
        found = await peer.call("GET", IM, params={**query, "page_size": 50})
        by_id = {item["message_id"]: item for item in found["items"]}
        assert by_id[said[1].id]["deleted"] is True
        assert by_id[said[1].id]["body"]["content"] == "This message was recalled"
        (mention,) = by_id[mentioning.id]["mentions"]
        assert (mention["id"], mention["id_type"]) == (feishu.app.open_id, "open_id")
        assert by_id[said[0].id]["sender"]["id"] == alice.open_id()
        assert int(by_id[said[0].id]["create_time"]) == said[0].created


async def test_cards_come_back_changed_from_the_history() -> None:
    async with world(joined=False) as (feishu, peer):
        chat = feishu.user("Alice").private()
        await peer.card(chat.id, card("working"))
        query = {"container_id_type": "chat", "container_id": chat.id}
        (item,) = (await peer.call("GET", IM, params=query))["items"]
        assert item["sender"]["sender_type"] == "app"
        assert "body" not in json.loads(item["body"]["content"])


async def test_files_are_uploaded_and_sent_by_their_owner_only() -> None:
    async with world(joined=False) as (feishu, peer):
        await peer.log_in()
        headers = {"Authorization": f"Bearer {peer.token}"}
        log = b"line\r\n--not a boundary\r\n\x00\xff"
        answer = await peer.http.post(
            "/open-apis/im/v1/files",
            data={"file_type": "stream", "file_name": "日志.log"},
            files={"file": ("log", log)},
            headers=headers,
        )
        key = answer.json()["data"]["file_key"]
        assert feishu.messages.uploads[key] == (feishu.app, "日志.log", log)
        chat = feishu.user("Alice").private()
        await peer.send(chat.id, {"file_key": key}, kind="file")
        empty = await peer.http.post(
            "/open-apis/im/v1/files", data={"file_type": "stream"}, files={"file": ("log", b"")}, headers=headers
        )
        assert empty.json()["code"] == 234010
        async with Peer(feishu, feishu.add_app("helper")) as other:
            theirs = feishu.user("Alice").private(other.app)
            await other.send(theirs.id, {"file_key": key}, kind="file", code=230017)


async def test_members_users_and_reactions_are_listed() -> None:
    async with world(joined=False) as (feishu, peer):
        alice, bob = feishu.user("Alice"), feishu.user("Bob", guest=True)
        chat = feishu.group("ops", [alice, bob])
        members = (await peer.call("GET", f"/open-apis/im/v1/chats/{chat.id}/members"))["items"]
        assert [each["member_id"] for each in members] == [alice.open_id(), bob.open_id()]
        assert members[0]["tenant_key"] != members[1]["tenant_key"]
        query = {"user_ids": f"{alice.open_id()},ou_nobody"}
        users = (await peer.call("GET", "/open-apis/contact/v3/users/batch", params=query))["items"]
        assert [user["name"] for user in users] == ["Alice"]
        said = await alice.say(chat, "hello")
        path = f"{IM}/{said.id}/reactions"
        made = await peer.call("POST", path, {"reaction_type": {"emoji_type": "OK"}})
        await alice.react(said, "HEART")
        assert len((await peer.call("GET", path))["items"]) == 2
        await peer.call("DELETE", f"{path}/{made['reaction_id']}")
        assert [reaction.emoji for reaction in said.reactions] == ["HEART"]
        assert (await peer.call("GET", "/open-apis/event/v1/connection"))["online_instance_cnt"] == 0


# The console


async def test_an_app_is_told_of_its_settings() -> None:
    async with world(joined=False) as (feishu, peer):
        app, own = feishu.app, "/open-apis/application/v6/applications"
        await peer.call("GET", f"{own}/me", code=99991672)
        app.scopes.add("application:application:self_manage")
        app.asked.add("im:message.group_msg")
        told = (await peer.call("GET", f"{own}/{app.app_id}", params={"lang": "zh_cn"}))["app"]
        assert (told["status"], told["online_version_id"], told["unaudit_version_id"]) == (1, app.version, "")
        assert told["event"]["subscription_type"] == told["callback_info"]["callback_type"] == "websocket"
        version = (await peer.call("GET", f"{own}/me/app_versions/{app.version}"))["app_version"]
        assert [info["event_type"] for info in version["event_infos"]] == ["im.message.receive_v1"]
        await peer.call("GET", f"{own}/me/app_versions/oav_0", code=211002)
        await peer.call("GET", f"{own}/cli_0", code=210508)
        scopes = (await peer.call("GET", "/open-apis/application/v6/scopes"))["scopes"]
        assert [scope["scope_name"] for scope in scopes if scope["grant_status"] == 2] == ["im:message.group_msg"]
        app.published = app.reviewed = feishu.settings.subscriptions_told = False
        told = (await peer.call("GET", f"{own}/me"))["app"]
        assert (told["status"], told["online_version_id"], bool(told["unaudit_version_id"])) == (2, "", True)
        assert "event" not in told
        assert (await peer.call("GET", "/open-apis/bot/v3/info"))["bot"]["activate_status"] == 0
        app.bot = False
        await peer.call("GET", "/open-apis/bot/v3/info", code=11205)
        await peer.send(feishu.group("ops", []).id, "hello", code=230006)


async def test_people_are_found_by_address_and_number() -> None:
    async with world(joined=False) as (feishu, peer):
        alice, path = feishu.user("Alice"), "/open-apis/contact/v3/users/batch_get_id"
        alice.person.mobile = "+8613000000000"
        body = {"emails": ["Alice@example.invalid", "x@example.invalid"], "mobiles": ["+8613000000000"]}
        await peer.call("POST", path, body, code=99991672)
        feishu.app.scopes.add("contact:user.id:readonly")
        rows = (await peer.call("POST", path, body, params={"user_id_type": "open_id"}))["user_list"]
        assert [row.get("user_id") for row in rows] == [alice.open_id(), None, alice.open_id()]


async def test_the_long_connection_is_a_setting_that_needs_a_connection() -> None:
    async with world(joined=False) as (feishu, peer):
        app, alice = feishu.app, feishu.user("Alice")
        app.event_mode = app.callback_mode = "webhook"
        with pytest.raises(PermissionError):
            feishu.use_long_connection()
        await peer.join()
        assert feishu.deliveries(await alice.say(alice.private(), "hello")) == []
        sent = await shown(feishu, peer)
        assert (await alice.click(sent, "Approve", confirm=True)).code == 200340
        feishu.use_long_connection()
        assert len(await feishu.delivered(await alice.say(alice.private(), "hello"))) == 1
        app.elsewhere = True
        assert (await peer.address())["code"] == 1000040351
        assert (await peer.log_in())["code"] == 10014


# Cards


def body_of(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"schema": "2.0", "body": {"elements": list(elements)}}


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"tag": "markdown", "content": content, **more}


async def test_the_largest_cards_pass_and_larger_ones_do_not() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        chat = feishu.user("Alice").private()

        def sized(size: int) -> str:
            empty = json.dumps(body_of(text("")))
            return json.dumps(body_of(text("x" * (size - len(empty)))))

        await peer.send(chat.id, sized(30 * 1024), kind="interactive")
        await peer.send(chat.id, sized(30 * 1024 + 1), kind="interactive", code=230025)
        await peer.card(chat.id, body_of(*[text("x")] * 200))
        path = f"{IM}?receive_id_type=chat_id"
        many = json.dumps(body_of(*[text("x")] * 201))
        request = {"receive_id": chat.id, "msg_type": "interactive", "content": many}
        assert inner((await peer.raw("POST", path, request)).json()) == 11310
        kit = {"type": "card_json"}
        await peer.call("POST", KIT, {**kit, "data": many}, code=300305)
        await peer.call("POST", KIT, {**kit, "data": sized(30 * 1024 + 1)}, code=200860)


# CardKit


async def entity(peer: Peer, content: dict[str, Any] | None = None) -> str:
    made = await peer.call("POST", KIT, {"type": "card_json", "data": json.dumps(content or card("new"))})
    return str(made["card_id"])


async def test_an_entity_is_sent_once_and_changed_in_order() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        chat = feishu.user("Alice").private()
        card_id = await entity(peer)
        content = {"type": "card", "data": {"card_id": card_id}}
        sent = feishu.message((await peer.card(chat.id, content))["message_id"])
        await peer.card(chat.id, content, code=230099)
        put = {"card": {"type": "card_json", "data": json.dumps(card("changed"))}}
        await peer.call("PUT", f"{KIT}/{card_id}", {**put, "sequence": 0}, code=300317)
        await peer.call("PUT", f"{KIT}/{card_id}", {**put, "sequence": 3, "uuid": "a"})
        await peer.call("PUT", f"{KIT}/{card_id}", {**put, "sequence": 3}, code=300317)
        await peer.call("PUT", f"{KIT}/{card_id}", {**put, "sequence": 4, "uuid": "a"}, code=200770)
        assert "changed" in sent.text
        more = {
            "type": "insert_after",
            "target_element_id": "state",
            "elements": json.dumps([text("more", element_id="m")]),
        }
        await peer.call("POST", f"{KIT}/{card_id}/elements", {**more, "sequence": 5})
        feishu.advance(1)
        part = {"partial_element": json.dumps({"content": "other"}), "sequence": 6}
        await peer.call("PATCH", f"{KIT}/{card_id}/elements/m", part)
        assert sent.text.split("\n")[1:3] == ["changed", "other"]
        tag = {"partial_element": json.dumps({"tag": "hr"}), "sequence": 7}
        await peer.call("PATCH", f"{KIT}/{card_id}/elements/m", tag, code=300312)
        actions = [{"action": "delete_elements", "params": {"element_ids": ["m"]}}]
        await peer.call("POST", f"{KIT}/{card_id}/batch_update", {"actions": json.dumps(actions), "sequence": 7})
        await peer.call("DELETE", f"{KIT}/{card_id}/elements/m", {"sequence": 8}, code=300313 + 1)
        double = {**more, "elements": json.dumps([text("x", element_id="state")]), "sequence": 9}
        await peer.call("POST", f"{KIT}/{card_id}/elements", double, code=300301)
        assert (await peer.call("POST", f"{KIT}/id_convert", {"message_id": sent.id}))["card_id"] == card_id
        await peer.call("PUT", f"{KIT}/nothing", {**put, "sequence": 9}, code=200740)
        async with Peer(feishu, feishu.add_app("helper")) as other:
            await other.call("PUT", f"{KIT}/{card_id}", {**put, "sequence": 9}, code=300311)
        feishu.advance(14 * 86400)
        await peer.log_in()
        await peer.call("PUT", f"{KIT}/{card_id}", {**put, "sequence": 9}, code=200750)


async def test_streaming_ends_by_itself_and_says_so_once() -> None:
    async with world(joined=False, stopped=True) as (feishu, peer):
        card_id = await entity(peer)
        path = f"{KIT}/{card_id}/elements/state/content"
        await peer.call("PUT", path, {"content": "a", "sequence": 1}, code=300309)
        on = {"settings": json.dumps({"config": {"streaming_mode": True}})}
        await peer.call("PATCH", f"{KIT}/{card_id}/settings", {**on, "sequence": 1})
        await peer.call("PUT", path, {"content": "a", "sequence": 2})
        await peer.call("PUT", path.replace("state", "approve"), {"content": "a", "sequence": 3}, code=300310)
        feishu.advance(601)
        await peer.call("PUT", path, {"content": "ab", "sequence": 3}, code=200850)
        await peer.call("PUT", path, {"content": "ab", "sequence": 3}, code=300309)
        await peer.call("PATCH", f"{KIT}/{card_id}/settings", {**on, "sequence": 3})
        await peer.call("PUT", path, {"content": "ab", "sequence": 4})


async def test_of_twelve_operations_at_once_two_are_refused() -> None:
    async with world(joined=False, stopped=True) as (_feishu, peer):
        card_id = await entity(peer)
        put = {"card": {"type": "card_json", "data": json.dumps(card("x"))}}
        answers = [await peer.raw("PUT", f"{KIT}/{card_id}", {**put, "sequence": number}) for number in range(1, 13)]
        codes = [answer.json()["code"] for answer in answers]
        assert codes == [0] * 10 + [99991400] * 2


# Clicks


async def shown(feishu: FeishuEmulator, peer: Peer, content: dict[str, Any] | None = None) -> Message:
    """A card in a group of Alice and Bob."""
    chat = feishu.group("ops", [feishu.user("Alice"), feishu.user("Bob")])
    return feishu.message((await peer.card(chat.id, content or card("working")))["message_id"])


async def test_a_click_asks_then_toasts_and_replaces_the_card() -> None:
    async with world() as (feishu, peer):
        sent = await shown(feishu, peer)
        alice, bob = feishu.user("Alice"), feishu.user("Bob")
        click = await alice.click(sent, "Approve")
        assert (click.shown, peer.bodies) == ("dialog", [])
        new = {"type": "raw", "data": card("approved")}
        peer.answer = lambda body: data({"toast": {"type": "success", "content": "好"}, "card": new})
        click = await bob.click(sent, "approve", confirm=True)
        assert (click.shown, click.text, click.changed) == ("toast", "好", True)
        assert "approved" in sent.text
        event = peer.bodies[0]["event"]
        assert event["operator"]["open_id"] == bob.open_id()
        assert event["action"]["value"] == {"do": "approve"}
        assert event["context"] == {"open_message_id": sent.id, "open_chat_id": sent.chat.id}
        assert len(peer.bodies[0]["header"]["create_time"]) == 16
        feishu.verify()


@pytest.mark.parametrize(
    ("payload", "shows", "code"),
    [
        ({"code": 200}, "nothing", 0),
        (data({}), "nothing", 0),
        ({"code": 500}, "error", 200671),
        (data("no handle"), "error", 200672),
        (data({"toast": "text"}), "error", 200672),
        (data({"toasts": {}}), "error", 200672),
        ({"code": 200, "data": "%%%"}, "error", 200672),
        (data({"toast": {"type": "loud", "content": "x"}}), "error", 200672),
        (data({"card": {"type": "raw", "data": body_of({"tag": "note"})}}), "error", 200673),
        (data({"card": card("x")}), "error", 200673),
        (data({"card": {"type": "raw", "data": {"elements": []}}}), "error", 200830),
        (None, "error", 200341),
    ],
)
async def test_what_a_person_sees_after_each_answer(payload: Any, shows: str, code: int) -> None:
    async with world(ack_timeout=0.3 if payload is None else 3.0) as (feishu, peer):
        sent = await shown(feishu, peer)
        peer.answer = lambda body: payload
        click = await feishu.user("Alice").click(sent, "Approve", confirm=True)
        assert (click.shown, click.code, click.changed) == (shows, code, False)
        assert click.delivery is not None
        assert len(click.delivery.attempts) == 1, "a click is never repeated"


async def test_a_click_without_a_client_or_a_subscription() -> None:
    async with world(joined=False) as (feishu, peer):
        sent = await shown(feishu, peer)
        alice = feishu.user("Alice")
        assert (await alice.click(sent, "Approve", confirm=True)).code == 200341
        feishu.app.callbacks.clear()
        assert (await alice.click(sent, "Approve", confirm=True)).code == 200340
        with pytest.raises(LookupError, match="no such button"):
            await alice.click(sent, "Reject")


async def test_a_card_is_locked_while_a_click_is_answered() -> None:
    async with world() as (feishu, peer):
        card_id = await entity(peer)
        sent = await shown(feishu, peer)
        other = await shown(feishu, peer, {"type": "card", "data": {"card_id": card_id}})
        put = {"card": {"type": "card_json", "data": json.dumps(card("x"))}, "sequence": 1}
        seen: list[Any] = []

        async def answer(body: dict[str, Any]) -> dict[str, Any]:
            content = {"content": json.dumps(card("patched"))}
            seen.append((await peer.raw("PATCH", f"{IM}/{sent.id}", content)).json())
            seen.append((await peer.raw("PUT", f"{KIT}/{card_id}", put)).json())
            return {"code": 200}

        peer.answer = answer
        alice = feishu.user("Alice")
        await alice.click(sent, "Approve", confirm=True)
        await alice.click(other, "Approve", confirm=True)
        assert (inner(seen[0]), "card action is lock" in seen[0]["msg"]) == (11310, True)
        assert (seen[1]["code"], seen[2]["code"], seen[3]["code"]) == (0, 0, 200810)


async def test_the_delayed_update_works_twice_and_only_after_the_answer() -> None:
    async with world() as (feishu, peer):
        sent = await shown(feishu, peer)
        path = "/open-apis/interactive/v1/card/update"

        async def answer(body: dict[str, Any]) -> dict[str, Any]:
            await peer.call("POST", path, {"token": body["event"]["token"], "card": card("early")})
            return {"code": 200}

        peer.answer = answer
        click = await feishu.user("Alice").click(sent, "Approve", confirm=True)
        assert "early" not in str(sent.history)
        for state in ("one", "two"):
            await peer.call("POST", path, {"token": click.token, "card": card(state)})
            assert state in sent.text
        await peer.call("POST", path, {"token": click.token, "card": card("three")}, code=300040)
        await peer.call("POST", path, {"token": "c-nothing", "card": card("three")}, code=300020)


async def test_forms_are_filled_before_they_are_sent() -> None:
    form = {
        "tag": "form",
        "name": "reject",
        "elements": [
            {"tag": "input", "name": "reason", "required": True, "max_length": 5},
            {
                "tag": "button",
                "name": "submit",
                "form_action_type": "submit",
                "text": {"tag": "plain_text", "content": "Reject"},
                "behaviors": [{"type": "callback", "value": {"do": "reject"}}],
            },
        ],
    }
    async with world() as (feishu, peer):
        sent = await shown(feishu, peer, body_of(form))
        alice = feishu.user("Alice")
        assert (await alice.click(sent, "Reject")).shown == "required"
        assert (await alice.click(sent, "Reject", form={"reason": "too long"})).shown == "required"
        assert (await alice.click(sent, "submit", form={"reason": "wrong"})).shown == "nothing"
        action = peer.bodies[0]["event"]["action"]
        assert (action["name"], action["form_value"], action["value"]) == (
            "submit",
            {"reason": "wrong"},
            {"do": "reject"},
        )


async def test_presses_that_do_not_count() -> None:
    async with world(stopped=True) as (feishu, peer):
        alice = feishu.user("Alice")
        button = {
            "tag": "button",
            "text": {"tag": "plain_text", "content": "Go"},
            "behaviors": [{"type": "callback", "value": {"do": "go"}}],
        }
        off = await shown(feishu, peer, body_of({**button, "disabled": True}))
        assert (await alice.click(off, "Go")).shown == "disabled"
        dead = await shown(feishu, peer, body_of({**button, "behaviors": []}))
        assert (await alice.click(dead, "Go")).code == 200340
        sent = await shown(feishu, peer, body_of(button))
        elsewhere = feishu.group("elsewhere", [alice])
        copy = await alice.forward(sent, elsewhere)
        assert (await alice.click(copy, "Go")).shown == "inert"
        with pytest.raises(PermissionError):
            await alice.forward(await shown(feishu, peer), elsewhere)
        await peer.call(
            "PATCH",
            f"{IM}/{sent.id}",
            {"content": json.dumps({**body_of(button), "config": {"enable_forward_interaction": True}})},
        )
        copy = await alice.forward(sent, elsewhere)
        await alice.click(copy, "Go")
        assert peer.bodies[-1]["event"]["context"] == {"open_message_id": copy.id, "open_chat_id": elsewhere.id}
        feishu.advance(14 * 86400 + 1)
        assert (await alice.click(sent, "Go")).shown == "expired"


async def test_forged_and_repeated_presses_and_frames_of_the_other_type() -> None:
    async with world() as (feishu, peer):
        sent = await shown(feishu, peer)
        alice = feishu.user("Alice")
        peer.answer = lambda body: data({"toast": {"type": "info", "content": body["event"]["action"]["value"]["do"]}})
        click = await alice.forge(sent, {"do": "drop"}, message_id="om_other", chat_id="oc_other")
        assert click.text == "drop"
        assert peer.bodies[0]["event"]["context"] == {"open_message_id": "om_other", "open_chat_id": "oc_other"}
        assert click.delivery is not None
        await alice.forge(sent, {"do": "drop"}, event_id=click.delivery.event_id)
        feishu.repeat_clicks()
        feishu.settings.clicks_as_card_frames = True
        click = await alice.click(sent, "Approve", confirm=True)
        assert click.again is not None
        assert [body["header"]["event_id"] for body in peer.bodies][2:] == [click.again.event_id] * 2
        assert peer.bodies[0]["header"]["event_id"] == peer.bodies[1]["header"]["event_id"]


async def test_a_streaming_card_is_not_changed_by_an_answer() -> None:
    async with world() as (feishu, peer):
        content = card("working")
        content["config"]["streaming_mode"] = True
        card_id = await entity(peer, content)
        sent = await shown(feishu, peer, {"type": "card", "data": {"card_id": card_id}})
        peer.answer = lambda body: data({"card": {"type": "raw", "data": card("approved")}})
        click = await feishu.user("Alice").click(sent, "Approve", confirm=True)
        assert (click.shown, click.changed) == ("nothing", False)
        assert "working" in sent.text


# The whole


async def test_nothing_secret_is_in_the_journal() -> None:
    async with world() as (feishu, peer):
        sent = await shown(feishu, peer)
        click = await feishu.user("Alice").click(sent, "Approve", confirm=True)
        await peer.call("GET", "/open-apis/bot/v3/info")
        kept = repr(list(feishu.journal.entries)) + repr(feishu.app)
        for value in (feishu.app.secret, peer.token, click.token, "ticket="):
            assert value not in kept


async def test_waiting_for_what_does_not_come_says_what_came() -> None:
    async with world(joined=False) as (feishu, peer):
        chat = feishu.user("Alice").private()
        await peer.send(chat.id, f"this {secrets.token_hex(2)} came")
        with pytest.raises(TimeoutError, match="came"):
            await feishu.wait_for(chat, "that", timeout=0.05)
