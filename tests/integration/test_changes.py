"""Good and bad changes through the real gate and the real verification: some of each kind of what `scripts/bench gate`
measures in full."""

from __future__ import annotations

import asyncio
import os

from regrow.testing.changes.bad import BAD, KNOWN
from regrow.testing.changes.good import GOOD
from regrow.testing.changes.runs import Case, Result, as_expected, run

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
    changes = [(case.fix, case.test, case.hand, case.script, case.allowed) for case in BAD]
    assert len({repr(change) for change in changes}) == len(changes)


async def test_bad_changes_are_stopped_by_what_is_to_stop_them() -> None:
    """One of each kind and step that stops it."""
    chosen = list({(case.kind, case.by.partition(":")[0]): case for case in BAD}.values())
    found = await results(chosen)
    wrong = {
        case.name: (case.by, found[case.name].by, found[case.name].text)
        for case in chosen
        if not as_expected(case, found[case.name])
    }
    assert not wrong


async def test_good_changes_are_taken() -> None:
    """What is odd and right: some of it is for a person, and one is refused, each for its reason."""
    chosen = [case for case in GOOD if case.name.partition("/")[0] in ("odd", "shell")]
    found = await results(chosen)
    wrong = {case.name: found[case.name].by for case in chosen if not as_expected(case, found[case.name])}
    assert not wrong
    assert sum(result.verdict == "refused" for result in found.values()) <= 2
