from __future__ import annotations

from typing import Any

import pytest

from regrow.api.types import Error, Job, Step
from regrow.cli import views


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.cli.words.language", lambda: "en")


def job(*steps: Step, **fields: Any) -> Job:
    base = {"id": 7, "service": "claw", "kind": "deploy", "status": "doing", "title": "deploy main", "asked_by": "ann"}
    return Job(**(base | {"channel": "", "chat": "", "created_at": 0, "steps": list(steps)} | fields))


def test_one_line_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    view = views.PlainView()
    waiting = Step(name="build", title="Build", status="todo")
    doing = Step(name="build", title="Build", status="doing", started_at=5, estimate_s=(60, 90))
    for one in (
        job(waiting),
        job(doing),
        job(doing.model_copy(update={"progress": 0.5})),
        job(doing, status="waiting", waiting_for="job 6"),
        job(Step(name="build", title="Build", status="done", started_at=5, seconds=72, detail="38 MB")),
    ):
        view.show(one)
    view.end()
    assert capsys.readouterr().out.splitlines() == [
        "job 7: deploy main",
        "… Build (expected 60–90 s)",
        "waiting for job 6",
        "✓ Build 1 min 12 s — 38 MB",
    ]


def test_a_step_that_ran_twice_is_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    view = views.PlainView()
    for at in (1, 2, 2):
        view.show(job(Step(name="test", title="Test", status="failed", started_at=at)))
    assert capsys.readouterr().out.count("✗ Test") == 2


def test_the_story_has_the_cause_and_the_last_lines(capsys: pytest.CaptureFixture[str]) -> None:
    error = Error(kind="x", text="cannot build: exit code 1", log_tail="\n".join(str(one) for one in range(100)))
    views.story(job(status="failed", error=error))
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ["✗ failed", "cannot build: exit code 1", "the last lines of the log:"]
    assert (len(out), out[-1]) == (3 + views.TAIL_LINES, "  99")


@pytest.mark.parametrize(
    ("step", "progress"),
    [
        (Step(name="a", title="", status="done", progress=0.5), None),
        (Step(name="a", title="", status="doing"), None),
        (Step(name="a", title="", status="doing", progress=1.5), 1.0),
        (Step(name="a", title="", status="doing", started_at=70, estimate_s=(30, 60)), 0.5),
        (Step(name="a", title="", status="doing", started_at=0, estimate_s=(30, 60)), 0.99),
    ],
)
def test_how_far_a_step_is(step: Step, progress: float | None) -> None:
    assert views.step_progress(step, now=100.0) == progress


def test_the_table_shows_every_status() -> None:
    from rich.console import Console

    console = Console(width=80, file=None, record=True, force_terminal=False, quiet=False)
    steps = [Step(name=one, title=one, status=one, started_at=1) for one in views.MARKS]  # type: ignore[arg-type]
    with console.capture() as captured:
        console.print(views.job_table(job(*steps, status="waiting", waiting_for="approval")))
    for part in (*views.MARKS, "waiting for approval", "job 7"):
        assert part in captured.get()
