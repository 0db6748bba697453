"""A job's trace: times as written down, ids made of the job, and nothing that says who somebody is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from regrow.channels.base import Address
from regrow.jobs.ledger import Record
from regrow.traces import spans


def record(**fields: Any) -> Record:
    values: dict[str, Any] = {
        "id": 7,
        "service": "claw",
        "kind": "deploy",
        "status": "done",
        "language": "en",
        "args": {},
        "plan": ["check", "build"],
        "steps": [
            {"name": "check", "status": "done", "started_at": 101.0, "seconds": 0.25},
            {"name": "build", "status": "failed", "started_at": 102.0, "seconds": 2.0},
            {"name": "switch", "status": "todo"},
        ],
        "result": {"version": "abc", "down_ms": 0.0, "files": ["a"]},
        "error": None,
        "asked_by": "Ada",
        "person": "ada",
        "address": Address("feishu", "oc_1", "om_1"),
        "created_at": 100.0,
        "started_at": 101.0,
        "ended_at": 110.0,
        "waiting_for": "",
        "cancelled_by": "",
        "kept_by": "",
    }
    return Record(**(values | fields))


def test_steps_that_began_are_below_the_job() -> None:
    *steps, root = spans(record(), "local")
    assert [one.name for one in steps] == ["check", "build"]
    assert all(one.parent is not None and one.parent.span_id == root.context.span_id for one in steps)
    assert (root.start_time, root.end_time) == (100 * 10**9, 110 * 10**9)
    assert (steps[0].start_time, steps[0].end_time) == (101 * 10**9, 101_250_000_000)
    assert [one.status.is_ok for one in steps] == [True, False]


def test_it_says_what_became_of_the_job_and_not_who_asked() -> None:
    *_, root = spans(record(status="undone", error={"kind": "fell_back", "text": "", "step": "bake"}), "local")
    shown = dict(root.attributes or {})
    assert (shown["regrow.status"], shown["error.type"], shown["regrow.version"]) == ("undone", "fell_back", "abc")
    assert not root.status.is_ok
    assert not [value for value in shown.values() if str(value) in {"Ada", "ada", "oc_1", "om_1"}]


@given(st.integers(1, 2**31), st.integers(1, 2**31), st.text(max_size=20), st.text(max_size=20))
def test_ids_are_the_jobs_own(first: int, second: int, here: str, there: str) -> None:
    def ids(number: int, host: str) -> list[tuple[int, int]]:
        return [(one.context.trace_id, one.context.span_id) for one in spans(record(id=number), host)]

    assert ids(first, here) == ids(first, here)
    assert len(set(ids(first, here))) == 3
    assert (ids(first, here) == ids(second, there)) == ((first, here) == (second, there))
