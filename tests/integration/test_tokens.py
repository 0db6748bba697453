"""Tokens of programs: a role, the API alone, and nothing that people are asked."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import pytest

from regrow.testing.world import World, eventually


def caller(world: World, token: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.console_port}", headers=headers, timeout=30)


async def test_a_token_is_a_program_with_its_role(make_world: Any) -> None:
    looks, deploys = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    world: World = await make_world(
        up=False,
        token__prometheus={"token": "env:LOOKS"},
        token__ci={"token": "env:DEPLOYS", "role": "maintainer", "notify": ["web:main"]},
    )
    await world.start_daemon({"LOOKS": looks, "DEPLOYS": deploys})
    await world.settled()

    async with caller(world, looks) as prometheus:
        measured = await prometheus.get("/metrics")
        assert measured.status_code == 200
        assert measured.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'regrow_service_state{service="tiny",state="up"} 1.0' in measured.text
        assert 'regrow_jobs_total{kind="deploy",service="tiny",status="done"}' in measured.text
        assert (await prometheus.get("/v1/status")).status_code == 200
        for path in ("/", "/jobs/1"):
            assert (await prometheus.get(path)).status_code == 401, "pages are for people"
        for path in ("/v1/logs", "/v1/audit", "/v1/settings", "/v1/people"):
            refused = await prometheus.get(path)
            assert (refused.status_code, refused.json()["kind"]) == (403, "forbidden"), path
        refused = await prometheus.post("/v1/requests", json={"intent": "restart"})
        assert (refused.status_code, refused.json()["kind"]) == (403, "forbidden")

    async with caller(world, deploys) as ci:
        asked = await ci.post("/v1/requests", json={"intent": "restart", "key": "build-1"})
        assert asked.status_code == 200, asked.text
        job = asked.json()["job"]
        for intent in ("approve", "undo", "keep", "configure", "unfreeze"):
            refused = await ci.post("/v1/requests", json={"intent": intent, "args": {"job": str(job)}})
            assert refused.status_code in {400, 403}, (intent, refused.text)
        elsewhere = {"intent": "restart", "notify": {"channel": "web", "chat": "other"}}
        refused = await ci.post("/v1/requests", json=elsewhere)
        assert refused.status_code == 403
        assert "[token.ci] notify" in refused.json()["error"]
        ended = await world.ended(job)
        assert (ended.status, ended.asked_by, ended.channel, ended.chat) == ("done", "token-ci", "web", "main")

        async def told() -> bool:
            return bool([one for one in await ci_messages(world) if one == job])

        await eventually(told, "the job is told of in the chat that the settings name")

    rows = world.rows("select who from audit where what = 'asked' order by id desc limit 1")
    assert rows == [("token-ci",)]
    async with caller(world, secrets.token_urlsafe(24)) as stranger:
        assert (await stranger.get("/metrics")).status_code == 401
        assert (await stranger.get("/v1/status")).status_code == 401


async def ci_messages(world: World) -> list[int | None]:
    return [row[0] for row in world.rows("select job from messages where channel = 'web' and chat = 'main'")]


async def test_a_token_that_is_too_short_is_said_before_anything_starts(make_world: Any) -> None:
    world: World = await make_world(up=False, token__ci={"token": "env:SHORT"})
    with pytest.raises(AssertionError, match=r"cannot use the token of \[token\.ci\]"):
        await world.start_daemon({"SHORT": "x" * 8})
    world.process = None
