"""What people mean by a time."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from regrow.cli import audit
from regrow.errors import Refused


def test_so_long_ago_and_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert [audit.moment(text) for text in ("", "30s", "2m", "2h", "1d", "999999d")] == [
        0.0, 999_970.0, 999_880.0, 992_800.0, 913_600.0, 0.0,
    ]  # fmt: skip
    for text in ("2026-01-31", "2026-01-31T09:30", "2026-01-31 09:30:15"):
        assert audit.moment(text) == datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("text", ["yesterday", "2", "h", "2w", "-1h", "31.1.2026", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="cannot use --since") as caught:
        audit.moment(text)
    assert caught.value.kind == "usage"
