"""Good and bad changes through the real gate and the real verification: some of each kind of what `scripts/bench gate`
measures in full."""

from __future__ import annotations

import asyncio
import os

from regrow.testing.changes.bad import BAD, KNOWN
from regrow.testing.changes.good import GOOD
from regrow.testing.changes.runs import Case, Result, run

MEASURED = 60


async def results(cases: list[Case]) -> dict[str, Result]:
    free = asyncio.Semaphore(os.cpu_count() or 2)

    async def one(case: Case) -> Result:
        async with free:
            return await run(case, (KNOWN,))

    return dict(zip([case.name for case in cases], await asyncio.gather(*map(one, cases)), strict=True))


def test_there_are_enough_and_none_twice() -> None:
    assert len(GOOD) >= MEASURED
    assert len(BAD) >= MEASURED
    names = [case.name for case in (*GOOD, *BAD)]
    assert len(set(names)) == len(names)
    changes = [(case.fix, case.test, case.hand, case.script) for case in BAD]
    assert len({repr(change) for change in changes}) == len(changes)


async def test_bad_changes_are_stopped_by_what_is_to_stop_them() -> None:
    """One of each kind that is stopped by one thing."""
    chosen = list({(case.kind, case.by): case for case in BAD}.values())
    found = await results(chosen)
    wrong = {
        case.name: (case.by, found[case.name].by, found[case.name].text)
        for case in chosen
        if found[case.name].verdict == "accepted" or not found[case.name].by.startswith(case.by.rstrip(":"))
    }
    assert not wrong


async def test_good_changes_are_taken() -> None:
    """One bug in every way, and what is odd; of these one is known to be refused."""
    chosen = [case for case in GOOD if not case.by and case.name.partition("/")[0] in ("names", "odd", "shell")]
    found = await results(chosen)
    assert not {case.name: found[case.name].by for case in chosen if found[case.name].verdict == "refused"}
    assert sum(result.verdict == "person" for result in found.values()) <= 5
