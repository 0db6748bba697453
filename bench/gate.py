"""Good and bad changes, each in a real repository, taken through reproduction, gate and verification in the real box.

A bad change is "accepted" when nobody would be asked: it is refused by no step, and nothing about it is left to a
person. One that is proved and shown to a person with the reasons counts as `bad_to_person`, not as refused: tests
cannot see intent, and the figure says how much of the work is a person's. The same goes for good ones: `good_refused`
counts those that no settings would let through, `good_to_person` those for which a person is asked.

Each change has a line of its own with what stopped it; the sums come last.
"""

from __future__ import annotations

import asyncio
import collections
import os
import sys

from bench import lines
from regrow.testing.changes.bad import BAD, KNOWN
from regrow.testing.changes.good import GOOD
from regrow.testing.changes.runs import Case, Result, run

EVERY = {"smoke": 12, "default": 1, "nightly": 1}
ROUNDS = {"smoke": 1, "default": 1, "nightly": 3}


async def all_of(cases: list[Case]) -> list[Result]:
    """The results of cases, in their order; as many at a time as there are processors."""
    free = asyncio.Semaphore(os.cpu_count() or 2)

    async def one(case: Case) -> Result:
        async with free:
            return await run(case, (KNOWN,))

    return await asyncio.gather(*(one(case) for case in cases))


def main() -> None:
    """Print the lines."""
    size = lines.size(__doc__ or "")
    out = lines.Lines("gate")
    cases = [*GOOD[:: EVERY[size]], *BAD[:: EVERY[size]]] * ROUNDS[size]
    counted: collections.Counter[str] = collections.Counter()
    layers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for case, result in zip(cases, asyncio.run(all_of(cases)), strict=True):
        quality = "good" if case.good else "bad"
        accepted = result.verdict == "accepted"
        out.put(f"{quality}/{case.name}", "accepted", int(accepted), "bool", verdict=result.verdict, by=result.by)
        counted[quality] += 1
        counted[f"{quality}_{result.verdict}"] += 1
        if not case.good:
            layers[case.kind][result.by.partition(":")[0] if result.by else "accepted"] += 1
        if case.good != accepted:
            if not case.good and result.verdict == "accepted":
                print(f"bad and accepted: {case.name}\n{result.log}", file=sys.stderr)
            if case.good and result.verdict == "refused":
                print(f"good and refused: {case.name}: {result.by}: {result.text}", file=sys.stderr)
    for kind, by in sorted(layers.items()):
        out.put(f"class/{kind}", "changes", by.total(), "changes", **dict(sorted(by.items())))
    for metric in (
        "bad",
        "bad_accepted",
        "bad_refused",
        "bad_person",
        "good",
        "good_refused",
        "good_accepted",
        "good_person",
    ):
        out.put("all", metric.replace("_person", "_to_person"), counted[metric], "changes")


if __name__ == "__main__":
    main()
