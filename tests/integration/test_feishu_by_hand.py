"""`python -m regrow.testing.feishu`: what is typed happens, and it ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from pathlib import Path

import httpx
import pytest

DEADLINE_S = 30.0


@pytest.mark.parametrize("end", ["quit", "TERM"])
async def test_people_speak_and_are_shown_until_the_end(end: str, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "regrow.testing.feishu",
        "--credentials",
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):

            async def line() -> str:
                return (await process.stdout.readline()).decode().rstrip("\n")

            first = await line()
            told = json.loads(path.read_text())
            assert told["base_url"] in first
            assert told["app_secret"] not in first
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            process.stdin.write(b"say alice @bot hello\n")
            assert await line() == "#1 alice: @bot hello"
            async with httpx.AsyncClient(base_url=told["base_url"], trust_env=False) as http:
                body = {"app_id": told["app_id"], "app_secret": told["app_secret"]}
                token = (await http.post("/open-apis/auth/v3/tenant_access_token/internal", json=body)).json()
                sent = await http.post(
                    "/open-apis/im/v1/messages?receive_id_type=chat_id",
                    json={"receive_id": told["chat_id"], "msg_type": "text", "content": '{"text": "hello back"}'},
                    headers={"Authorization": f"Bearer {token['tenant_access_token']}"},
                )
                assert sent.json()["code"] == 0
            assert await line() == "#2 bot: hello back"
            process.stdin.write(b"click alice 2 Approve\n")
            assert (await line()).startswith("cannot do this: cannot press 'Approve'")
            process.stdin.write(b"quote bob 2 'what was that'\nchat\n")
            shown = {await line() for _ in range(4)}
            assert "bob: what was that" in shown
            if end == "quit":
                process.stdin.write(b"quit\n")
            else:
                process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
            assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
