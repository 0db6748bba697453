"""What a job tells when it is over."""

from __future__ import annotations

from regrow import story
from regrow.api.types import Job, Step


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
