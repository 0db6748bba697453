"""The API as it describes itself, against a real daemon: whatever is sent, it answers as it says, and never breaks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx

from regrow.api.operations import OPERATIONS
from regrow.testing.world import World

# These end the daemon, or last until the caller hangs up; they have tests of their own.
LEFT_OUT = ("stop", "upgrade", "status_events", "chat_events", "job_events", "logs")
# What an argument means depends on the intent: a request may have its form and still say nothing.
UNCHECKED = "positive_data_acceptance"


async def test_whatever_is_sent_is_answered_as_described(world: World, tmp_path: Path) -> None:
    token = (world.state / "console.token").read_text()
    site = f"http://127.0.0.1:{world.console_port}"
    left_out = [word for name in LEFT_OUT for word in ("--exclude-operation-id", name)]
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{site}/v1/openapi.json", "--url", site),
            *("-H", f"authorization: Bearer {token}", "-H", "x-regrow: 1", *left_out),
            *("--phases", "coverage,fuzzing", "--max-examples", "10", "--generation-deterministic"),
            *("--exclude-checks", UNCHECKED, "--continue-on-failure", "--no-color", "--request-timeout", "30"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    there = len(OPERATIONS) - 1  # it does not count the description itself
    tested = there - len(LEFT_OUT)
    assert f"Selected: {tested}/{there}\n  Tested: {tested}\n" in done.stdout, done.stdout[-2000:]
    assert (await world.status()).daemon.ready_ms > 0, "the daemon that was asked all that is still the one that was"


async def test_a_call_that_there_is_not_is_answered_as_an_api_answers(world: World) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(world.places.socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://daemon", timeout=30) as client:
        astray = await client.get("/v1/nothing")
        assert (astray.status_code, astray.json()["kind"]) == (404, "not_found")
        wrong = await client.put("/v1/backups")
        assert (wrong.status_code, wrong.json()["kind"]) == (405, "bad_request")
        assert {word.strip() for word in wrong.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}
        huge = await client.get("/v1/jobs", params={"limit": "9" * 5000})
        assert huge.status_code == 200
        for text in ("²", "٣", "-1", "1e3", ""):
            refused = await client.get("/v1/jobs", params={"limit": text})
            assert (refused.status_code, refused.json()["kind"]) == (400, "bad_request"), text
