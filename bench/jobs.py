"""What Regrow itself adds to a job: everything but the service's own tests and build, the agent and the bake.

overhead_ms   from the request to the end, seen from outside, minus the time of the steps in `OTHERS`; the start of the
              candidate and its proof are in it, and so is the way of the request and of the news of the end
step_ms       each step's own time, with its name as `step`
between_ms    what lies between the steps: the request, the queue, the engine, the store

Medians of the runs. An approval is given at once and costs what it costs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from bench import lines
from bench.world import BUG, REPRODUCTION, World, world
from regrow.api.types import Job

OTHERS = ("reproduce", "agent", "test", "verify", "build", "bake")


@dataclass(frozen=True)
class Size:
    """Runs of each kind of job, and seconds of bake."""

    runs: int
    bake_s: float


SIZES = {"smoke": Size(1, 0.2), "default": Size(3, 1.0), "nightly": Size(20, 1.0)}


class Jobs:
    """The jobs done so far, by kind."""

    def __init__(self, here: World) -> None:
        self._here = here
        self.overhead: dict[str, list[float]] = defaultdict(list)
        self.between: dict[str, list[float]] = defaultdict(list)
        self.steps: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def do(self, intent: str, **args: str) -> Job:
        """One job, timed."""
        began = time.monotonic()
        job = self._here.ask(intent, **args)
        wall = time.monotonic() - began
        seconds = {step.name: step.seconds or 0.0 for step in job.steps}
        self.overhead[intent].append((wall - sum(seconds.get(name, 0.0) for name in OTHERS)) * 1000)
        self.between[intent].append((wall - sum(seconds.values())) * 1000)
        for name, took in seconds.items():
            self.steps[intent][name].append(took * 1000)
        return job


def measure(out: lines.Lines, size: Size) -> None:
    """One world: each round restarts, deploys what has the bug, has it repaired, and rolls that back."""
    with tempfile.TemporaryDirectory(prefix="rb-") as root, world(Path(root), size.bake_s) as here:
        here.start()
        here.idle()
        jobs = Jobs(here)
        for _ in range(size.runs):
            jobs.do("restart")
            here.publish(here.tip)
            jobs.do("deploy", target="latest")
            jobs.do("repair", bug=BUG, reproduction=REPRODUCTION)
            jobs.do("rollback")
        for case in jobs.overhead:
            overhead, between = jobs.overhead[case], jobs.between[case]
            out.put(case, "overhead_ms", statistics.median(overhead), "ms", worst=round(max(overhead), 2))
            out.put(case, "between_ms", statistics.median(between), "ms", worst=round(max(between), 2))
            for name, took in jobs.steps[case].items():
                out.put(case, "step_ms", statistics.median(took), "ms", step=name, worst=round(max(took), 2))


def main() -> None:
    """Print the lines."""
    measure(lines.Lines("jobs"), SIZES[lines.size(__doc__ or "")])


if __name__ == "__main__":
    main()
