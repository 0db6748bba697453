"""The other side of the protocol: what an agent of it is allowed, what is heard of it, and what it may print."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from acp import RequestError
from acp.schema import PermissionOption, ToolCallLocation, ToolCallUpdate
from hypothesis import given
from hypothesis import strategies as st

from regrow.agents import AGENTS
from regrow.agents.acp import AcpAgent, _Person, _sift
from regrow.agents.base import Event, Task
from regrow.agents.told import Telling
from regrow.agents.workplace import Limits, Workplace

OPTIONS = [
    PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
    PermissionOption(option_id="always", name="Always", kind="allow_always"),
    PermissionOption(option_id="no", name="No", kind="reject_once"),
]


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
async def person(tmp_path: Path, events: list[Event]) -> _Person:
    workspace = tmp_path / "workspace"
    (workspace / "src").mkdir(parents=True)
    (workspace / "src" / "a").write_text("one\ntwo\nthree\n")
    (workspace / "docs").mkdir()
    (workspace / "docs" / "b").write_text("b\n")
    (workspace / ".env").write_text("A=1\n")
    task = Task(bug="b", workspace=workspace, git_directory=tmp_path / "none", allowed=["src/**", "!src/kept"])
    place = await Workplace.of(task, Limits())
    return _Person(task, place, Telling(events.append), lambda: events.append(Event("log", "too many")), 2)


async def asked(person: _Person, kind: Any, *paths: str, options: list[PermissionOption] = OPTIONS) -> str:
    call = ToolCallUpdate(
        tool_call_id="t", kind=kind, title="something", locations=[ToolCallLocation(path=path) for path in paths]
    )
    answer = await person.request_permission("s", call, options)
    return getattr(answer.outcome, "option_id", answer.outcome.outcome)


async def test_what_stays_among_the_allowed_paths_is_allowed_once(person: _Person, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    assert await asked(person, "edit", f"{workspace}/src/a") == "yes"
    assert await asked(person, "edit", "src/a") == "yes"
    assert await asked(person, "execute") == "yes"
    assert await asked(person, "read", "/etc/passwd") == "yes", "the box shows what may be seen"
    refused = [
        "docs/b",
        f"{workspace}/docs/b",
        "src/../docs/b",
        "/etc/passwd",
        "src/.env",
        "src/kept",
        f"{workspace}2/src/a",
    ]
    for path in refused:
        assert await asked(person, "edit", path) == "no", path
        assert await asked(person, "delete", "src/a", path) == "no", path
    assert await asked(person, "fetch") == "no"
    assert await asked(person, "switch_mode") == "no"


async def test_without_a_fitting_option_it_is_called_off(person: _Person) -> None:
    assert await asked(person, "fetch", options=OPTIONS[:2]) == "cancelled"
    assert await asked(person, "execute", options=OPTIONS[2:]) == "cancelled"
    assert await asked(person, "execute", options=OPTIONS[1:]) == "always"


async def test_files_are_read_and_written_where_that_is_allowed(person: _Person, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    assert (await person.read_text_file("s", f"{workspace}/src/a")).content == "one\ntwo\nthree\n"
    assert (await person.read_text_file("s", "src/a", line=2, limit=1)).content == "two\n"
    assert (await person.read_text_file("s", "docs/b")).content == "b\n"
    await person.write_text_file("s", "src/new", "new\n")
    assert (workspace / "src/new").read_text() == "new\n"
    (workspace / "src" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_text("outside")
    for path in (".env", "/etc/passwd", "../outside", "src/link"):
        with pytest.raises(RequestError):
            await person.read_text_file("s", path)
    for path in ("docs/b", ".env", "src/.env", "src/kept", "/etc/x", "src/link/x", "../outside"):
        with pytest.raises(RequestError):
            await person.write_text_file("s", path, "x")
    assert (tmp_path / "outside").read_text() == "outside"


class Update:
    """An update as the protocol's own classes have it."""

    def __init__(self, session_update: str, **values: Any) -> None:
        self.session_update = session_update
        empty = {
            "tool_call_id": "t",
            "title": None,
            "kind": None,
            "locations": None,
            "raw_input": None,
            "content": None,
        }
        self.__dict__ |= {**empty, **values}


class Text:
    """Content of one."""

    def __init__(self, text: str) -> None:
        self.text = text


async def test_what_it_does_is_told(person: _Person, events: list[Event]) -> None:
    where = [ToolCallLocation(path="src/a")]
    for update in (
        Update("agent_message_chunk", content=Text("I lo")),
        Update("agent_message_chunk", content=Text("ok.")),
        Update("tool_call", kind="read", title="Read"),
        Update("tool_call_update", locations=where),
        Update("tool_call_update", locations=where, content=[]),
        Update("tool_call", tool_call_id="u", kind="execute", title="Bash", raw_input={"command": "make"}),
        Update("plan"),
        Update("of_tomorrow", content=None),
    ):
        await person.session_update("s", update)
    assert [(event.kind, event.text) for event in events] == [
        ("thinking", "I look."),
        ("reading", "Read"),
        ("reading", "src/a"),
        ("running", "make"),
    ]
    await person.session_update("s", Update("tool_call", tool_call_id="v", kind="other", title="x"))
    assert events[-2].text == "too many"


async def test_what_is_no_message_is_told_and_not_parsed(events: list[Event]) -> None:
    source, sink = asyncio.StreamReader(), asyncio.StreamReader()
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "result": None}).encode()
    source.feed_data(b"starting\xff...\n" + message + b"\n[1, 2]\n" + b"[" * 100_000 + b"\n\n" + message[:10])
    source.feed_eof()
    await _sift(source, sink, Telling(events.append))
    assert await sink.read() == message + b"\n"
    assert [event.text[:11] for event in events] == ["starting\ufffd..", "[1, 2]", "[" * 11]


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 64))
def test_any_bytes_are_sifted(chunks: list[bytes], _: int) -> None:
    async def sift() -> None:
        source, sink = asyncio.StreamReader(), asyncio.StreamReader()
        for chunk in chunks:
            source.feed_data(chunk)
        source.feed_eof()
        await _sift(source, sink, Telling(lambda _: None))
        for line in (await sink.read()).splitlines():
            assert isinstance(json.loads(line), dict)

    asyncio.run(sift())


def test_its_command_is_a_list_of_words() -> None:
    assert "acp" in AGENTS
    with pytest.raises(TypeError):
        AcpAgent("opencode acp")
    with pytest.raises(TypeError):
        AcpAgent([])
