"""What a job tells when it is over."""

from __future__ import annotations

from regrow import story
from regrow.api.types import Approval, Job, Step


def test_what_was_undone_is_told_once_of_the_data() -> None:
    steps = [Step(name=name, title=f"the {name}", status="undone") for name in ("snapshot", "candidate")]
    job = Job(
        id=7,
        service="tiny",
        kind="deploy",
        status="cancelled",
        title="deploy",
        language="en",
        asked_by="local",
        channel="",
        chat="",
        created_at=0,
        steps=steps,
        result={"data_back": True, "rows": "notes +1", "displaced": 3},
    )
    lines = story.result(job).text.splitlines()
    assert "- Undone: the candidate" in lines
    assert any("snapshot #3" in line for line in lines)


def repair(**more: object) -> Job:
    """A repair that has come as far as its question."""
    steps = [Step(name=name, title=name, status="done") for name in ("reproduce", "agent", "gate", "verify")]
    result = {
        "agent": "command",
        "summary": "counted them",
        "files": ["src/a.py", "tests/test_a.py"],
        "test_files": ["tests/test_a.py"],
        "added": 1,
        "removed": 1,
        "tests_added": 9,
        "tests_removed": 0,
        "reproduced_by": "test",
        "reproducing_tests": ["test_a"],
        "failing": "AssertionError: 1 != 2",
        "risks": [
            {"rule": "unneeded", "path": "src/a.py", "detail": "7"},
            {"rule": "no_names", "path": "", "detail": ""},
        ],
        "attempts": [
            {"number": 1, "state": "failed", "text": "", "lines": 9},
            {"number": 2, "state": "proved", "lines": 2},
        ],
        "attempt": 2,
        "attempts_planned": 3,
        "proving_tests": ["test_a"],
        "flaky_tests": ["test_luck"],
        "failed_before": 1,
        "reproduced": True,
        "tests": "passed",
        "version": "v",
        "branch": "regrow/job-7",
    }
    base = {"id": 7, "service": "tiny", "kind": "repair", "status": "doing", "title": "repair", "asked_by": "local",
            "channel": "", "chat": "", "created_at": 0, "steps": steps}  # fmt: skip
    reasons = ["src/a.py: a part of the change that the proof does not need: line 7"]
    approval = Approval(digest="d", summary="counted them", files=[], diff="+x", reasons=reasons)
    return Job.model_validate({**base, "approval": approval, **more, "result": {**result, **more.get("result", {})}})  # type: ignore[dict-item]


def test_the_story_of_a_proof() -> None:
    text = story.live(repair(), "command").text
    assert "Reproduced by a new test, test_a:\n```\nAssertionError: 1 != 2\n```" in text
    assert "2 of 3 attempts made, the smallest proved change wins: number 2 (2 lines)" in text
    assert "• src/a.py: a part of the change that the proof does not need: line 7" in text
    told = story.result(repair(status="done")).text
    assert "- files changed: src/a.py\n- tests changed: tests/test_a.py (+9 -0)" in told
    assert "test_a fails without the fix and passes with it" in told
    assert "test_luck" in told
    for language in ("en", "zh"):
        story.live(repair(language=language), "command")
        story.result(repair(language=language, status="done"))


def test_the_story_of_a_bug_that_nothing_reproduces() -> None:
    text = story.live(repair(result={"reproduced_by": "", "unreproduced": "broken"}), "command").text
    assert "Not reproduced: the test that was written cannot be loaded" in text
    assert "a person must approve" in text


def test_a_question_is_short_enough_for_a_phone() -> None:
    """No ids of blobs, and no colon before nothing; what begins like an id in the code itself stays."""
    diff = (
        "diff --git a/a b/a\nindex 0123456789..9876543210 100644\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-index 1\n+index 2\n"
    )
    question = Approval(digest="d", summary="", files=[], diff=diff, reasons=[])
    silent = {"reproduced_by": "command", "failing": ""}
    text = story.live(repair(approval=question, result=silent), "command").text
    assert "Reproduced with the command of the report\n" in text
    assert "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-index 1\n+index 2\n" in text
