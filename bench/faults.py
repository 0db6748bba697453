"""Lives of a service while its supervisor, and jobs while their daemon, are killed: in every state, and at any time.

kills             deaths by SIGKILL, of all lives together
wrong_release     lives at whose end another release serves than the table says, or none
second_copy       lives at whose end there is another process of the service than the one that serves
refused_requests  connections refused while a good release was there (an exclusive service has moments without one)
untold_events     chains of events that are not as the table has them; of a job: no receipt, or no result

The tables are in `regrow.testing.lives` and `daemon_runs`. What is wrong is said on stderr.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import lines
from regrow.testing import daemon_runs, fault_runs
from regrow.testing.daemon_runs import Task
from regrow.testing.fault_runs import Outcome

SEED = 1
EVERY = 1000  # more points than the table of jobs has: each is in every pass
FEW = 10
AT_ONCE = 50  # deaths at random of the daemon in one pass: 10 a job


@dataclass(frozen=True)
class Size:
    """Kills of each case; of the daemon there are as many passes over its table as it takes to come to them."""

    states: int
    random: int
    daemon_states: int
    daemon_random: int


SIZES = {
    "smoke": Size(0, 10, 4, 2),
    "default": Size(200, 100, 40, 20),
    "nightly": Size(500, 500, 500, 500),
}


def put(out: lines.Lines, case: str, outcomes: Iterable[Outcome]) -> None:
    """The lines of a case."""
    found = list(outcomes)
    out.put(case, "kills", sum(outcome.kills for outcome in found), "kills")
    out.put(case, "wrong_release", sum(outcome.wrong_release for outcome in found), "lives")
    out.put(case, "second_copy", sum(outcome.second_copy for outcome in found), "lives")
    out.put(case, "refused_requests", sum(outcome.refused for outcome in found), "requests")
    out.put(case, "untold_events", sum(outcome.untold for outcome in found), "chains")
    for outcome in found:
        for why in outcome.why:
            print(f"{case}: {why}", file=sys.stderr)


async def passes(
    choose: Callable[[int, int], dict[Task, Mapping[str, tuple[object, ...]]]], kills: int, most: int, root: Path
) -> list[Outcome]:
    """Jobs until `kills` daemons have died, with at most `most` deaths wanted in a pass and another choice in each, so
    that one death meets what another has left behind in ever other ways.

    Raises:
        AssertionError: a pass killed nobody.
    """
    done: list[Outcome] = []
    died = number = 0
    while died < kills:
        # Never just the last one or two: they may be due when the job is over already.
        wanted = max(FEW, min(kills - died, most))
        outcomes = await daemon_runs.run_all(choose(wanted, SEED + number), root / str(number))
        met = sum(outcome.kills for outcome in outcomes.values())
        assert met, f"nobody died in pass {number}"
        done += outcomes.values()
        died, number = died + met, number + 1
    return done


async def measure(out: lines.Lines, size: Size) -> None:
    """All cases, one after the other."""
    with tempfile.TemporaryDirectory(prefix="rb-") as directory:
        root = Path(directory)
        lives = await fault_runs.survey(root / "clean")
        done = await fault_runs.run_all(fault_runs.at_states(lives, size.states, SEED), root / "states")
        put(out, "supervisor/states", done.values())
        done = await fault_runs.run_all(fault_runs.at_random(lives, size.random, SEED), root / "random")
        put(out, "supervisor/random", done.values())
        put(out, "daemon/states", await passes(daemon_runs.at_states, size.daemon_states, EVERY, root / "daemon"))
        put(out, "daemon/random", await passes(daemon_runs.at_random, size.daemon_random, AT_ONCE, root / "daemons"))


def main() -> None:
    """Print the lines."""
    asyncio.run(measure(lines.Lines("faults"), SIZES[lines.size(__doc__ or "")]))


if __name__ == "__main__":
    main()
