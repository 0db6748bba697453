"""When data changes hands with the code, and when it must not (F21)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from regrow.jobs import data
from regrow.jobs.base import StepFailed
from regrow.jobs.plans import DATA, FILES, PLANS, plan
from regrow.jobs.work import Work
from regrow.services.base import ServiceStatus

KNOWS = ServiceStatus("tiny", "running", None, None, None, None, None, None, (), (), 0, 1, exchanges=True)
KNOWS_NOT = ServiceStatus("tiny", "running", None, None, None, None, None, None, (), (), 0, 1)


def work(tmp_path: Path, **facts: Any) -> Work:
    care = SimpleNamespace(state=tmp_path, databases=[tmp_path / "tiny.db"])
    return cast(Work, SimpleNamespace(care=care, facts=facts, job=SimpleNamespace(id=7)))


@pytest.mark.parametrize("facts", [{}, {"schema_moves": False}])
def test_beside_the_old_release_where_the_schema_stays(tmp_path: Path, facts: dict[str, Any]) -> None:
    assert data.exchange(work(tmp_path, **facts), KNOWS) is None
    assert data.exchange(work(tmp_path, **facts), KNOWS_NOT) is None


@pytest.mark.parametrize("facts", [{"schema_moves": True}, {"schema_moves": "unknown"}, {"put": "/put"}])
def test_set_aside_where_it_moves_or_may_and_where_other_data_is_put(tmp_path: Path, facts: dict[str, Any]) -> None:
    found = data.exchange(work(tmp_path, **facts), KNOWS)
    assert found is not None
    assert (found.files, found.put) == ((str(tmp_path / "tiny.db"),), facts.get("put"))
    assert found.aside == str(tmp_path / "displaced" / "job-7")
    with pytest.raises(StepFailed) as failed:
        data.exchange(work(tmp_path, **facts), KNOWS_NOT)
    assert failed.value.kind == "no_exchange"


def test_a_service_without_databases_has_no_steps_about_them() -> None:
    for kind, steps in PLANS.items():
        assert plan(kind, data=True, keep=True, settings=True) == list(steps)
        assert set(plan(kind, data=False)) == set(steps) - DATA - FILES - {"confirm"}
