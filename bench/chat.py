"""A person asks over Feishu; how long until the first answer, while two builds use all the processors there are.

first_answer_p99_ms   from the event's leaving the platform (the emulator) to the answer's arrival there
first_answer_p50_ms   the median of the same
asked                 commands that were said: questions, and now and then a restart

Case `two_builds`: two builds run in the box at nice 19, each burning a processor. Case `idle`: none does.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import structlog

from bench import lines
from regrow.channels.feishu.messages import NAME
from regrow.testing.feishu import FeishuEmulator, Settings
from regrow.testing.world import World, eventually

SIZES = {"smoke": 6, "default": 300, "nightly": 1500}
"""Commands of each case."""
PEOPLE = 10
PACE_S = 0.1
ANSWER_S = 30.0
QUESTIONS = ("状态", "releases", "帮助", "jobs", "版本列表", "status", "日志")
RESTART_EVERY = 50
BURN = """\
set -eu
echo "[1/1] burning"
while [ -e "$GATES/build" ]; do i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done; done
cp -r serve.py tiny_service.py faults src "$1"
echo "$REGROW_VERSION" > "$1/VERSION"
"""


class Bench:
    """One world, and people who ask."""

    def __init__(self, world: World, feishu: FeishuEmulator, count: int) -> None:
        self.world = world
        self.feishu = feishu
        self.count = count

    async def ask(self) -> list[float]:
        """The milliseconds of each command."""
        people = [self.feishu.user(f"U{number}") for number in range(PEOPLE)]
        words = itertools.cycle(QUESTIONS)
        took = []
        for number in range(self.count):
            restart = number % RESTART_EVERY == RESTART_EVERY // 2
            who = people[number % PEOPLE]
            chat = who.private()
            began = time.monotonic()
            said = await who.say(chat, "重启一下" if restart else next(words))
            await self.feishu.wait_for(chat, lambda message, said=said: message.parent is said, timeout=ANSWER_S)  # type: ignore[misc]
            took.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(PACE_S)
        return took

    async def build(self) -> None:
        """Begin two builds that burn until the gate is taken away."""
        self.world.hold("build")
        for number in range(2):
            commit = self.world.commit({"build.sh": BURN, "src/count.txt": str(number)}, f"Burn {number}")
            job = await self.world.request("build", target=commit)
            await self.world.step(job, "build", "doing")


async def measure(root: Path, out: lines.Lines, count: int) -> None:
    """Both cases, with the same people in the same chats."""
    settings = Settings.quick()
    # What the platform allows is the platform's figure; here it is the daemon's that is asked for.
    settings.per_chat, settings.per_api_second, settings.per_api_minute = 10**6, 10**6, 10**9
    async with FeishuEmulator(settings) as feishu:
        secret = root / "secret"
        secret.write_text(feishu.app.secret)
        section = {"app_id": feishu.app.app_id, "app_secret": f"file:{secret}", "base_url": feishu.base_url}
        world = World(root / "world", {f"channels.{NAME}": section, "build": {"timeout": "3600s"}})
        with world.config.open("a") as config:
            for number in range(PEOPLE):
                union = feishu.user(f"U{number}").union_id
                config.write(f'[[channels.{NAME}.people]]\nid = "u{number}"\nname = "U{number}"\n')
                config.write(f'role = "owner"\nunion_id = "{union}"\n')
        try:
            await world.bring_up()
            await feishu.connected(timeout=60.0)
            bench = Bench(world, feishu, count)
            for case in ("idle", "two_builds"):
                if case == "two_builds":
                    await bench.build()
                took = await bench.ask()
                ranks = statistics.quantiles(took, n=100, method="inclusive")
                worst = round(max(took), 2)
                out.put(case, "first_answer_p99_ms", ranks[98], "ms", worst=worst)
                out.put(case, "first_answer_p50_ms", ranks[49], "ms")
                out.put(case, "asked", len(took), "times")
            world.let_go("build")
            await eventually(world.settled, "the builds end", 300.0)
        finally:
            await world.close()


def main() -> None:
    """Print the lines."""
    count = SIZES[lines.size(__doc__ or "")]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory(prefix="rb-") as root:
        asyncio.run(measure(Path(root), lines.Lines("chat"), count))


if __name__ == "__main__":
    main()
