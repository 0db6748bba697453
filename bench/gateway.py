"""What the model gateway adds to what an agent does: the way over its socket, the search for known secrets, the count.

The same requests go to a scripted model on the loopback directly and through the gateway, in turn; the model, the
gateway and the agent are a process each, as they are in a repair. The gateway knows SECRETS secrets.

request/short       one question of 2 kB
request/agent       the first question of a coding agent: 50 kB of instructions and tools
request/long        a conversation that grows by 4 kB with every request, up to 400 kB, as agents send it

direct_p50_ms, gateway_p50_ms, gateway_p99_ms   from the request to the end of the answer, as events
added_p50_ms, added_p99_ms                      the difference of the ranks
first_ms                                        median to the first event through the gateway, less that without it
cpu_ms                                          processor time of the gateway for a request

run/agent           a run of an agent: TURNS requests of a conversation, the first event after FIRST_S, the answer in
                    PIECES pieces PIECE_S apart (a quick model); `run_s` is its length, `share_pct` what the gateway
                    added to it, by the medians of its requests
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog

from bench import lines
from bench.world import cpu_s
from regrow.config import ModelSection
from regrow.models.gateway import ModelGateway
from regrow.secret import Secret
from regrow.testing.model_api import ModelApi, Turn

SECRETS = 20
TURNS, FIRST_S, PIECES, PIECE_S = 10, 0.5, 60, 0.01
MODEL = "a-model"
WORDS = "The job at seven did not run because the zone of the clock is not the zone of the table. "
SIZES = {"smoke": (5, 1), "default": (200, 2), "nightly": (1000, 5)}
"""Requests of each kind, runs of the agent."""
_STOP_S = 20.0


@dataclass
class Took:
    """How long requests took, in ms: to the first event, and to the last."""

    first: list[float]
    whole: list[float]


def question(size: int, messages: int = 1) -> dict[str, Any]:
    """A question of about so many bytes."""
    tools = [{"name": f"tool-{n}", "description": WORDS * 8, "input_schema": {"type": "object"}} for n in range(8)]
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 1000, "stream": True}
    if size > 10_000:
        body |= {"system": WORDS * 200, "tools": tools}
    each = max(1, (size - len(json.dumps(body))) // messages // len(WORDS))
    # What a file holds differs from line to line: nothing is found twice but what was sent before.
    body["messages"] = [
        {"role": ("user", "assistant")[n % 2], "content": f"{n} {secrets.token_hex(8)} {WORDS * each}"}
        for n in range(messages)
    ]
    return body


def growing(count: int, largest: int) -> list[dict[str, Any]]:
    """A conversation, question by question."""
    whole = question(largest, 2 * (largest // 8000) - 1)
    asked = [{**whole, "messages": whole["messages"][:n]} for n in range(1, len(whole["messages"]) + 1, 2)]
    return [asked[n * len(asked) // count] if count < len(asked) else asked[n % len(asked)] for n in range(count)]


async def ask(http: httpx.AsyncClient, url: str, body: dict[str, Any], took: Took) -> None:
    """One request, read to its end."""
    content = json.dumps(body).encode()
    began = time.perf_counter()
    async with http.stream("POST", f"{url}/v1/messages", content=content) as answer:
        if answer.status_code != 200:
            raise SystemExit(f"cannot measure: {(await answer.aread()).decode()[:300]}")
        first = 0.0
        async for _ in answer.aiter_raw():
            first = first or time.perf_counter()
    took.first.append((first - began) * 1000)
    took.whole.append((time.perf_counter() - began) * 1000)


class Bench:
    """The agent's side.

    Args:
        out: takes the lines.
        model: the model's address.
        door: the gateway's socket.
        pid: of the gateway.
    """

    def __init__(self, out: lines.Lines, model: str, door: str, pid: int) -> None:
        self._out = out
        self._pid = pid
        self._ways = {
            "direct": (httpx.AsyncClient(timeout=60, trust_env=False), model),
            "gateway": (httpx.AsyncClient(timeout=60, transport=httpx.AsyncHTTPTransport(uds=door)), "http://box"),
        }

    async def close(self) -> None:
        """Hang up."""
        for http, _ in self._ways.values():
            await http.aclose()

    async def both(self, questions: list[dict[str, Any]], *, pace: str = "quick") -> tuple[dict[str, Took], float]:
        """Each question on both ways, in turn; also the gateway's processor time in ms for one."""
        took = {way: Took([], []) for way in self._ways}
        before = cpu_s(self._pid)
        for number, body in enumerate(questions):
            ways = list(self._ways) if number % 2 else list(reversed(self._ways))
            for way in ways:
                http, url = self._ways[way]
                await ask(http, url, {**body, "metadata": {"user_id": pace}}, took[way])
        return took, (cpu_s(self._pid) - before) * 1000 / len(questions)

    async def requests(self, case: str, questions: list[dict[str, Any]]) -> None:
        """One kind of request."""
        took, cpu = await self.both(questions)
        ranks = {way: statistics.quantiles(one.whole, n=100, method="inclusive") for way, one in took.items()}
        self._out.put(case, "direct_p50_ms", ranks["direct"][49], "ms")
        self._out.put(case, "gateway_p50_ms", ranks["gateway"][49], "ms")
        self._out.put(case, "gateway_p99_ms", ranks["gateway"][98], "ms")
        self._out.put(case, "added_p50_ms", ranks["gateway"][49] - ranks["direct"][49], "ms")
        self._out.put(case, "added_p99_ms", ranks["gateway"][98] - ranks["direct"][98], "ms")
        first = statistics.median(took["gateway"].first) - statistics.median(took["direct"].first)
        self._out.put(case, "first_ms", first, "ms")
        self._out.put(case, "cpu_ms", cpu, "ms")

    async def run(self, runs: int) -> None:
        """Runs of an agent."""
        took, _ = await self.both([one for _ in range(runs) for one in growing(TURNS, 100_000)], pace="model")
        lengths = {way: statistics.median(one.whole) * TURNS / 1000 for way, one in took.items()}
        self._out.put("run/agent", "run_s", lengths["direct"], "s")
        self._out.put("run/agent", "requests", TURNS, "requests")
        share = (lengths["gateway"] - lengths["direct"]) / lengths["direct"] * 100
        self._out.put("run/agent", "share_pct", share, "%")


async def model() -> None:
    """The process of the model; a request says how quick it is to be."""
    quick = Turn("Yes. " * 60)
    slow = Turn("Yes. " * 60, delay_s=FIRST_S, pause_s=PIECE_S, piece=5 * 60 // PIECES)
    async with ModelApi(lambda asked: slow if asked.body["metadata"]["user_id"] == "model" else quick) as api:
        await until_stopped(api.base_url, forget=api)


async def gateway(url: str, name: str) -> None:
    """The process of the gateway, for one model."""
    price = {"input": 3.0, "output": 15.0}
    settings = ModelSection.model_validate(
        {
            **{"kind": "anthropic", "models": [name], "base_url": url, "prices": {name: price}},
            **{"budget": 1e6, "budget_requests": 0, "per_minute": 0},
        }
    )
    known = {f"secret {n}": Secret(secrets.token_urlsafe(32)) for n in range(SECRETS)}
    with tempfile.TemporaryDirectory(prefix="rb-") as directory:
        async with ModelGateway(settings, known, Path(directory)).serve("job-1") as door:
            await until_stopped(str(door.socket))


async def until_stopped(address: str, forget: ModelApi | None = None) -> None:
    """Tell where it is, and wait for the end; what the model keeps is dropped now and then."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(address, flush=True)
    while not stopped.is_set():
        try:
            async with asyncio.timeout(1.0):
                await stopped.wait()
        except TimeoutError:
            if forget is not None and not forget.busy:
                forget.raw.clear()
                forget.received.clear()
                forget.asked.clear()


@asynccontextmanager
async def process(*words: str, module: str = "bench.gateway") -> AsyncIterator[tuple[str, int]]:
    """A process of a bench: its address and its pid."""
    argv = [sys.executable, "-m", module, *words]
    one = await asyncio.create_subprocess_exec(*argv, env=lines.environment(), stdout=asyncio.subprocess.PIPE)
    assert one.stdout is not None
    try:
        async with asyncio.timeout(_STOP_S):
            address = (await one.stdout.readline()).decode().strip()
        if not address:
            raise SystemExit(f"cannot measure: {words[0]} did not start")
        yield address, one.pid
    finally:
        if one.returncode is None:
            one.terminate()
            async with asyncio.timeout(_STOP_S):
                await one.wait()


async def measure(out: lines.Lines, count: int, runs: int) -> None:
    """All cases."""
    async with process("--model") as (url, _), process("--gateway", url, MODEL) as (door, pid):
        bench = Bench(out, url, door, pid)
        try:
            await bench.both([question(2000)] * 5)  # the first of all are slower
            await bench.requests("request/short", [question(2000) for _ in range(count)])
            first = question(50_000)
            await bench.requests("request/agent", [first for _ in range(count)])
            await bench.requests("request/long", growing(count, 400_000))
            await bench.run(runs)
        finally:
            await bench.close()


def main() -> None:
    """Print the lines, or be one of the processes."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if sys.argv[1:2] == ["--model"]:
        asyncio.run(model())
    elif sys.argv[1:2] == ["--gateway"]:
        asyncio.run(gateway(*sys.argv[2:4]))
    else:
        asyncio.run(measure(lines.Lines("gateway"), *SIZES[lines.size(__doc__ or "")]))


if __name__ == "__main__":
    main()
