"""Whether anything would be interrupted: unanswered messages, and the service's own word."""

from __future__ import annotations

import asyncio

import pytest

from regrow.idle import Busy, Idle
from regrow.store import Store, forwards
from regrow.testing.ports import free_ports


async def wait(store: Store, service: str, message: str, state: str = "waiting") -> None:
    row = {"channel": "web", "chat": "main", "sender": "a", "sender_name": "A", "text": "hi", "language": "en"}
    times = {"created_at": 0.0, "received_at": 0.0, "failure": ""}
    values = {**row, **times, "service": service, "message": message, "state": state}
    await store.transact(lambda c: c.execute(forwards.insert().values(**values)))


async def test_unanswered_messages_of_this_service_count(store: Store) -> None:
    idle = Idle(store, "claw", "")
    assert await idle.busy() is None
    await wait(store, "claw", "1")
    await wait(store, "claw", "2", "answered")
    await wait(store, "other", "3")
    assert await idle.busy() == Busy(1, "")


@pytest.mark.parametrize(
    ("status", "text", "busy"),
    [
        (200, "fine", None),
        (503, "\n2 conversations under way\nmore", Busy(0, "2 conversations under way")),
        (409, "", Busy(0, "HTTP 409")),
        (500, "x" * 1000, Busy(0, "x" * 120)),
    ],
)
async def test_the_services_own_word(store: Store, status: int, text: str, busy: Busy | None) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        writer.write(f"{head}{text}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await Idle(store, "claw", f"http://127.0.0.1:{port}/idle").busy() == busy


@pytest.mark.parametrize(
    ("status", "text", "busy"),
    [
        (200, "{}", None),
        (200, '{"conversations": 0, "due_in": [11, 600]}', None),
        (200, '{"conversations": 2, "due_in": [0, 9.5, 11]}', Busy(0, "", 2, 2, 10.0)),
        (503, '{"conversations": 1}', Busy(0, "", 1, 0, 10.0)),
        (503, "{}", Busy(0, "HTTP 503", 0, 0, 10.0)),
        (503, '{"due_in": "soon"}', Busy(0, '{"due_in": "soon"}', 0, 0, 10.0)),
        (503, "{not json", Busy(0, "{not json", 0, 0, 10.0)),
        (503, "[1]", Busy(0, "[1]", 0, 0, 10.0)),
        (503, '{"conversations": null}', Busy(0, '{"conversations": null}', 0, 0, 10.0)),
    ],
)
async def test_conversations_and_what_is_due_within_the_drain(
    store: Store, status: int, text: str, busy: Busy | None
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await Idle(store, "claw", f"http://127.0.0.1:{port}/idle", 10.0).busy() == busy


async def test_one_that_cannot_be_asked_is_not_waited_for(store: Store) -> None:
    assert await Idle(store, "claw", f"http://127.0.0.1:{free_ports(1)[0]}/idle").busy() is None


@pytest.mark.parametrize(
    ("script", "busy"),
    [
        ("exit 0", None),
        ("echo nothing to do", None),
        ("echo; echo 2 turns under way; exit 1", Busy(0, "2 turns under way")),
        ("exit 3", Busy(0, "sh: 3")),
        ('echo \'{"conversations": 2, "due_in": [5, 50]}\'', Busy(0, "", 2, 1, 10.0)),
        ("echo '{\"conversations\": 0}'", None),
    ],
)
async def test_a_program_may_say_the_same(store: Store, script: str, busy: Busy | None) -> None:
    found = await Idle(store, "claw", "", 10.0, ("sh", "-c", script)).busy()
    assert found == (busy and Busy(busy.messages, busy.said, busy.conversations, busy.due, 10.0))


async def test_a_program_that_is_not_there_interrupts_nothing(store: Store) -> None:
    assert await Idle(store, "claw", "", 10.0, ("/nonexistent/idle",)).busy() is None
