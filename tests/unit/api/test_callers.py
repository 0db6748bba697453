"""In which language people hear of what was asked for over the API."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from regrow.api.callers import HEADER, MCP, Callers
from regrow.config import McpSection


def request(program: bool) -> Request:
    headers = [(HEADER.encode(), MCP.encode())] if program else []
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("program", "said", "told"),
    [(True, "", "zh"), (True, "en", "en"), (False, "", "en"), (False, "zh", "zh")],
)
def test_a_programs_job_is_told_in_the_daemons_language(program: bool, said: str, told: str) -> None:
    callers = Callers({MCP: McpSection(role="operator", notify=("web:team",))}, ["web"], "zh")
    assert callers.asked(request(program), said).language == told
