"""Attacks on the box, from inside, as agent, test and build: `regrow.testing.attacks`, the list that the tests run.

attacks        how many were tried; `shown` of them were first seen to get out where the defence is missing
escaped        how many got out, by what is seen outside of the box: must be 0
start_ms       from the request to the end of `true` in the box, median, with its p99; `bare` is `true` without one
overhead_ms    the difference: what a box costs a command
egress         the same `true` in a build's box with a way out

What had no control is printed with its reason on stderr.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench import lines
from regrow import process
from regrow.sandboxes.base import Box
from regrow.testing.attacks import ATTACKS, Scene, attempt, control, scene
from regrow.testing.attacks.base import CASES

_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Size:
    """Every how many-th attack, and commands that are timed."""

    every: int
    commands: int


SIZES = {"smoke": Size(8, 10), "default": Size(1, 200), "nightly": Size(1, 2000)}


async def shown(thrown: Scene, out: lines.Lines) -> set[str]:
    """The attacks that work where the defence is missing; for the others it is said why not."""
    found = set()
    for attack in ATTACKS:
        result = await control(attack, thrown, attack.cases[0])
        if isinstance(result, str):
            print(f"no control: {attack.name}: {result}", file=sys.stderr)
        elif result.out:
            found.add(attack.name)
        else:
            print(f"not shown: {attack.name}: {result.output[-500:]}", file=sys.stderr)
            out.put("control", "not_shown", 1, "attacks", attack=attack.name)
    return found


async def milliseconds(box: Box | None, here: Scene, count: int) -> list[float]:
    """How long `true` took, in the box or bare."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        if box is None:
            await process.run(("true",), timeout_s=_DEADLINE_S)
        else:
            await here.sandbox.run(("true",), box, timeout_s=_DEADLINE_S)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)


def figures(took: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    return statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))]


async def measure(out: lines.Lines, size: Size) -> None:
    """Both scenes: the one under attack, and the one that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="re-") as one, tempfile.TemporaryDirectory(prefix="rc-") as other:
        async with scene(Path(other), careless=True) as thrown:
            works = await shown(thrown, out)
        async with scene(Path(one)) as here:
            bare, bare_p99 = figures(await milliseconds(None, here, size.commands))
            for case in CASES:
                tried = [attack for attack in ATTACKS if case in attack.cases][:: size.every]
                escaped = [attack.name for attack in tried if (await attempt(attack, here, case)).out]
                out.put(case, "attacks", len(tried), "attacks", shown=len(works & {attack.name for attack in tried}))
                out.put(case, "escaped", len(escaped), "attacks", names=escaped)
                box = here.boxes[case]
                half, most = figures(await milliseconds(box, here, size.commands))
                out.put(
                    case, "start_ms", half, "ms", p99=round(most, 2), bare=round(bare, 2), bare_p99=round(bare_p99, 2)
                )
                out.put(case, "overhead_ms", half - bare, "ms", p99=round(most - bare_p99, 2))
            egress = replace(here.boxes["build"], egress=("index.example.org",))
            half, most = figures(await milliseconds(egress, here, max(10, size.commands // 4)))
            out.put("egress", "start_ms", half, "ms", p99=round(most, 2), bare=round(bare, 2))


def main() -> None:
    """Print the lines."""
    asyncio.run(measure(lines.Lines("escape"), SIZES[lines.size(__doc__ or "")]))


if __name__ == "__main__":
    main()
