"""The daemon is killed while an agent talks with its model: the job's account goes on where it was, and the next door
opens at the same place."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from regrow.config import ModelSection
from regrow.models.gateway import ModelGateway
from regrow.testing.model_api import ModelApi, Tokens, Turn

DAEMON = """
import asyncio, sys
from pathlib import Path
from regrow.config import ModelSection
from regrow.models.gateway import ModelGateway

async def main():
    settings = ModelSection.model_validate_json(sys.argv[1])
    async with ModelGateway(settings, {}, Path(sys.argv[2])).serve("job-1") as door:
        print(door.socket, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
ASK: dict[str, Any] = {
    "model": "m-1",
    "max_tokens": 900,
    "stream": True,
    "messages": [{"role": "user", "content": "x"}],
}


async def daemon(settings: ModelSection, directory: Path) -> tuple[asyncio.subprocess.Process, str]:
    words = [sys.executable, "-c", DAEMON, settings.model_dump_json(), str(directory)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def test_a_kill_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    answer = Turn("Yes.", tokens=Tokens(1000, 100))
    endless = Turn("word " * 2000, tokens=Tokens(1000, 100), hang=True, cut=9000)
    async with ModelApi([answer, endless, answer]) as api:
        prices = {"m-1": {"input": 3.0, "output": 15.0}}
        settings = ModelSection.model_validate(
            {"kind": "anthropic", "models": ["m-1"], "base_url": api.base_url, "prices": prices, "budget_requests": 3}
        )
        process, socket = await daemon(settings, tmp_path)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), timeout=30) as http:
            assert (await http.post("http://box/v1/messages", json=ASK)).status_code == 200
            with pytest.raises(httpx.HTTPError):
                async with http.stream("POST", "http://box/v1/messages", json=ASK) as stream:
                    async for _ in stream.aiter_raw():
                        if process.returncode is None:
                            process.send_signal(signal.SIGKILL)
                            await process.wait()
        # The upstream is hung up on as well: nobody pays for an answer that nobody hears.
        await api.until(lambda: not api.busy)
        assert Path(socket).exists()
        heard = await ModelGateway(settings, {}, tmp_path).usage("job-1")
        assert (heard.requests, heard.estimated) == (2, True)
        assert heard.cost > (1000 * 3 + 100 * 15) / 1e6

        again, same = await daemon(settings, tmp_path)
        assert same == socket
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), timeout=30) as http:
            assert (await http.post("http://box/v1/messages", json=ASK)).status_code == 200
            refused = await http.post("http://box/v1/messages", json=ASK)
        again.kill()
        await again.wait()
    assert "3 of 3 requests are made" in refused.json()["error"]["message"]
